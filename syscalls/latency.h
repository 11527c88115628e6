// How long calls take, by number: histograms that are kept while somebody wants them.
#ifndef CAISSON_SYSCALLS_LATENCY_H_
#define CAISSON_SYSCALLS_LATENCY_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

namespace caisson::syscalls {

// Bucket i counts durations below 2^i nanoseconds and not below 2^(i-1); the last one has the rest
// (2^38 ns are 4.6 minutes).
inline constexpr int kLatencyBuckets = 40;

// Of one call. Thread-safe; a reader may see a call in `count` and not yet in `sum`.
class LatencyHistogram {
 public:
  void Record(uint64_t ns) {
    const int bucket = std::min<int>(std::bit_width(ns), kLatencyBuckets - 1);
    buckets_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(ns, std::memory_order_relaxed);
  }
  uint64_t bucket(int i) const {
    return buckets_[static_cast<size_t>(i)].load(std::memory_order_relaxed);
  }
  uint64_t sum_ns() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, kLatencyBuckets> buckets_{};  // Relaxed: statistics.
  std::atomic<uint64_t> sum_{0};
};

}  // namespace caisson::syscalls

#endif  // CAISSON_SYSCALLS_LATENCY_H_
