// The CPU time of the host threads that a guest task has had.
#ifndef CAISSON_PLATFORM_STUB_THREAD_CLOCK_H_
#define CAISSON_PLATFORM_STUB_THREAD_CLOCK_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "platform/stub/cpu_clock.h"
#include "platform/stub/proc_view.h"

namespace caisson::platform::stub {

// A host thread that nobody asked about has the time spent in Context::Switch(); one that somebody
// did, what the host says of it. Enter() and Leave() by the task's own thread, the rest by any.
class ThreadClock {
 public:
  // `proc` may be null. Both outlive this.
  ThreadClock(const CpuClock& clock, ProcView* proc) : clock_(clock), proc_(proc) {}

  // Around a Switch(), with time stamps.
  void Enter(uint64_t now) {
    entered_ = now;
    started_at_.store(now, std::memory_order_relaxed);
  }
  void Leave(uint64_t now) {
    started_at_.store(0, std::memory_order_relaxed);
    ticks_.store(ticks_.load(std::memory_order_relaxed) + now - entered_, std::memory_order_relaxed);
  }
  // A host thread comes, which may have run for others before; it goes, or has ended.
  void Begin(pid_t pid, pid_t tid) ABSL_LOCKS_EXCLUDED(mu_);
  void End() ABSL_LOCKS_EXCLUDED(mu_);
  // Of all of them, in ns. Never less than before.
  uint64_t Time() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  uint64_t Ticks() const;
  uint64_t OfPresent(bool open) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const CpuClock& clock_;
  ProcView* const proc_;
  uint64_t entered_ = 0;
  std::atomic<uint64_t> ticks_{0};       // Spent in Switch() so far,
  std::atomic<uint64_t> started_at_{0};  // and since when it has been in it; 0: it is not.
  Mutex mu_;                             // Innermost but for ProcView's.
  pid_t pid_ ABSL_GUARDED_BY(mu_) = 0, tid_ ABSL_GUARDED_BY(mu_) = 0;
  UniqueFd schedstat_ ABSL_GUARDED_BY(mu_);           // Of tid_, once asked for.
  uint64_t schedstat_base_ ABSL_GUARDED_BY(mu_) = 0;  // What it said before Begin(), about.
  uint64_t thread_ticks_ ABSL_GUARDED_BY(mu_) = 0;    // ticks_ at Begin().
  uint64_t ended_ns_ ABSL_GUARDED_BY(mu_) = 0;        // Of those that have gone.
  uint64_t reported_ns_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_THREAD_CLOCK_H_
