#include "sentry/kernel/host_threads.h"

#include <pthread.h>
#include <signal.h>

#include <memory>

namespace caisson::kernel {
namespace {

constexpr size_t kHostStackSize = 256 << 10;
// Each keeps the pages of its stack that it has used, some 16 KiB.
constexpr size_t kMaxParked = 4;

}  // namespace

HostThreads::~HostThreads() {
  MutexLock lock(mu_);
  ending_ = true;
  for (Thread* thread : parked_) {
    thread->end = true;
    thread->changed.Signal();
  }
  parked_.clear();
  while (threads_ != 0) none_left_.Wait(mu_);
}

Result<void> HostThreads::Run(void (*work)(void*), void* argument) {
  {
    MutexLock lock(mu_);
    if (!parked_.empty()) {
      Thread& thread = *parked_.back();  // The one whose stack is still in the cache.
      parked_.pop_back();
      thread.argument = argument;
      thread.work = work;
      thread.changed.Signal();
      return {};
    }
    ++threads_;
  }
  Result<void> made = Make(work, argument);
  if (!made.ok()) {
    MutexLock lock(mu_);
    if (--threads_ == 0) none_left_.Broadcast();
  }
  return made;
}

Result<void> HostThreads::Make(void (*work)(void*), void* argument) {
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, kHostStackSize);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  // Signals of the sentry process are the main thread's: none but the profiler's reaches a task's.
  sigset_t all, old;
  sigfillset(&all);
  sigdelset(&all, SIGPROF);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  auto job = std::make_unique<FirstJob>(FirstJob{this, work, argument});
  pthread_t thread;
  const int error = pthread_create(&thread, &attr, &HostThreads::Main, job.get());
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attr);
  if (error != 0) return Errno::kEAGAIN;
  static_cast<void>(job.release());
  return {};
}

void* HostThreads::Main(void* first_job) {
  HostThreads* owner;
  Thread self;
  {
    std::unique_ptr<FirstJob> job(static_cast<FirstJob*>(first_job));
    owner = job->owner;
    self.work = job->work;
    self.argument = job->argument;
  }
  do {
    self.work(self.argument);
  } while (owner->Park(self));
  return nullptr;
}

bool HostThreads::Park(Thread& self) {
  MutexLock lock(mu_);
  self.work = nullptr;
  if (!ending_ && parked_.size() < kMaxParked) {
    parked_.push_back(&self);
    while (self.work == nullptr && !self.end) self.changed.Wait(mu_);
    if (self.work != nullptr) return true;
  }
  if (--threads_ == 0) none_left_.Broadcast();
  return false;
}

}  // namespace caisson::kernel
