// Clocks of the sandbox, and timers on them.
#ifndef CAISSON_TIME_CLOCK_H_
#define CAISSON_TIME_CLOCK_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "base/mutex.h"

namespace caisson::time {

// Nanoseconds. The host's clocks, read through its vDSO.
int64_t MonotonicNow();
int64_t BoottimeNow();
int64_t RealtimeNow();
// Of any of the host's clocks: a CLOCK_* of clock_gettime(2).
int64_t Now(int clock);
inline constexpr int64_t kNever = INT64_MAX;

class TimerService;

// A callback at a deadline on CLOCK_MONOTONIC. The owner destroys or cancels it; after Cancel()
// returns, the callback neither runs nor will run (unless Cancel is called by the callback
// itself). Thread-safe.
class Timer {
 public:
  // `on_expiry` runs on the service's thread: it must not block, and may call Arm() of its timer.
  Timer(TimerService& service, std::function<void()> on_expiry);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  // Replaces any earlier deadline (ns, CLOCK_MONOTONIC); a past one fires at once.
  void Arm(int64_t deadline);
  void Cancel();

 private:
  friend class TimerService;
  TimerService& service_;
  std::function<void()> on_expiry_;
  int64_t deadline_ = kNever;   // Guarded by the service's lock, as the next.
  uint64_t sequence_ = 0;
};

// One thread that sleeps until the earliest deadline; without timers it never wakes. Also tells
// when CLOCK_REALTIME was set (timerfd's TFD_TIMER_CANCEL_ON_SET).
class TimerService {
 public:
  TimerService();
  ~TimerService();

 private:
  friend class Timer;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace caisson::time

#endif  // CAISSON_TIME_CLOCK_H_
