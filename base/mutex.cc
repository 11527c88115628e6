#include "base/mutex.h"

#include <cerrno>

namespace caisson {

CondVar::CondVar() {
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&cv_, &attr);
  pthread_condattr_destroy(&attr);
}

bool CondVar::WaitUntil(Mutex& mu, int64_t deadline_ns) {
  timespec ts{.tv_sec = deadline_ns / 1'000'000'000, .tv_nsec = deadline_ns % 1'000'000'000};
  return pthread_cond_timedwait(&cv_, &mu.mu_, &ts) != ETIMEDOUT;
}

}  // namespace caisson
