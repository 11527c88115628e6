// Time stamps of the CPU as time.
#ifndef CAISSON_PLATFORM_STUB_CPU_CLOCK_H_
#define CAISSON_PLATFORM_STUB_CPU_CLOCK_H_

#include <cstdint>

namespace caisson::platform::stub {

// Thread-safe.
class CpuClock {
 public:
  CpuClock();
  static uint64_t Now();
  // Nanoseconds that `ticks` are, as observed since this clock was made.
  uint64_t ToNs(uint64_t ticks) const;

 private:
  const uint64_t tsc_start_;
  const uint64_t ns_start_;
};

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_CPU_CLOCK_H_
