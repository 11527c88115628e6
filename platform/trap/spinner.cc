#include "platform/trap/spinner.h"

#include <unistd.h>

#include <algorithm>

#include "base/cpu_affinity.h"
#include "platform/stub/cpu_clock.h"

namespace caisson::platform::trap {

SpinGroup::SpinGroup(bool enabled) {
  CPU_ZERO(&all_);
  if (!enabled || sched_getaffinity(0, sizeof(all_), &all_) != 0) return;
  cpus_ = CPU_COUNT(&all_);
  MayHoldThreads();
}

// Guest threads that run, two CPUs for this pair, and the other halves of those that spin.
bool SpinGroup::RoomLocked(const Spinner* except) {
  int others = 0;
  const uint64_t now = stub::CpuClock::Now();
  for (size_t i = 0; i < pairs_.size();) {
    Spinner* pair = pairs_[i];
    const uint64_t seen = pair->seen_.load(std::memory_order_relaxed);
    if (pair != except && now > seen && now - seen > kHold) {
      // It waits for something else, or computes: not for us to keep its CPUs free.
      pair->evicted_.store(true, std::memory_order_relaxed);
      RemoveLocked(pair);
      continue;
    }
    others += pair != except;
    ++i;
  }
  return static_cast<int>(running()) + others + 2 <= cpus_;
}

void SpinGroup::RemoveLocked(Spinner* spinner) {
  auto it = std::find(pairs_.begin(), pairs_.end(), spinner);
  if (it == pairs_.end()) return;
  pairs_.erase(it);
  for (pid_t tid : {spinner->tid_, spinner->thread_->tid()})
    LetGoOfCpu(tid);
}

void Spinner::Enter(HostThread& thread, uint64_t now) {
  const int own = sched_getcpu();
  if (own < 0 || !CPU_ISSET(own, &group_.all_)) return;
  int other = own;
  do other = (other + 1) % CPU_SETSIZE;
  while (!CPU_ISSET(other, &group_.all_));
  MutexLock lock(group_.mu_);
  if (!group_.RoomLocked(nullptr)) {
    BackOff(now);
    return;
  }
  thread_ = &thread;
  tid_ = gettid();
  if (!HoldOnCpu(tid_, own) || !HoldOnCpu(thread.tid(), other)) {
    LetGoOfCpu(tid_);
    BackOff(now);
    return;
  }
  group_.pairs_.push_back(this);
  seen_.store(now, std::memory_order_relaxed);
  evicted_.store(false, std::memory_order_relaxed);
  active_ = true;
  credit_ = kStake;
  checked_ = now;
  thread.SetSpin(SpinGroup::kBudget, SpinGroup::kLost);
}

void Spinner::Check(HostThread& thread, uint64_t now) {
  const uint64_t last = seen_.load(std::memory_order_relaxed);
  seen_.store(now, std::memory_order_relaxed);
  const HostThread::SpinTally tally = thread.TakeSpinTally();
  credit_ += tally.quick * kSaved - tally.slow * kWasted - static_cast<int64_t>(tally.lost);
  credit_ = std::min(credit_, kMaxCredit);
  if (credit_ < 0 || evicted_.load(std::memory_order_relaxed) || now - last > SpinGroup::kHold) {
    if (credit_ < 0) BackOff(now);
    Leave();
    return;
  }
  if (now - checked_ < SpinGroup::kHold) return;
  // It has been worth it: what comes next is tried again soon.
  backoff_ = SpinGroup::kHold;
  checked_ = now;
  bool room;
  {
    MutexLock lock(group_.mu_);
    room = group_.RoomLocked(this);
  }
  if (!room) {
    BackOff(now);
    Leave();
  }
}

void Spinner::BackOff(uint64_t now) {
  not_before_ = now + backoff_;
  backoff_ = std::min(backoff_ * 2, kMaxBackoff);
}

void Spinner::Leave() {
  if (!active_) return;
  active_ = false;
  quick_ = 0;
  thread_->SetSpin(0, 0);
  MutexLock lock(group_.mu_);
  group_.RemoveLocked(this);
}

}  // namespace caisson::platform::trap
