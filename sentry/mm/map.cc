// mmap(2), munmap(2), brk(2) and where mappings go (Linux mm/mmap.c, mm/vma.c).
#include <algorithm>
#include <utility>

#include "abi/mman.h"
#include "sentry/mm/impl.h"
#include "vfs/mount.h"

namespace caisson::mm {

using platform::MapOp;

namespace {

constexpr uint64_t kHugePage = 2 << 20;
constexpr AddrRange kWindow32{GuestAddr(0x40000000), GuestAddr(0x80000000)};

// The legacy mmap flags, which MAP_SHARED accepts and MAP_SHARED_VALIDATE checks (Linux
// LEGACY_MAP_MASK), and MAP_SYNC, which our files lack.
constexpr uint32_t kKnownFlags =
    kMapTypeMask | kMapFixed | kMapAnonymous | kMap32Bit | kMapGrowsdown | kMapDenywrite |
    0x1000 /* EXECUTABLE */ | kMapLocked | kMapNoreserve | kMapPopulate | kMapNonblock | kMapStack |
    kMapHugetlb | kMapFixedNoreplace | (abi::kMapHugeMask << abi::kMapHugeShift);

bool OnNoexecMount(const vfs::FileDescription& file) {
  return file.path().mount && (file.path().mount->flags() & vfs::kMountNoexec) != 0;
}

// There are no huge pages in the pool (docs/platform.md 24): as Linux with nr_hugepages 0.
Errno HugetlbError(uint32_t flags) {
  uint32_t shift = (flags >> abi::kMapHugeShift) & abi::kMapHugeMask;
  return shift == 0 || shift == 21 || shift == 30 ? Errno::kENOMEM : Errno::kEINVAL;
}

// Fills in what the file decides: EACCES, EPERM, ENODEV, EOVERFLOW, EOPNOTSUPP, EINVAL.
Result<void> PrepareFile(vfs::CallContext& ctx, const MmapArgs& args, uint64_t length, Vma& vma) {
  uint32_t type = args.flags & kMapTypeMask;
  const vfs::FileDescription& file = *args.file;
  bool shared = type != kMapPrivate;
  if (args.offset + length < args.offset || args.offset + length > INT64_MAX)
    return Errno::kEOVERFLOW;
  if (type == kMapSharedValidate && (args.flags & ~kKnownFlags) != 0) return Errno::kEOPNOTSUPP;
  if (type != kMapShared && type != kMapPrivate && type != kMapSharedValidate)
    return Errno::kEINVAL;
  if (shared && (vma.protection & abi::kProtWrite) != 0 && !file.writable()) return Errno::kEACCES;
  if (!file.readable()) return Errno::kEACCES;
  if (OnNoexecMount(file)) {
    if ((vma.protection & abi::kProtExec) != 0) return Errno::kEPERM;
    vma.flags &= ~kVmaMayExec;
  }
  if ((args.flags & kMapHugetlb) != 0) return Errno::kEINVAL;
  vfs::HostMapping host = TRY(args.file->Map(ctx, args.offset, length, shared,
                                             shared && (vma.protection & abi::kProtWrite) != 0));
  if ((args.flags & kMapGrowsdown) != 0) return Errno::kEINVAL;
  if (shared && (!file.writable() || !host.writable)) {
    if ((vma.protection & abi::kProtWrite) != 0) return Errno::kEACCES;
    vma.flags &= ~kVmaMayWrite;
  }
  vma.file = host.replacement ? host.replacement : args.file;
  vma.offset = host.replacement ? 0 : args.offset;
  vma.host_anonymous = host.anonymous;
  vma.host_fd = host.host_fd;
  vma.host_delta = host.offset - vma.offset;
  if (shared && (vma.flags & kVmaMayWrite) != 0 && vma.file->inode() != nullptr)
    vma.writable = MakeRef<WritableMapping>(vma.file->inode_ref());
  return {};
}

}  // namespace

Result<void> MemoryManager::Impl::CheckExpandLocked(const Limits& limits, uint64_t bytes,
                                                    bool data) const {
  const Totals& totals = tree.totals();
  if (bytes > limits.address_space || totals.virtual_bytes > limits.address_space - bytes)
    return Errno::kENOMEM;
  if (data && (bytes > limits.data || totals.data > limits.data - bytes)) return Errno::kENOMEM;
  return {};
}

Result<void> MemoryManager::Impl::CheckLockLocked(const Limits& limits, uint64_t bytes) const {
  if (limits.memlock_unlimited) return {};
  if (bytes > limits.memlock || tree.totals().locked > limits.memlock - bytes)
    return Errno::kEAGAIN;
  return {};
}

Result<uint64_t> MemoryManager::Impl::PlaceFixed(uint64_t address, uint64_t length) const {
  uint64_t end = guest_range.end.value;
  if (length > end || address > end - length) return Errno::kENOMEM;
  if (address % kPageSize != 0) return Errno::kEINVAL;
  if (address < guest_range.start.value) return Errno::kEPERM;  // Below vm.mmap_min_addr.
  return address;
}

Result<uint64_t> MemoryManager::Impl::PlaceLocked(uint64_t hint, uint64_t length,
                                                  uint32_t map_flags, uint64_t align) const {
  if (length > guest_range.length()) return Errno::kENOMEM;
  bool low = (map_flags & kMap32Bit) != 0;
  uint64_t ceiling = low ? kWindow32.end.value : guest_range.end.value;
  hint = PageRoundDown(hint);
  if (hint != 0) {
    hint = std::max(hint, guest_range.start.value);
    if (length <= ceiling && hint <= ceiling - length &&
        tree.IsUsable({GuestAddr(hint), GuestAddr(hint + length)}))
      return hint;
  }
  GuestAddr at;
  if (low) {
    at = tree.FindBottomUp(length, kWindow32, kPageSize);
  } else {
    AddrRange below{guest_range.start, GuestAddr(mmap_base)};
    if (align > kPageSize) at = tree.FindTopDown(length, below, align);
    if (at.is_null()) at = tree.FindTopDown(length, below, kPageSize);
    // Linux arch_get_unmapped_area_topdown(): what is left is above TASK_UNMAPPED_BASE.
    if (at.is_null()) {
      uint64_t base = std::max(PageRoundUp(guest_range.end.value / 3), guest_range.start.value);
      at = tree.FindBottomUp(length, {GuestAddr(base), guest_range.end}, kPageSize);
    }
  }
  if (at.is_null()) return Errno::kENOMEM;
  return at.value;
}

bool MemoryManager::Impl::WritesThroughLocked(AddrRange range) const {
  return !tree.ForEach(range, [](const Vma& vma) { return !vma.writes_through(); });
}

Result<void> MemoryManager::Impl::UnmapLocked(AddrRange range, VmaTree::Garbage* garbage) {
  const Vma* first = tree.FindFrom(range.start.value);
  if (first == nullptr || first->start >= range.end.value) return {};
  if (tree.count() >= kMaxMapCount && tree.SplitsNeeded(range) == 2 &&
      tree.Find(range.end.value) == first)
    return Errno::kENOMEM;
  MapOp op;
  op.kind = MapOp::Kind::kUnmap;
  op.addr = range.start;
  op.length = range.length();
  op.proven = WritesThroughLocked(range);
  TRY(ApplyOne(op));
  tree.Remove(range, garbage);
  return {};
}

Result<void> MemoryManager::Impl::MapLocked(Vma vma, bool populate, VmaTree::Garbage* garbage) {
  AddrRange range = vma.range();
  size_t count = tree.count() + 1;
  if (!tree.IsFree(range)) count += tree.SplitsNeeded(range);
  if (count > kMaxMapCount + 1) return Errno::kENOMEM;
  MapOp ops[2] = {vma.MakeOp(vma.start, vma.end), {}};
  ops[0].proven = WritesThroughLocked(range);
  size_t number = 1;
  if (populate && vma.protection != 0) {
    ops[1].kind = MapOp::Kind::kPopulate;
    ops[1].protection = ops[0].protection;
    ops[1].addr = range.start;
    ops[1].length = range.length();
    number = 2;
  }
  size_t done = 0;
  if (Result<void> applied = space.Apply({ops, number}, &done); !applied.ok() && done == 0) {
    // mmap(MAP_FIXED) that fails may have taken away what was there.
    if (!tree.IsFree(range)) (void)UnmapLocked(range, garbage).ok();
    return applied.error();
  }
  tree.Remove(range, garbage);
  tree.Insert(std::move(vma));
  return {};
}

Result<GuestAddr> MemoryManager::Mmap(vfs::CallContext& ctx, const MmapArgs& args,
                                      const Limits& limits) {
  const bool anonymous = (args.flags & kMapAnonymous) != 0;
  const uint32_t type = args.flags & kMapTypeMask;
  if (args.offset % kPageSize != 0) return Errno::kEINVAL;
  if (anonymous && (args.flags & kMapHugetlb) != 0) return HugetlbError(args.flags);
  if (args.length == 0) return Errno::kEINVAL;
  uint64_t length = PageRoundUp(args.length);
  if (length == 0 || length > impl_->guest_range.end.value) return Errno::kENOMEM;
  if (args.offset + length < args.offset) return Errno::kEOVERFLOW;
  bool fixed = (args.flags & (kMapFixed | kMapFixedNoreplace)) != 0;
  if (fixed) TRY(impl_->PlaceFixed(args.addr.value, length));
  if ((args.flags & kMapLocked) != 0 && limits.memlock == 0 && !limits.memlock_unlimited)
    return Errno::kEPERM;

  Vma vma;
  vma.protection = args.protection & 7;
  vma.flags = kVmaMayWrite | kVmaMayExec;
  if (type != kMapPrivate) vma.flags |= kVmaShared;
  if ((args.flags & kMapNoreserve) != 0) vma.flags |= kVmaNoReserve;
  if ((args.flags & kMapLocked) != 0) vma.flags |= kVmaLocked;
  if (args.special) vma.flags |= kVmaSpecial;
  vma.name = args.name;
  vma.object = args.object;
  MmapArgs with_object = args;
  if (!anonymous) {
    if (!args.file) return Errno::kEBADF;
    TRY(PrepareFile(ctx, args, length, vma));
  } else if (type == kMapShared) {
    if ((args.flags & kMapGrowsdown) != 0) return Errno::kEINVAL;
    if (impl_->shared_memory == nullptr) return Errno::kENODEV;
    with_object.offset = 0;
    with_object.file = TRY(impl_->shared_memory->NewSharedAnonymous(ctx, length));
    with_object.flags &= ~kMapAnonymous;
    TRY(PrepareFile(ctx, with_object, length, vma));
    if (vma.name.empty()) vma.name = "/dev/zero (deleted)";
  } else if (type == kMapPrivate) {
    if ((args.flags & kMapGrowsdown) != 0) vma.flags |= kVmaGrowsDown;
  } else {
    return Errno::kEINVAL;
  }

  if (args.never_writable) vma.flags &= ~kVmaMayWrite;

  VmaTree::Garbage garbage;
  MutexLock lock(impl_->mu);
  // Large anonymous memory starts where a huge page can (docs/platform.md 23).
  uint64_t align = vma.anonymous() && length % kHugePage == 0 ? kHugePage : kPageSize;
  uint64_t address = args.addr.value;
  if (!fixed) address = TRY(impl_->PlaceLocked(args.addr.value, length, args.flags, align));
  AddrRange range{GuestAddr(address), GuestAddr(address + length)};
  uint64_t covered = CoveredBytes(impl_->tree, range);
  if ((args.flags & kMapFixedNoreplace) != 0 && covered != 0) return Errno::kEEXIST;
  vma.flags |= impl_->default_flags;
  if (vma.has(kVmaLocked)) TRY(impl_->CheckLockLocked(limits, length));
  if (!impl_->CheckExpandLocked(limits, length, IsData(vma.protection, vma.flags)).ok())
    TRY(impl_->CheckExpandLocked(limits, length - covered, IsData(vma.protection, vma.flags)));
  vma.start = address;
  vma.end = address + length;
  if (!vma.file) vma.offset = address;
  bool populate = (args.flags & (kMapPopulate | kMapNonblock)) == kMapPopulate ||
                  (vma.has(kVmaLocked) && !vma.has(kVmaLockOnFault));
  TRY(impl_->MapLocked(std::move(vma), populate, &garbage));
  return GuestAddr(address);
}

Result<void> MemoryManager::Munmap(GuestAddr addr, uint64_t length) {
  uint64_t end = impl_->guest_range.end.value;
  if (!addr.page_aligned() || addr.value > end || length > end - addr.value) return Errno::kEINVAL;
  length = PageRoundUp(length);
  if (length == 0) return Errno::kEINVAL;
  // Nothing is ever mapped below the guest's range.
  AddrRange range{std::max(addr, impl_->guest_range.start), addr + length};
  if (range.end > impl_->guest_range.end) return Errno::kEINVAL;
  if (range.start >= range.end) return {};
  VmaTree::Garbage garbage;
  MutexLock lock(impl_->mu);
  return impl_->UnmapLocked(range, &garbage);
}

Result<RefPtr<MappedObject>> MemoryManager::Detach(GuestAddr addr) {
  // Linux ipc/shm.c, ksys_shmdt(): the first VMA found whose part of the segment would begin at
  // `addr`, and then all others of the same segment in place.
  VmaTree::Garbage garbage;
  RefPtr<MappedObject> object;
  if (!addr.page_aligned()) return Errno::kEINVAL;
  MutexLock lock(impl_->mu);
  std::vector<AddrRange> ranges;
  const Vma* vma = impl_->tree.FindFrom(addr.value);
  while (vma != nullptr) {
    if (vma->object && vma->start - addr.value == vma->offset &&
        (!object || vma->object == object)) {
      object = vma->object;
      ranges.push_back(vma->range());
    }
    vma = impl_->tree.FindFrom(vma->end);
  }
  if (!object) return Errno::kEINVAL;
  for (AddrRange range : ranges) TRY(impl_->UnmapLocked(range, &garbage));
  return object;
}

GuestAddr MemoryManager::Brk(GuestAddr addr, const Limits& limits) {
  VmaTree::Garbage garbage;
  MutexLock lock(impl_->mu);
  const GuestAddr old(impl_->brk);
  if (addr.value < impl_->start_brk || addr.value > impl_->guest_range.end.value - kPageSize)
    return old;
  // check_data_rlimit(): the break and the program's own data together.
  uint64_t data = impl_->layout.end_data - impl_->layout.start_data;
  uint64_t size = addr.value - impl_->start_brk;
  if (limits.data != ~uint64_t{0} && (data > limits.data || size > limits.data - data)) return old;
  uint64_t new_end = PageRoundUp(addr.value), old_end = PageRoundUp(impl_->brk);
  if (new_end == old_end) {
    impl_->brk = addr.value;
    return addr;
  }
  if (new_end < old_end) {
    if (!impl_->UnmapLocked({GuestAddr(new_end), GuestAddr(old_end)}, &garbage).ok()) return old;
    impl_->brk = addr.value;
    return addr;
  }
  Vma vma;
  vma.start = vma.offset = old_end;
  vma.end = new_end;
  vma.protection = abi::kProtRead | abi::kProtWrite;
  vma.flags = kVmaMayWrite | kVmaMayExec | impl_->default_flags;
  // One page of distance to what comes next, as Linux keeps it.
  if (!impl_->tree.IsUsable({vma.range().start, GuestAddr(new_end + kPageSize)})) return old;
  if (!impl_->CheckExpandLocked(limits, new_end - old_end, true).ok()) return old;
  bool locked = vma.has(kVmaLocked);
  if (locked && !impl_->CheckLockLocked(limits, new_end - old_end).ok()) return old;
  if (!impl_->MapLocked(std::move(vma), locked, &garbage).ok()) return old;
  impl_->brk = addr.value;
  return addr;
}

}  // namespace caisson::mm
