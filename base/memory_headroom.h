// How much memory a cgroup has left.
#ifndef CAISSON_BASE_MEMORY_HEADROOM_H_
#define CAISSON_BASE_MEMORY_HEADROOM_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace caisson {

// Answers from three files of the cgroup that the sandbox is in, which somebody else opened for
// reading. The files are looked at again no later than their last answer may be wrong: when half of
// what was left has been asked for, or could have been used up by others. Thread-safe; the usual
// answer takes no lock and makes no host call.
class MemoryHeadroom {
 public:
  // memory.current, memory.max and memory.stat of cgroup v2, or memory.usage_in_bytes,
  // memory.limit_in_bytes and memory.stat of v1. One is invalid: memory is never short.
  struct Files {
    UniqueFd usage, limit, statistics;
  };
  explicit MemoryHeadroom(Files files);

  // There is a limit.
  bool limited() const { return limited_.load(std::memory_order_relaxed); }
  // Somebody may have changed the limit.
  void Renew() ABSL_LOCKS_EXCLUDED(mu_);

  // Whether taking `bytes` more may make the host reclaim or kill. Page cache that the host can
  // drop counts as free, swap does not.
  bool IsShort(uint64_t bytes) { return limited() && IsShortWithLimit(bytes); }

  // Bytes of files in memory when IsShort() was last true; 0 before.
  uint64_t shared_bytes() const { return shared_.load(std::memory_order_relaxed); }

  // Where "little" begins: charges are batched by CPU, and others take memory while we look.
  static constexpr uint64_t kSlack = uint64_t{8} << 20;

 private:
  bool IsShortWithLimit(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mu_);
  bool Look(uint64_t bytes, int64_t now) ABSL_LOCKS_EXCLUDED(mu_);
  std::optional<uint64_t> ReadLimitLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What can be dropped of the page cache; sets shared_.
  uint64_t ReadReclaimableLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Files files_;
  Mutex mu_;  // One reader of the files at a time. A leaf.
  // Relaxed, all: each is a hint, which no other memory depends on.
  std::atomic<bool> limited_{false};
  std::atomic<int64_t> budget_{0};        // Bytes that may be asked for
  std::atomic<int64_t> good_until_{0};    // before this time (CLOCK_MONOTONIC, ns), unread.
  std::atomic<int64_t> short_until_{0};   // Short for any number of bytes until then.
  std::atomic<uint64_t> shared_{0};
};

}  // namespace caisson

#endif  // CAISSON_BASE_MEMORY_HEADROOM_H_
