// Interval timers and POSIX timers of a thread group (setitimer(2), timer_create(2)), RLIMIT_CPU.
#ifndef CAISSON_SENTRY_KERNEL_PROCESS_TIMERS_H_
#define CAISSON_SENTRY_KERNEL_PROCESS_TIMERS_H_

#include <map>
#include <memory>

#include "base/mutex.h"
#include "base/result.h"
#include "sentry/signal/signal.h"
#include "time/clock.h"

namespace caisson::kernel {

class Task;
class ThreadGroup;

struct IntervalSpec {
  int64_t value_ns = 0;     // Until the next expiry; 0: disarmed.
  int64_t interval_ns = 0;
};

// Thread-safe. Its lock comes before the signal lock of the group: expiries send signals.
class ProcessTimers {
 public:
  explicit ProcessTimers(ThreadGroup& group);
  ~ProcessTimers();

  // ITIMER_REAL 0, ITIMER_VIRTUAL 1, ITIMER_PROF 2.
  IntervalSpec GetItimer(int which);
  IntervalSpec SetItimer(int which, const IntervalSpec& spec);

  // POSIX timers. `notify`: SIGEV_SIGNAL 0, SIGEV_NONE 1, SIGEV_THREAD_ID 4 (`target_tid`, global).
  struct Event {
    int notify = 0;
    int signo = 0;
    uint64_t value = 0;
    int32_t target_tid = 0;
  };
  // Errors: EAGAIN past the limit of pending signals, EINVAL.
  Result<int32_t> Create(int32_t clock_id, const Event& event);
  // `absolute`: spec.value_ns is on the timer's clock. Errors: EINVAL for no such timer.
  Result<int32_t> ClockOf(int32_t id);
  Result<IntervalSpec> SetTime(int32_t id, const IntervalSpec& spec, bool absolute);
  Result<IntervalSpec> GetTime(int32_t id);
  Result<int32_t> Overrun(int32_t id);
  Result<void> Delete(int32_t id);
  // exec and exit: POSIX timers are gone; interval timers stay over exec.
  void DeletePosixTimers();
  void Stop();
  // For a signal of a timer that is being delivered: its overrun count, and re-arming.
  int32_t OnDelivery(int32_t id);
  std::string Show();  // /proc/PID/timers.
  // RLIMIT_CPU was set or inherited: SIGXCPU each second past the soft limit, SIGKILL at the hard.
  void WatchCpuLimit();

 private:
  struct Itimer;
  struct PosixTimer;
  int64_t CpuClockNs(int which);
  void OnItimer(int which);
  void OnPosixTimer(int32_t id);
  ThreadGroup& group_;  // Owns this.
  Mutex mu_;
  void OnCpuLimit();
  std::unique_ptr<Itimer> cpu_limit_;   // Made when there is a limit; guarded by mu_.
  std::unique_ptr<Itimer> itimers_[3];  // Made when first armed; guarded by mu_.
  std::map<int32_t, std::unique_ptr<PosixTimer>> posix_ ABSL_GUARDED_BY(mu_);
  int32_t next_id_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_PROCESS_TIMERS_H_
