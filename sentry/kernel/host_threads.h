// The host threads that tasks run on.
#ifndef CAISSON_SENTRY_KERNEL_HOST_THREADS_H_
#define CAISSON_SENTRY_KERNEL_HOST_THREADS_H_

#include <vector>

#include "base/mutex.h"
#include "base/result.h"

namespace caisson::kernel {

// Runs work on threads, and keeps a few that have finished for what comes next: making a host
// thread and ending it is ten host calls and a fresh stack. A thread that is kept sleeps in a
// futex and never wakes up by itself.
//
// Thread-safe. Work starts with all signals blocked but SIGPROF.
class HostThreads {
 public:
  HostThreads() = default;
  ~HostThreads();  // Waits until no thread is left: all work must be about to end.

  // Runs `work(argument)` on a thread. Errors: EAGAIN.
  Result<void> Run(void (*work)(void*), void* argument) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Thread {
    void (*work)(void*) = nullptr;  // Null: nothing yet.
    void* argument = nullptr;
    bool end = false;
    CondVar changed;
  };
  struct FirstJob {
    HostThreads* owner;
    void (*work)(void*);
    void* argument;
  };
  static void* Main(void* first_job);
  Result<void> Make(void (*work)(void*), void* argument);
  // Sleeps until there is more work. False: the thread is to end, and must not touch this object again.
  bool Park(Thread& self) ABSL_LOCKS_EXCLUDED(mu_);

  Mutex mu_;  // Innermost.
  CondVar none_left_;
  std::vector<Thread*> parked_ ABSL_GUARDED_BY(mu_);
  int threads_ ABSL_GUARDED_BY(mu_) = 0;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_HOST_THREADS_H_
