#include "platform/ptrace/placement.h"

#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <utility>

#include "base/cpu_affinity.h"

namespace caisson::platform::ptrace {

Placement::Placement() : enabled_(MayHoldThreads()) {}

Placement::~Placement() {
  std::thread watchdog;
  {
    MutexLock lock(mu_);
    stop_ = true;
    changed_.Signal();
    watchdog = std::move(watchdog_);
  }
  if (watchdog.joinable()) watchdog.join();
}

void Placement::Release(pid_t tid) const {
  if (enabled_) LetGoOfCpu(tid);
}

bool Placement::IsHeld() const {
  return CountCpus() == 1;
}

void Placement::Start(Pair& pair, uint64_t now) {
  if (!enabled_) return;
  pair.quick = 0;
  pair.last = now;
  if (IsHeld()) {
    // It is where its creator was; the scheduler has not had its say yet.
    for (pid_t tid : {pid_t{0}, pair.tracee, pair.worker}) Release(tid);
  } else {
    Pin(pair, now, /*young=*/true);
  }
}

void Placement::Pin(Pair& pair, uint64_t now, bool young) {
  const int cpu = sched_getcpu();
  MutexLock lock(mu_);
  if (!HoldOnCpu(0, cpu)) return;
  HoldOnCpu(pair.tracee, cpu);
  HoldOnCpu(pair.worker, cpu);
  pair.pinned_at = now;
  pair.young = young;
  pair.seen.store(now, std::memory_order_relaxed);
  pair.pinned.store(true, std::memory_order_relaxed);
  pinned_.push_back(&pair);
  if (pinned_.size() > 1) return;
  if (watchdog_.joinable()) {
    changed_.Signal();
  } else {
    watchdog_ = std::thread([this] {
      Release(0);
      Watch();
    });
  }
}

void Placement::Renew(Pair& pair) {
  Unpin(pair);
  pair.quick = kQuickSwitches - kQuickSwitchesAgain;
}

void Placement::Unpin(Pair& pair, bool ends) {
  if (!pair.pinned.load(std::memory_order_relaxed)) return;
  MutexLock lock(mu_);
  if (!pair.pinned.load(std::memory_order_relaxed)) return;
  UnpinLocked(pair, ends);
  pinned_.erase(std::find(pinned_.begin(), pinned_.end(), &pair));
}

void Placement::UnpinLocked(Pair& pair, bool ends) {
  Release(pair.tracer);
  if (!ends) {
    for (pid_t tid : {pair.tracee, pair.worker}) Release(tid);
  }
  pair.pinned.store(false, std::memory_order_relaxed);
}

void Placement::Watch() {
  MutexLock lock(mu_);
  while (!stop_) {
    if (pinned_.empty()) {
      changed_.Wait(mu_);
      continue;
    }
    mu_.Unlock();
    const timespec tick{0, kTickNs};
    nanosleep(&tick, nullptr);
    mu_.Lock();
    const uint64_t now = __rdtsc();
    std::vector<Pair*> still;
    for (Pair* pair : pinned_) {
      const uint64_t seen = pair->seen.load(std::memory_order_relaxed);
      if (now < seen || now - seen < (pair->young ? kYoungPatience : kHold)) {
        still.push_back(pair);
      } else {
        UnpinLocked(*pair);
      }
    }
    pinned_ = std::move(still);
  }
}

}  // namespace caisson::platform::ptrace
