#include "sentry/kernel/load_average.h"

#include <cmath>

namespace caisson::kernel {

std::array<double, 3> LoadAverage::Update(int64_t now, uint64_t cpu_ns) {
  constexpr int64_t kShortest = 100'000'000;  // Less would tell of the reader only.
  constexpr double kPeriods[] = {60e9, 300e9, 900e9};
  MutexLock lock(mu_);
  if (time_ == 0) {  // The first call: nothing is known of before.
    time_ = now;
    cpu_ns_ = cpu_ns;
    return load_;
  }
  const int64_t elapsed = now - time_;
  if (elapsed < kShortest) return load_;
  const double busy =
      cpu_ns > cpu_ns_ ? static_cast<double>(cpu_ns - cpu_ns_) / static_cast<double>(elapsed) : 0;
  for (size_t i = 0; i < load_.size(); ++i) {
    const double keep = std::exp(-static_cast<double>(elapsed) / kPeriods[i]);
    load_[i] = load_[i] * keep + busy * (1 - keep);
  }
  time_ = now;
  cpu_ns_ = cpu_ns;
  return load_;
}

}  // namespace caisson::kernel
