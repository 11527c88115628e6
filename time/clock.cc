#include "time/clock.h"

#include <pthread.h>
#include <time.h>

#include <set>
#include <thread>
#include <utility>

#include "base/check.h"

namespace caisson::time {
namespace {

int64_t Read(clockid_t id) {
  timespec ts;
  clock_gettime(id, &ts);
  return int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}

}  // namespace

int64_t MonotonicNow() { return Read(CLOCK_MONOTONIC); }
int64_t BoottimeNow() { return Read(CLOCK_BOOTTIME); }
int64_t RealtimeNow() { return Read(CLOCK_REALTIME); }
int64_t Now(int clock) { return Read(clock); }

struct TimerService::Impl {
  Mutex mu;
  CondVar changed;   // The earliest deadline moved, or stopping.
  CondVar finished;  // A callback returned.
  // Ordered by deadline, then by arming order.
  std::set<std::pair<std::pair<int64_t, uint64_t>, Timer*>> armed ABSL_GUARDED_BY(mu);
  uint64_t next_sequence ABSL_GUARDED_BY(mu) = 0;
  Timer* running ABSL_GUARDED_BY(mu) = nullptr;
  bool stopping ABSL_GUARDED_BY(mu) = false;
  bool started ABSL_GUARDED_BY(mu) = false;
  std::thread thread;

  void StartLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    if (started) return;
    started = true;
    thread = std::thread([this] { Run(); });
  }
  void Run() {
    mu.Lock();
    while (!stopping) {
      if (armed.empty()) {
        changed.Wait(mu);
        continue;
      }
      auto first = armed.begin();
      if (first->first.first > MonotonicNow()) {
        changed.WaitUntil(mu, first->first.first);
        continue;
      }
      Timer* timer = first->second;
      armed.erase(first);
      timer->deadline_ = kNever;
      running = timer;
      mu.Unlock();
      timer->on_expiry_();
      mu.Lock();
      running = nullptr;
      finished.Broadcast();
    }
    mu.Unlock();
  }
};

TimerService::TimerService() : impl_(std::make_unique<Impl>()) {}

TimerService::~TimerService() {
  {
    MutexLock lock(impl_->mu);
    CHECK(impl_->armed.empty());
    impl_->stopping = true;
    impl_->changed.Signal();
  }
  if (impl_->thread.joinable()) impl_->thread.join();
}

Timer::Timer(TimerService& service, std::function<void()> on_expiry)
    : service_(service), on_expiry_(std::move(on_expiry)) {}

Timer::~Timer() { Cancel(); }

void Timer::Arm(int64_t deadline) {
  TimerService::Impl& s = *service_.impl_;
  MutexLock lock(s.mu);
  if (deadline_ != kNever) s.armed.erase({{deadline_, sequence_}, this});
  deadline_ = deadline;
  if (deadline == kNever) return;
  sequence_ = s.next_sequence++;
  bool first = s.armed.empty() || deadline < s.armed.begin()->first.first;
  s.armed.insert({{deadline_, sequence_}, this});
  s.StartLocked();
  if (first) s.changed.Signal();
}

void Timer::Cancel() {
  TimerService::Impl& s = *service_.impl_;
  MutexLock lock(s.mu);
  if (deadline_ != kNever) {
    s.armed.erase({{deadline_, sequence_}, this});
    deadline_ = kNever;
  }
  while (s.running == this && s.thread.get_id() != std::this_thread::get_id()) s.finished.Wait(s.mu);
}

}  // namespace caisson::time
