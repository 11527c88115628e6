// Address spaces that end after their process.
#ifndef CAISSON_SENTRY_KERNEL_LATE_ENDS_H_
#define CAISSON_SENTRY_KERNEL_LATE_ENDS_H_

#include <cstdint>
#include <vector>

#include "base/mutex.h"

namespace caisson::kernel {

// The host takes some tenths of a millisecond to end a process. Where its guest thread cannot run any more, the
// parent is told before that (Task::ExitTask()). What it must not see, that the memory's usage is not known yet, or
// that the host still counts the process, is waited for here.
//
// Thread-safe.
class LateEnds {
 public:
  using Ticket = uint64_t;
  Ticket Begin() ABSL_LOCKS_EXCLUDED(mu_);
  void Finish(Ticket ticket) ABSL_LOCKS_EXCLUDED(mu_);
  // Until all that have begun have finished. False if there were none.
  bool Wait() ABSL_LOCKS_EXCLUDED(mu_);
  // `f()`, and again if it fails where the host may still count processes that have ended here.
  template <typename F>
  auto Retry(F f) {
    auto result = f();
    if (!result.ok() && Wait()) result = f();
    return result;
  }

 private:
  Mutex mu_;  // Innermost.
  CondVar finished_;
  Ticket next_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<Ticket> open_ ABSL_GUARDED_BY(mu_);  // Rising.
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_LATE_ENDS_H_
