// Resource limits of a thread group (getrlimit(2)).
#ifndef CAISSON_SENTRY_KERNEL_RLIMITS_H_
#define CAISSON_SENTRY_KERNEL_RLIMITS_H_

#include <array>
#include <cstdint>

#include "base/mutex.h"

namespace caisson::kernel {

inline constexpr uint64_t kRlimInfinity = ~uint64_t{0};
enum Resource : int {
  kRlimitCpu = 0, kRlimitFsize, kRlimitData, kRlimitStack, kRlimitCore, kRlimitRss, kRlimitNproc,
  kRlimitNofile, kRlimitMemlock, kRlimitAs, kRlimitLocks, kRlimitSigpending, kRlimitMsgqueue,
  kRlimitNice, kRlimitRtprio, kRlimitRttime, kRlimitCount,
};
struct Rlimit {
  uint64_t soft = kRlimInfinity;
  uint64_t hard = kRlimInfinity;
};

// Thread-safe.
class Rlimits {
 public:
  Rlimits();  // Linux's defaults for init (INIT_RLIMITS), as a container sees them.
  Rlimits(const Rlimits& o) : limits_(o.Snapshot()) {}
  Rlimit Get(int resource) const {
    MutexLock lock(mu_);
    return limits_[resource];
  }
  uint64_t soft(int resource) const { return Get(resource).soft; }
  void Set(int resource, Rlimit value) {
    MutexLock lock(mu_);
    limits_[resource] = value;
  }
  std::array<Rlimit, kRlimitCount> Snapshot() const {
    MutexLock lock(mu_);
    return limits_;
  }

 private:
  mutable Mutex mu_;
  std::array<Rlimit, kRlimitCount> limits_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_RLIMITS_H_
