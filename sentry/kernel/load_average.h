// The load averages of /proc/loadavg and sysinfo(2).
#ifndef CAISSON_SENTRY_KERNEL_LOAD_AVERAGE_H_
#define CAISSON_SENTRY_KERNEL_LOAD_AVERAGE_H_

#include <array>
#include <cstdint>

#include "base/mutex.h"

namespace caisson::kernel {

// Over 1, 5 and 15 minutes. No timer: each call adds the mean number of busy CPUs since the call
// before, weighted by the time that has passed. Thread-safe.
class LoadAverage {
 public:
  // `now` (CLOCK_MONOTONIC) and `cpu_ns`, the CPU time of all tasks ever, in ns.
  std::array<double, 3> Update(int64_t now, uint64_t cpu_ns);

 private:
  Mutex mu_;
  std::array<double, 3> load_ ABSL_GUARDED_BY(mu_) = {};
  int64_t time_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t cpu_ns_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_LOAD_AVERAGE_H_
