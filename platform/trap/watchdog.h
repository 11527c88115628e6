// Kills the stub of a guest thread that does not let itself be interrupted.
#ifndef CAISSON_PLATFORM_TRAP_WATCHDOG_H_
#define CAISSON_PLATFORM_TRAP_WATCHDOG_H_

#include <sys/types.h>

#include <map>
#include <thread>

#include "base/mutex.h"

namespace caisson::platform::trap {

// A guest can block its signals by a forged sigreturn, or loop in the blob. Nobody would be able to
// end such a task, since its thread in the sentry waits for it. So who interrupts a task registers it
// here until it has stopped. The thread of this exists from the first registration on, and sleeps
// while there is none. Thread-safe.
class Watchdog {
 public:
  Watchdog();
  ~Watchdog();

  // From now on `task` (any address, as a name) of stub `pid` has a limited time. The caller
  // guarantees that the stub is not reaped before Remove().
  void Add(const void* task, pid_t pid) ABSL_LOCKS_EXCLUDED(mu_);
  void Remove(const void* task) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // Counted in rounds that this thread has run, so that time in which the whole sandbox, or the
  // machine, did not run does not count.
  static constexpr int64_t kRoundNs = 250'000'000;
  static constexpr int kRounds = 120;

  struct Entry {
    pid_t pid;
    int rounds;
  };
  void Watch() ABSL_LOCKS_EXCLUDED(mu_);

  Mutex mu_;  // Innermost.
  CondVar changed_;
  std::map<const void*, Entry> entries_ ABSL_GUARDED_BY(mu_);
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_WATCHDOG_H_
