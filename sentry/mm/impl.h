// The state of a MemoryManager, for the sources of this folder.
#ifndef CAISSON_SENTRY_MM_IMPL_H_
#define CAISSON_SENTRY_MM_IMPL_H_

#include <atomic>
#include <vector>

#include "base/mutex.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/vma_tree.h"

namespace caisson::mm {

inline constexpr size_t kMaxMapCount = 65530;  // vm.max_map_count.

// Bytes of `range` that VMAs cover.
uint64_t CoveredBytes(const VmaTree& tree, AddrRange range);
// Whether a mapping counts against RLIMIT_DATA (Linux is_data_mapping()).
bool IsData(uint32_t protection, uint32_t flags);

// Methods whose name ends in Locked need mu and change host and tree together: the host first.
class MemoryManager::Impl {
 public:
  Impl(platform::Platform& platform_in, platform::AddressSpace& space_in,
       SharedMemoryFactory* shared_memory_in);
  ~Impl();

  Result<void> ApplyOne(const platform::MapOp& op) { return space.Apply({&op, 1}); }

  // may_expand_vm(): room for `bytes` more. ENOMEM.
  Result<void> CheckExpandLocked(const Limits& limits, uint64_t bytes, bool data) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // mlock_future_check(): EAGAIN.
  Result<void> CheckLockLocked(const Limits& limits, uint64_t bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Where a mapping of `length` bytes goes (get_unmapped_area()). ENOMEM, EINVAL, EPERM.
  Result<uint64_t> PlaceLocked(uint64_t hint, uint64_t length, uint32_t map_flags,
                               uint64_t align) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Result<uint64_t> PlaceFixed(uint64_t address, uint64_t length) const;
  // Whether anything there writes to a file or shared memory.
  bool WritesThroughLocked(AddrRange range) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Unmaps on the host and in the tree. Errors: ENOMEM past the map count; the host's.
  Result<void> UnmapLocked(AddrRange range, VmaTree::Garbage* garbage)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Maps `vma`, in place of what is there. `populate`: failures of it are ignored.
  Result<void> MapLocked(Vma vma, bool populate, VmaTree::Garbage* garbage)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Moves host pages, in pieces where the host has more VMAs than we. The target is free. On
  // failure everything is back at the source, or unmapped if that failed too.
  Result<void> MoveLocked(uint64_t from, uint64_t old_length, uint64_t to, uint64_t new_length,
                          bool dont_unmap) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Grows a stack down to `address` if one is above it and may. Returns whether it did.
  bool GrowStackLocked(uint64_t address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // Whether [address, address + length) is memory a guest may name.
  bool IsGuestRange(GuestAddr address, uint64_t length) const;
  // After a copy that stopped at `address`: whether a repair makes another try worthwhile.
  bool Repair(GuestAddr address) ABSL_LOCKS_EXCLUDED(mu);
  // Before a copy to the guest: where memory is short, has the guest's own process make the pages
  // that are missing. False if it is gone.
  bool MakePages(GuestAddr to, size_t length) ABSL_LOCKS_EXCLUDED(mu);

  platform::Platform& platform;
  platform::AddressSpace& space;
  SharedMemoryFactory* const shared_memory;
  MemoryHeadroom* const headroom;  // Its; may be null.
  const AddrRange guest_range;
  std::atomic<uint64_t> stack_limit{8 << 20};  // Relaxed: a limit, checked at each growth.
  std::atomic<int> dumpable{1};                // Relaxed: a flag of its own.
  RefPtr<const auth::UserNamespace> user_ns;   // Does not change once others see the mm.

  // Held across changes of the tree together with the platform's work on them, and across fork.
  // Files and inodes are not called under it (Map() and Sync() may block on a gofer).
  mutable Mutex mu;
  VmaTree tree ABSL_GUARDED_BY(mu);
  uint64_t mmap_base ABSL_GUARDED_BY(mu) = 0;
  uint64_t start_brk ABSL_GUARDED_BY(mu) = 0;
  uint64_t brk ABSL_GUARDED_BY(mu) = 0;
  uint32_t default_flags ABSL_GUARDED_BY(mu) = 0;  // mlockall(MCL_FUTURE): kVmaLocked and so on.
  Layout layout ABSL_GUARDED_BY(mu);
  RefPtr<vfs::FileDescription> executable ABSL_GUARDED_BY(mu);
  bool must_clear ABSL_GUARDED_BY(mu) = false;  // What Replace() took over is still mapped.
  bool executable_denies ABSL_GUARDED_BY(mu) = false;  // We hold a DenyWrites() of its inode.

  // The last fault that VMAs allow although the host refused it.
  struct {
    uint64_t address = 0;
    uint64_t generation = 0;
    int count = 0;
  } spurious ABSL_GUARDED_BY(mu);
};

}  // namespace caisson::mm

#endif  // CAISSON_SENTRY_MM_IMPL_H_
