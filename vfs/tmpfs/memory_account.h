// What files in memory may take together.
#ifndef CAISSON_VFS_TMPFS_MEMORY_ACCOUNT_H_
#define CAISSON_VFS_TMPFS_MEMORY_ACCOUNT_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/memory_headroom.h"
#include "base/ref.h"

namespace caisson::vfs::tmpfs {

// One for a sandbox: every tmpfs, memfd, shared anonymous mapping and System V segment of it is
// charged here. The host charges the memory of these files to the container's memory limit in the
// name of the sentry, which allocates it; and its OOM killer can free none of it, whoever it ends.
// So what the sentry is asked to allocate ends with ENOSPC while there is room for the sentry
// itself, and a guest.
//
// Thread-safe. Counts are relaxed: each is a decision of its own.
class MemoryAccount : public RefCounted<MemoryAccount> {
 public:
  // `headroom` may be null: then what guests have put into files through mappings is known only as
  // far as the files have been charged for it.
  explicit MemoryAccount(std::shared_ptr<MemoryHeadroom> headroom = nullptr)
      : headroom_(std::move(headroom)) {}

  // `bytes` is what the guest sees as MemTotal; 0: no limit. Files that are above stay.
  void SetMemory(uint64_t bytes) {
    limit_.store(bytes == 0 ? kNoLimit : bytes - Reserve(bytes), std::memory_order_relaxed);
  }
  // What files leave of `memory`: an eighth, for the sentry (20 MiB when it is idle, and then what
  // names, tasks and descriptors take), the stubs' page tables and a guest that can still say what
  // happened. Not less than 32 MiB, unless that is more than half; not more than 256 MiB.
  static constexpr uint64_t Reserve(uint64_t memory) {
    uint64_t reserve = memory / 8;
    if (reserve < kLeastReserve) reserve = kLeastReserve;
    if (reserve > kMostReserve) reserve = kMostReserve;
    return reserve < memory / 2 ? reserve : memory / 2;
  }

  // False, and nothing is charged: past the limit. Overflow is past it too.
  bool Charge(uint64_t bytes);
  // What is there already.
  void ChargeAnyway(uint64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void Uncharge(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  // Whether the host has room for `bytes` that are charged already: guests may have filled files
  // through mappings meanwhile.
  bool HasRoom(uint64_t bytes) const;
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t available() const;  // Bytes; huge if there is no limit.

 private:
  static constexpr uint64_t kNoLimit = uint64_t{1} << 62;
  static constexpr uint64_t kLeastReserve = uint64_t{32} << 20, kMostReserve = uint64_t{256} << 20;

  const std::shared_ptr<MemoryHeadroom> headroom_;
  std::atomic<uint64_t> limit_{kNoLimit};
  std::atomic<uint64_t> used_{0};
};

}  // namespace caisson::vfs::tmpfs

#endif  // CAISSON_VFS_TMPFS_MEMORY_ACCOUNT_H_
