// madvise(2), msync(2), mincore(2), mlock(2) and its family (Linux mm/madvise.c, msync.c,
// mincore.c, mlock.c).
#include <algorithm>
#include <utility>

#include "abi/mman.h"
#include "sentry/mm/impl.h"

namespace caisson::mm {

using platform::MapOp;

namespace {

bool IsKnown(int advice) {
  switch (advice) {
    case abi::kMadvNormal:
    case abi::kMadvRandom:
    case abi::kMadvSequential:
    case abi::kMadvWillneed:
    case abi::kMadvDontneed:
    case abi::kMadvFree:
    case abi::kMadvRemove:
    case abi::kMadvDontfork:
    case abi::kMadvDofork:
    case abi::kMadvMergeable:
    case abi::kMadvUnmergeable:
    case abi::kMadvHugepage:
    case abi::kMadvNohugepage:
    case abi::kMadvDontdump:
    case abi::kMadvDodump:
    case abi::kMadvWipeonfork:
    case abi::kMadvKeeponfork:
    case abi::kMadvCold:
    case abi::kMadvPageout:
    case abi::kMadvPopulateRead:
    case abi::kMadvPopulateWrite:
    case abi::kMadvDontneedLocked:
    case abi::kMadvCollapse:
      return true;
    default:
      return false;
  }
}

// Flags of the VMA that the advice sets and clears.
struct FlagChange {
  uint32_t set = 0;
  uint32_t clear = 0;
  bool host = false;  // The host is told too.
};

bool ChangesFlags(int advice, FlagChange* change) {
  switch (advice) {
    case abi::kMadvDontfork:
      *change = {kVmaDontFork, 0, false};
      return true;
    case abi::kMadvDofork:
      *change = {0, kVmaDontFork, false};
      return true;
    case abi::kMadvMergeable:
      *change = {kVmaMergeable, 0, false};
      return true;
    case abi::kMadvUnmergeable:
      *change = {0, kVmaMergeable, false};
      return true;
    case abi::kMadvHugepage:
      *change = {kVmaHugepage, kVmaNoHugepage, true};
      return true;
    case abi::kMadvNohugepage:
      *change = {kVmaNoHugepage, kVmaHugepage, true};
      return true;
    case abi::kMadvDontdump:
      *change = {kVmaDontDump, 0, false};
      return true;
    case abi::kMadvDodump:
      *change = {0, kVmaDontDump, false};
      return true;
    case abi::kMadvWipeonfork:
      *change = {kVmaWipeOnFork, 0, false};
      return true;
    case abi::kMadvKeeponfork:
      *change = {0, kVmaWipeOnFork, false};
      return true;
    default:
      return false;
  }
}

// What Linux refuses for a VMA.
Result<void> CheckAdvice(const Vma& vma, int advice) {
  switch (advice) {
    case abi::kMadvDontneed:
    case abi::kMadvCold:
    case abi::kMadvPageout:
      if (vma.has(kVmaLocked)) return Errno::kEINVAL;
      return {};
    case abi::kMadvFree:
      if (vma.has(kVmaLocked) || !vma.anonymous()) return Errno::kEINVAL;
      return {};
    case abi::kMadvRemove:
      if (vma.has(kVmaLocked) || vma.host_anonymous) return Errno::kEINVAL;
      if (!vma.writes_through() || (vma.protection & abi::kProtWrite) == 0) return Errno::kEACCES;
      return {};
    case abi::kMadvWipeonfork:
      if (!vma.anonymous() || vma.file) return Errno::kEINVAL;
      return {};
    case abi::kMadvPopulateRead:
      if (vma.protection == 0) return Errno::kEINVAL;
      return {};
    case abi::kMadvPopulateWrite:
      if ((vma.protection & abi::kProtWrite) == 0) return Errno::kEINVAL;
      return {};
    default:
      return {};
  }
}

}  // namespace

Result<void> MemoryManager::Madvise(GuestAddr addr, uint64_t length, int advice) {
  if (advice == abi::kMadvHwpoison || advice == abi::kMadvSoftOffline) return Errno::kEPERM;
  if (!IsKnown(advice) || !addr.page_aligned()) return Errno::kEINVAL;
  if (length != 0 && PageRoundUp(length) == 0) return Errno::kEINVAL;
  uint64_t end = addr.value + PageRoundUp(length);
  if (end < addr.value) return Errno::kEINVAL;
  if (end == addr.value) return {};
  AddrRange range{addr, GuestAddr(end)};

  MutexLock lock(impl_->mu);
  VmaTree& tree = impl_->tree;
  // Collected first: the tree changes below. Holes are skipped and reported at the end, but for
  // POPULATE, which stops at one.
  std::vector<AddrRange> parts;
  std::optional<Errno> error;
  bool hole = false;
  uint64_t at = addr.value;
  bool populate = advice == abi::kMadvPopulateRead || advice == abi::kMadvPopulateWrite;
  tree.ForEach(range, [&](const Vma& vma) {
    if (vma.start > at) {
      hole = true;
      if (populate) return false;
    }
    if (Result<void> check = CheckAdvice(vma, advice); !check.ok()) {
      error = check.error();
      return false;
    }
    parts.push_back(
        {GuestAddr(std::max(vma.start, addr.value)), GuestAddr(std::min(vma.end, end))});
    at = vma.end;
    return true;
  });
  if (!error && at < end) hole = true;

  FlagChange change;
  bool flags = ChangesFlags(advice, &change);
  if (flags && tree.count() + tree.SplitsNeeded(range) > kMaxMapCount) return Errno::kENOMEM;
  if (!flags || change.host) {
    std::vector<AddrRange> host_parts;
    // What empties pages does so across mappings: a thread's stack goes with its guard page at once.
    const bool joins = advice == abi::kMadvDontneed || advice == abi::kMadvFree;
    for (const AddrRange& part : parts) {
      if (joins && !host_parts.empty() && host_parts.back().end == part.start) {
        host_parts.back().end = part.end;
      } else {
        host_parts.push_back(part);
      }
    }
    for (const AddrRange& part : host_parts) {
      MapOp op;
      op.kind = MapOp::Kind::kAdvise;
      // Nothing is locked on the host.
      op.advice = advice == abi::kMadvDontneedLocked ? abi::kMadvDontneed : advice;
      op.addr = part.start;
      op.length = part.length();
      Result<void> applied = impl_->ApplyOne(op);
      // Of a hint, the host's opinion does not matter.
      bool hint = advice == abi::kMadvNormal || advice == abi::kMadvRandom ||
                  advice == abi::kMadvSequential || advice == abi::kMadvWillneed ||
                  advice == abi::kMadvCold || advice == abi::kMadvPageout;
      if (!applied.ok() && !hint) return applied.error();
    }
  }
  if (flags) {
    for (const AddrRange& part : parts) {
      tree.Update(part, [&](Vma& vma) { vma.flags = (vma.flags & ~change.clear) | change.set; });
    }
  }
  if (error) return *error;
  if (hole) return Errno::kENOMEM;
  return {};
}

Result<void> MemoryManager::Msync(vfs::CallContext& ctx, GuestAddr addr, uint64_t length,
                                  int flags) {
  if ((flags & ~(abi::kMsAsync | abi::kMsInvalidate | abi::kMsSync)) != 0) return Errno::kEINVAL;
  if (!addr.page_aligned()) return Errno::kEINVAL;
  if ((flags & abi::kMsAsync) != 0 && (flags & abi::kMsSync) != 0) return Errno::kEINVAL;
  uint64_t end = addr.value + PageRoundUp(length);
  if (end < addr.value || (length != 0 && PageRoundUp(length) == 0)) return Errno::kENOMEM;
  if (end == addr.value) return {};
  std::vector<RefPtr<vfs::FileDescription>> files;
  bool hole = false;
  {
    MutexLock lock(impl_->mu);
    uint64_t at = addr.value;
    bool busy = false;
    impl_->tree.ForEach({addr, GuestAddr(end)}, [&](const Vma& vma) {
      if (vma.start > at) hole = true;
      if ((flags & abi::kMsInvalidate) != 0 && vma.has(kVmaLocked)) {
        busy = true;
        return false;
      }
      if ((flags & abi::kMsSync) != 0 && vma.file && vma.writes_through() &&
          (files.empty() || !(files.back() == vma.file)))
        files.push_back(vma.file);
      at = vma.end;
      return true;
    });
    if (busy) return Errno::kEBUSY;
    if (at < end) hole = true;
  }
  for (const RefPtr<vfs::FileDescription>& file : files) {
    // Files without storage (shared memory) have nothing to sync: Linux noop_fsync().
    Result<void> synced = file->Sync(ctx, true);
    if (!synced.ok() && synced.error() != Errno::kEINVAL) return synced.error();
  }
  if (hole) return Errno::kENOMEM;
  return {};
}

Result<void> MemoryManager::Mincore(GuestAddr addr, uint64_t length, GuestAddr vec) {
  if (!addr.page_aligned()) return Errno::kEINVAL;
  if (length == 0) return {};
  if (!impl_->IsGuestRange(addr, length)) return Errno::kENOMEM;
  constexpr uint64_t kBatch = 4096;  // Pages a turn.
  uint8_t resident[kBatch];
  uint64_t pages = PageRoundUp(length) / kPageSize;
  for (uint64_t done = 0; done < pages;) {
    uint64_t n = std::min(kBatch, pages - done);
    AddrRange range{addr + done * kPageSize, addr + (done + n) * kPageSize};
    {
      MutexLock lock(impl_->mu);
      if (!impl_->tree.Covers(range)) return Errno::kENOMEM;
      TRY(space_->Residency(range.start, range.length(), absl::Span<uint8_t>(resident, n)));
    }
    TRY(CopyOut(vec + done, {reinterpret_cast<const char*>(resident), n}));
    done += n;
  }
  return {};
}

Result<void> MemoryManager::Mlock(GuestAddr addr, uint64_t length, bool on_fault,
                                  const Limits& limits) {
  if (limits.memlock == 0 && !limits.memlock_unlimited) return Errno::kEPERM;
  uint64_t start = PageRoundDown(addr.value);
  if (length > ~uint64_t{0} - 2 * kPageSize) return Errno::kEINVAL;
  length = PageRoundUp(length + (addr.value - start));
  if (start + length < start) return Errno::kEINVAL;
  if (length == 0) return {};
  AddrRange range{GuestAddr(start), GuestAddr(start + length)};
  MutexLock lock(impl_->mu);
  VmaTree& tree = impl_->tree;
  if (!impl_->CheckLockLocked(limits, length).ok()) {
    // What is locked already does not count twice.
    uint64_t already = 0;
    tree.ForEach(range, [&](const Vma& vma) {
      if (vma.has(kVmaLocked))
        already += std::min(vma.end, range.end.value) - std::max(vma.start, start);
      return true;
    });
    if (!impl_->CheckLockLocked(limits, length - already).ok()) return Errno::kENOMEM;
  }
  if (tree.count() + tree.SplitsNeeded(range) > kMaxMapCount) return Errno::kENOMEM;
  bool covered = tree.Covers(range);
  uint64_t end = start;
  bool unreadable = false;
  tree.ForEach(range, [&](const Vma& vma) {
    if (vma.start > end) return false;
    end = std::min(vma.end, range.end.value);
    unreadable |= vma.protection == 0;
    return true;
  });
  range.end = GuestAddr(end);
  if (range.empty()) return Errno::kENOMEM;
  tree.Update(range, [&](Vma& vma) {
    vma.flags &= ~kVmaLockOnFault;
    vma.flags |= kVmaLocked | (on_fault ? kVmaLockOnFault : 0);
  });
  if (!covered) return Errno::kENOMEM;
  if (on_fault) return {};
  std::vector<MapOp> ops;
  tree.ForEach(range, [&](const Vma& vma) {
    if (vma.protection == 0) return true;
    MapOp op;
    op.kind = MapOp::Kind::kPopulate;
    op.protection = HostProtection(vma.protection);
    op.addr = GuestAddr(std::max(vma.start, start));
    op.length = std::min(vma.end, range.end.value) - op.addr.value;
    ops.push_back(op);
    return true;
  });
  // __mlock_posix_error_return(): EFAULT is ENOMEM, ENOMEM is EAGAIN.
  if (!ops.empty()) {
    if (Result<void> populated = space_->Apply(ops); !populated.ok())
      return populated.error() == Errno::kENOMEM ? Errno::kEAGAIN : Errno::kENOMEM;
  }
  if (unreadable) return Errno::kENOMEM;
  return {};
}

Result<void> MemoryManager::Munlock(GuestAddr addr, uint64_t length) {
  uint64_t start = PageRoundDown(addr.value);
  if (length > ~uint64_t{0} - 2 * kPageSize) return Errno::kEINVAL;
  length = PageRoundUp(length + (addr.value - start));
  if (start + length < start) return Errno::kEINVAL;
  if (length == 0) return {};
  AddrRange range{GuestAddr(start), GuestAddr(start + length)};
  MutexLock lock(impl_->mu);
  if (impl_->tree.count() + impl_->tree.SplitsNeeded(range) > kMaxMapCount) return Errno::kENOMEM;
  uint64_t end = start;
  impl_->tree.ForEach(range, [&](const Vma& vma) {
    if (vma.start > end) return false;
    end = std::min(vma.end, range.end.value);
    return true;
  });
  bool covered = end == range.end.value;
  range.end = GuestAddr(end);
  if (!range.empty()) {
    impl_->tree.Update(range, [](Vma& vma) { vma.flags &= ~(kVmaLocked | kVmaLockOnFault); });
  }
  if (!covered) return Errno::kENOMEM;
  return {};
}

Result<void> MemoryManager::MlockAll(int flags, const Limits& limits) {
  if (flags == 0 || (flags & ~(abi::kMclCurrent | abi::kMclFuture | abi::kMclOnfault)) != 0 ||
      flags == abi::kMclOnfault)
    return Errno::kEINVAL;
  if (limits.memlock == 0 && !limits.memlock_unlimited) return Errno::kEPERM;
  MutexLock lock(impl_->mu);
  VmaTree& tree = impl_->tree;
  if ((flags & abi::kMclCurrent) != 0 && !limits.memlock_unlimited &&
      tree.totals().virtual_bytes > limits.memlock)
    return Errno::kENOMEM;
  uint32_t set = kVmaLocked | ((flags & abi::kMclOnfault) != 0 ? kVmaLockOnFault : 0);
  impl_->default_flags = (flags & abi::kMclFuture) != 0 ? set : 0;
  if ((flags & abi::kMclCurrent) == 0) return {};
  tree.Update(tree.range(), [&](Vma& vma) {
    vma.flags &= ~kVmaLockOnFault;
    if (!vma.has(kVmaSpecial)) vma.flags |= set;
  });
  if ((flags & abi::kMclOnfault) != 0) return {};
  // Linux ignores failures here too (mm_populate()).
  for (const auto& [start, vma] : tree.map()) {
    if (vma.protection == 0) continue;
    MapOp op;
    op.kind = MapOp::Kind::kPopulate;
    op.protection = HostProtection(vma.protection);
    op.addr = GuestAddr(vma.start);
    op.length = vma.length();
    (void)impl_->ApplyOne(op).ok();
  }
  return {};
}

Result<void> MemoryManager::MunlockAll() {
  MutexLock lock(impl_->mu);
  impl_->default_flags = 0;
  impl_->tree.Update(impl_->tree.range(),
                     [](Vma& vma) { vma.flags &= ~(kVmaLocked | kVmaLockOnFault); });
  return {};
}

}  // namespace caisson::mm
