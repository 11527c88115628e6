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
  class Thread;

  HostThreads() = default;
  ~HostThreads();  // Waits until no thread is left: all work must be about to end.

  // A thread that sleeps until Start() or Release(), one of which must follow. Errors: EAGAIN.
  Result<Thread*> Reserve() ABSL_LOCKS_EXCLUDED(mu_);
  // Runs `work(argument)` on it.
  void Start(Thread* thread, void (*work)(void*), void* argument);
  void Release(Thread* thread) ABSL_LOCKS_EXCLUDED(mu_);
  // Reserve() and Start().
  Result<void> Run(void (*work)(void*), void* argument) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  static void* Main(void* thread);
  // Whether there is room for another one that does nothing; `thread` is that then.
  bool KeepLocked(Thread* thread) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // False: the caller is to end, and must not touch this object again.
  bool Park(Thread& self) ABSL_LOCKS_EXCLUDED(mu_);
  void Ended() ABSL_LOCKS_EXCLUDED(mu_);

  Mutex mu_;  // Innermost.
  CondVar none_left_;
  std::vector<Thread*> parked_ ABSL_GUARDED_BY(mu_);
  int threads_ ABSL_GUARDED_BY(mu_) = 0;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_HOST_THREADS_H_
