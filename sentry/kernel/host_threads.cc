#include "sentry/kernel/host_threads.h"

#include <pthread.h>
#include <signal.h>

#include <memory>

#include "base/cpu_affinity.h"
#include "base/parker.h"

namespace caisson::kernel {
namespace {

constexpr size_t kHostStackSize = 256 << 10;
// Each keeps the pages of its stack that it has used, some 16 KiB.
constexpr size_t kMaxParked = 4;

}  // namespace

// Belongs to its own thread, to whoever has reserved it, or is in parked_. Changed by the others only
// before they unpark it.
class HostThreads::Thread {
 public:
  HostThreads* owner;
  Parker parker;
  void (*work)(void*) = nullptr;  // Null: it is to end.
  void* argument = nullptr;
};

HostThreads::~HostThreads() {
  MutexLock lock(mu_);
  ending_ = true;
  for (Thread* thread : parked_) thread->parker.Unpark();
  parked_.clear();
  while (threads_ != 0) none_left_.Wait(mu_);
}

Result<HostThreads::Thread*> HostThreads::Reserve() {
  {
    MutexLock lock(mu_);
    if (!parked_.empty()) {
      Thread* thread = parked_.back();  // The one whose stack is still in the cache.
      parked_.pop_back();
      return thread;
    }
    ++threads_;
  }
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, kHostStackSize);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  // Signals of the sentry process are the main thread's: none but the profiler's reaches a task's, and what its own
  // copies bring about (base/safe_copy.h).
  sigset_t all, old;
  sigfillset(&all);
  sigdelset(&all, SIGPROF);
  sigdelset(&all, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  auto made = std::make_unique<Thread>();
  made->owner = this;
  pthread_t id;
  const int error = pthread_create(&id, &attr, &HostThreads::Main, made.get());
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attr);
  if (error != 0) {
    Ended();
    return Errno::kEAGAIN;
  }
  return made.release();
}

void HostThreads::Start(Thread* thread, void (*work)(void*), void* argument) {
  thread->argument = argument;
  thread->work = work;
  // Once marked it may end; Ring() only names an address.
  Parker::Ring(thread->parker.Mark());
}

bool HostThreads::KeepLocked(Thread* thread) {
  thread->work = nullptr;
  if (ending_ || parked_.size() >= kMaxParked) return false;
  parked_.push_back(thread);
  return true;
}

void HostThreads::Release(Thread* thread) {
  {
    MutexLock lock(mu_);
    if (KeepLocked(thread)) return;
  }
  Start(thread, nullptr, nullptr);
}

Result<void> HostThreads::Run(void (*work)(void*), void* argument) {
  Thread* thread = TRY(Reserve());
  Start(thread, work, argument);
  return {};
}

void* HostThreads::Main(void* thread) {
  HostThreads* owner;
  {
    const std::unique_ptr<Thread> self(static_cast<Thread*>(thread));
    owner = self->owner;
    do {
      static_cast<void>(self->parker.Park(Parker::kNever, [] { return false; }));
      if (self->work == nullptr) break;
      LetGoIfHeld();
      self->work(self->argument);
    } while (owner->Park(*self));
  }
  owner->Ended();
  return nullptr;
}

bool HostThreads::Park(Thread& self) {
  MutexLock lock(mu_);
  return KeepLocked(&self);
}

void HostThreads::Ended() {
  MutexLock lock(mu_);
  if (--threads_ == 0) none_left_.Broadcast();
}

}  // namespace caisson::kernel
