#include "platform/stub/cpu_clock.h"

#include <time.h>
#include <x86intrin.h>

namespace caisson::platform::stub {
namespace {

uint64_t MonotonicNs() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1000000000 + static_cast<uint64_t>(ts.tv_nsec);
}

}  // namespace

CpuClock::CpuClock() : tsc_start_(Now()), ns_start_(MonotonicNs()) {}

uint64_t CpuClock::Now() { return __rdtsc(); }

uint64_t CpuClock::ToNs(uint64_t ticks) const {
  const uint64_t tsc = Now() - tsc_start_;
  const uint64_t ns = MonotonicNs() - ns_start_;
  if (tsc == 0) return 0;
  return static_cast<uint64_t>(static_cast<unsigned __int128>(ticks) * ns / tsc);
}

}  // namespace caisson::platform::stub
