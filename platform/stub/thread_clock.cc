#include "platform/stub/thread_clock.h"

#include <algorithm>
#include <utility>

namespace caisson::platform::stub {

uint64_t ThreadClock::Ticks() const {
  uint64_t ticks = ticks_.load(std::memory_order_relaxed);
  const uint64_t started = started_at_.load(std::memory_order_relaxed);
  const uint64_t now = CpuClock::Now();
  if (started != 0 && now > started) ticks += now - started;
  return ticks;
}

// `open`: ask the host, if that has not been done yet.
uint64_t ThreadClock::OfPresent(bool open) {
  if (tid_ == 0) return 0;
  const uint64_t in_switch = clock_.ToNs(Ticks() - thread_ticks_);
  if (open && !schedstat_ && proc_ != nullptr) {
    Result<UniqueFd> fd = proc_->Open(ProcView::File::kSchedstat, pid_, tid_);
    if (fd.ok()) {
      // The thread may have run for others before. Until now it has run at most so long for us.
      schedstat_ = std::move(fd).value();
      const uint64_t all = ProcView::ReadThreadTime(schedstat_.get());
      schedstat_base_ = all - std::min(all, in_switch);
    }
  }
  if (!schedstat_) return in_switch;
  const uint64_t all = ProcView::ReadThreadTime(schedstat_.get());
  return all - std::min(all, schedstat_base_);
}

void ThreadClock::Begin(pid_t pid, pid_t tid) {
  MutexLock lock(mu_);
  pid_ = pid;
  tid_ = tid;
  thread_ticks_ = Ticks();
}

void ThreadClock::End() {
  MutexLock lock(mu_);
  ended_ns_ += OfPresent(/*open=*/false);
  schedstat_.reset();
  tid_ = 0;
}

uint64_t ThreadClock::Time() {
  MutexLock lock(mu_);
  reported_ns_ = std::max(reported_ns_, ended_ns_ + OfPresent(/*open=*/true));
  return reported_ns_;
}

}  // namespace caisson::platform::stub
