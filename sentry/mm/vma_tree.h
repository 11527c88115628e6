// VMAs and the tree of them: what each range of an address space means.
#ifndef CAISSON_SENTRY_MM_VMA_TREE_H_
#define CAISSON_SENTRY_MM_VMA_TREE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/guest_addr.h"
#include "base/ref.h"
#include "platform/platform.h"
#include "sentry/mm/gap_index.h"
#include "sentry/mm/memory_manager.h"
#include "vfs/file_description.h"

namespace caisson::mm {

inline constexpr uint32_t kVmaShared = 1 << 0;    // VM_MAYSHARE.
inline constexpr uint32_t kVmaMayWrite = 1 << 1;  // Else mprotect(PROT_WRITE) is EACCES.
inline constexpr uint32_t kVmaMayExec = 1 << 2;
inline constexpr uint32_t kVmaGrowsDown = 1 << 3;
inline constexpr uint32_t kVmaLocked = 1 << 4;
inline constexpr uint32_t kVmaLockOnFault = 1 << 5;
inline constexpr uint32_t kVmaDontFork = 1 << 6;
inline constexpr uint32_t kVmaWipeOnFork = 1 << 7;
inline constexpr uint32_t kVmaNoReserve = 1 << 8;
inline constexpr uint32_t kVmaHugepage = 1 << 9;
inline constexpr uint32_t kVmaNoHugepage = 1 << 10;
inline constexpr uint32_t kVmaDontDump = 1 << 11;
inline constexpr uint32_t kVmaMergeable = 1 << 12;  // MADV_MERGEABLE: recorded, no effect.
inline constexpr uint32_t kVmaSpecial = 1 << 13;

// Keeps F_SEAL_WRITE of a memfd away while a VMA that may write to it exists. The parts of a VMA
// that was split, and its copies after fork(2), share one.
class WritableMapping : public RefCounted<WritableMapping> {
 public:
  explicit WritableMapping(RefPtr<vfs::Inode> inode) : inode_(std::move(inode)) {
    inode_->AddWritableMapping();
  }
  ~WritableMapping() { inode_->RemoveWritableMapping(); }

 private:
  const RefPtr<vfs::Inode> inode_;
};

struct Vma {
  uint64_t start = 0;
  uint64_t end = 0;
  uint32_t protection = 0;  // The guest's PROT_* bits.
  uint32_t flags = 0;       // kVma*.
  // In the file; of private anonymous memory the address it was first mapped at, as Linux's
  // vm_pgoff, so that what mremap brought together is not merged (nor is it on the host).
  uint64_t offset = 0;
  // What the host maps: `host_fd` (kept open by `file`) at offset + host_delta (wrapping), or
  // private zero memory.
  bool host_anonymous = true;
  int host_fd = -1;
  uint64_t host_delta = 0;
  RefPtr<vfs::FileDescription> file;
  RefPtr<MappedObject> object;
  RefPtr<WritableMapping> writable;  // Set for shared mappings that may become writable.
  std::string name;

  bool shared() const { return (flags & kVmaShared) != 0; }
  // VM_SHARED of Linux: writes reach the object.
  bool writes_through() const { return shared() && (flags & kVmaMayWrite) != 0; }
  bool anonymous() const { return host_anonymous && !shared(); }
  bool has(uint32_t flag) const { return (flags & flag) != 0; }
  uint64_t length() const { return end - start; }
  uint64_t OffsetAt(uint64_t address) const { return offset + (address - start); }
  AddrRange range() const { return {GuestAddr(start), GuestAddr(end)}; }
  // The operation that makes [from, to) of this VMA real.
  platform::MapOp MakeOp(uint64_t from, uint64_t to) const;
};

// What the host is asked for: PROT_WRITE or PROT_EXEC alone would be unreadable for
// process_vm_readv (docs/platform.md 20), and are readable on x86 anyway.
constexpr platform::Protection HostProtection(uint32_t guest) {
  return (guest & 7) | ((guest & 6) != 0 ? platform::kProtRead : 0);
}

// Distance that is kept free below a stack (Linux stack_guard_gap, 256 pages).
inline constexpr uint64_t kStackGuardGap = 256 * kPageSize;

// VMAs in address order, the gaps between them and running totals. Not thread-safe: the mm's lock
// guards it. VMAs never overlap; each is page-aligned, not empty and inside `range`.
class VmaTree {
 public:
  using Map = std::map<uint64_t, Vma>;
  using Iterator = Map::iterator;
  // What left the tree: destroyed after the mm's lock is dropped, since the last reference on a
  // file may block.
  using Garbage = std::vector<Vma>;

  explicit VmaTree(AddrRange range) : range_(range), gaps_(range) {}
  // Makes this tree, which is empty, a copy (fork).
  void CopyFrom(const VmaTree& other);

  AddrRange range() const { return range_; }
  const Map& map() const { return map_; }
  size_t count() const { return map_.size(); }
  const MemoryManager::Totals& totals() const { return totals_; }
  // Grows with each change: tells a repeated fault from a race with a change.
  uint64_t generation() const { return generation_; }

  // The VMA that contains `address`, or null.
  const Vma* Find(uint64_t address) const;
  // The first VMA that ends above `address`, or null.
  const Vma* FindFrom(uint64_t address) const;
  // The last VMA that starts below `address`, or null.
  const Vma* FindBefore(uint64_t address) const;
  bool IsFree(AddrRange range) const { return gaps_.IsFree(range); }
  // Whether VMAs cover all of it.
  bool Covers(AddrRange range) const;
  // The VMAs that touch `range`, in order, until `f` returns false. Returns whether it never did.
  bool ForEach(AddrRange range, absl::FunctionRef<bool(const Vma&)> f) const;
  // How many VMAs more there would be if the edges of `range` were made VMA edges.
  size_t SplitsNeeded(AddrRange range) const;

  // The range must be free. Merges with its neighbours where Linux does.
  void Insert(Vma vma);
  void Remove(AddrRange range, Garbage* garbage);
  // Applies `f`, which may change protection and flags, to the VMAs in `range`, split at its
  // edges; then merges.
  void Update(AddrRange range, absl::FunctionRef<void(Vma&)> f);
  // Extends the VMA that starts at `start` down to `new_start`, over free space (stacks).
  void GrowDown(uint64_t start, uint64_t new_start);
  void MergeAround(AddrRange range);

  // Where `length` bytes fit in `window`, highest (or lowest) address first, aligned so that
  // address % align == 0, keeping the guard gap of stacks. Null address: nowhere.
  GuestAddr FindTopDown(uint64_t length, AddrRange window, uint64_t align) const;
  GuestAddr FindBottomUp(uint64_t length, AddrRange window, uint64_t align) const;
  // Whether `range` is free and outside the guard gap of the stack above it.
  bool IsUsable(AddrRange range) const;

 private:
  static bool CanMerge(const Vma& a, const Vma& b);
  void Account(const Vma& vma, int sign);
  void SplitAt(uint64_t address);
  // Cuts from the end of a gap what belongs to the stack above it.
  AddrRange WithoutGuard(AddrRange gap) const;

  AddrRange range_;
  Map map_;  // By start.
  GapIndex gaps_;
  MemoryManager::Totals totals_;
  uint64_t generation_ = 0;
};

}  // namespace caisson::mm

#endif  // CAISSON_SENTRY_MM_VMA_TREE_H_
