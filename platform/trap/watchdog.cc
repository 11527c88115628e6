#include "platform/trap/watchdog.h"

#include <signal.h>
#include <time.h>

#include "base/log.h"

namespace caisson::platform::trap {

Watchdog::Watchdog() = default;

Watchdog::~Watchdog() {
  std::thread thread;
  {
    MutexLock lock(mu_);
    stop_ = true;
    changed_.Signal();
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
}

void Watchdog::Add(const void* task, pid_t pid) {
  MutexLock lock(mu_);
  const bool was_empty = entries_.empty();
  if (!entries_.emplace(task, Entry{pid, kRounds}).second) return;
  if (!thread_.joinable()) thread_ = std::thread([this] { Watch(); });
  if (was_empty) changed_.Signal();
}

void Watchdog::Remove(const void* task) {
  MutexLock lock(mu_);
  entries_.erase(task);
}

void Watchdog::Watch() {
  MutexLock lock(mu_);
  while (!stop_) {
    if (entries_.empty()) {
      changed_.Wait(mu_);
      continue;
    }
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    changed_.WaitUntil(mu_, now.tv_sec * 1'000'000'000 + now.tv_nsec + kRoundNs);
    for (auto& [task, entry] : entries_) {
      if (--entry.rounds != 0) continue;
      LOG_WARNING("stub ", entry.pid, ": a thread does not react to a signal");
      kill(entry.pid, SIGKILL);
    }
  }
}

}  // namespace caisson::platform::trap
