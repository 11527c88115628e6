// mprotect(2) and mremap(2) (Linux mm/mprotect.c, mm/mremap.c).
#include <algorithm>
#include <utility>

#include "abi/mman.h"
#include "base/log.h"
#include "sentry/mm/impl.h"

namespace caisson::mm {

using platform::MapOp;

Result<void> MemoryManager::Mprotect(GuestAddr addr, uint64_t length, uint32_t protection,
                                     const Limits& limits, bool read_implies_exec) {
  constexpr uint32_t kGrows = abi::kProtGrowsDown | abi::kProtGrowsUp;
  uint32_t grows = protection & kGrows;
  protection &= ~kGrows;
  if (grows == kGrows) return Errno::kEINVAL;
  if (!addr.page_aligned()) return Errno::kEINVAL;
  if (length == 0) return {};
  uint64_t end = addr.value + PageRoundUp(length);
  if (PageRoundUp(length) == 0 || end <= addr.value) return Errno::kENOMEM;
  if ((protection & ~(7u | abi::kProtSem)) != 0) return Errno::kEINVAL;
  protection &= 7;
  if (read_implies_exec && (protection & abi::kProtRead) == 0) read_implies_exec = false;

  VmaTree::Garbage garbage;
  MutexLock lock(impl_->mu);
  VmaTree& tree = impl_->tree;
  uint64_t start = addr.value;
  const Vma* first = tree.FindFrom(start);
  if (first == nullptr) return Errno::kENOMEM;
  if ((grows & abi::kProtGrowsUp) != 0) return Errno::kEINVAL;  // There are none on x86.
  if (grows != 0) {
    if (first->start >= end) return Errno::kENOMEM;
    if (!first->has(kVmaGrowsDown)) return Errno::kEINVAL;
    start = first->start;
  } else if (first->start > start) {
    return Errno::kENOMEM;
  }

  // What can be done before the first hole or refusal is done; then comes the error, as in Linux.
  struct Step {
    uint64_t start, end;
    uint32_t protection, old;
  };
  std::vector<Step> steps;
  std::optional<Errno> error;
  size_t splits = tree.SplitsNeeded({GuestAddr(start), GuestAddr(end)});
  if (splits != 0 && tree.count() + splits > kMaxMapCount + 1) return Errno::kENOMEM;
  uint64_t at = start;
  tree.ForEach({GuestAddr(start), GuestAddr(end)}, [&](const Vma& vma) {
    impl_->mu.AssertHeld();
    if (vma.start > at) return false;
    uint32_t wanted = protection;
    if (read_implies_exec && vma.has(kVmaMayExec)) wanted |= abi::kProtExec;
    if (((wanted & abi::kProtWrite) != 0 && !vma.has(kVmaMayWrite)) ||
        ((wanted & abi::kProtExec) != 0 && !vma.has(kVmaMayExec))) {
      error = Errno::kEACCES;
      return false;
    }
    uint64_t part = std::min(vma.end, end);
    if (IsData(wanted, vma.flags) && !IsData(vma.protection, vma.flags) &&
        !impl_->CheckExpandLocked({.data = limits.data}, part - at, true).ok()) {
      error = Errno::kENOMEM;
      return false;
    }
    steps.push_back({at, part, wanted, vma.protection});
    at = part;
    return true;
  });
  if (at < end && !error) error = Errno::kENOMEM;
  if (steps.empty()) return *error;

  std::vector<MapOp> ops;
  for (const Step& step : steps) {
    if (HostProtection(step.protection) == HostProtection(step.old)) continue;
    if (!ops.empty() && ops.back().protection == HostProtection(step.protection) &&
        ops.back().addr.value + ops.back().length == step.start) {
      ops.back().length += step.end - step.start;
      continue;
    }
    MapOp op;
    op.kind = MapOp::Kind::kProtect;
    op.protection = HostProtection(step.protection);
    op.addr = GuestAddr(step.start);
    op.length = step.end - step.start;
    ops.push_back(op);
  }
  if (!ops.empty()) {
    if (Result<void> applied = impl_->space.Apply(ops); !applied.ok()) {
      // Any part may have been done: all goes back to what it was.
      for (const Step& step : steps) {
        MapOp op;
        op.kind = MapOp::Kind::kProtect;
        op.protection = HostProtection(step.old);
        op.addr = GuestAddr(step.start);
        op.length = step.end - step.start;
        if (!impl_->ApplyOne(op).ok()) {
          LOG_WARNING("mprotect could not be undone: the range is unmapped");
          (void)impl_->UnmapLocked({GuestAddr(step.start), GuestAddr(step.end)}, &garbage).ok();
        }
      }
      return applied.error();
    }
  }
  tree.Update({GuestAddr(start), GuestAddr(at)}, [&](Vma& vma) {
    vma.protection = protection;
    if (read_implies_exec && vma.has(kVmaMayExec)) vma.protection |= abi::kProtExec;
  });
  if (error) return *error;
  return {};
}

Result<void> MemoryManager::Impl::MoveLocked(uint64_t from, uint64_t old_length, uint64_t to,
                                             uint64_t new_length, bool dont_unmap) {
  MapOp op;
  op.kind = MapOp::Kind::kRemap;
  op.addr = GuestAddr(from);
  op.old_length = old_length;
  op.new_addr = GuestAddr(to);
  op.length = new_length;
  op.dont_unmap = dont_unmap;
  Result<void> moved = ApplyOne(op);
  if (moved.ok() || moved.error() != Errno::kEFAULT || old_length <= kPageSize) return moved;
  // EFAULT: on the host this is more than one VMA (memory that was faulted in before it became
  // one for us). Halves, until each lies in one.
  uint64_t half = PageRoundDown(old_length / 2);
  TRY(MoveLocked(from, half, to, half, dont_unmap));
  Result<void> rest =
      MoveLocked(from + half, old_length - half, to + half, new_length - half, dont_unmap);
  if (rest.ok()) return {};
  if (!MoveLocked(to, half, from, half, false).ok()) {
    LOG_WARNING("mremap could not be undone: the range is unmapped");
    MapOp gone;
    gone.kind = MapOp::Kind::kUnmap;
    gone.addr = GuestAddr(to);
    gone.length = half;
    gone.proven = true;
    (void)ApplyOne(gone).ok();
  }
  return rest;
}

Result<GuestAddr> MemoryManager::Mremap(GuestAddr addr, uint64_t old_length, uint64_t new_length,
                                        uint32_t flags, GuestAddr new_addr, const Limits& limits) {
  const bool fixed = (flags & abi::kMremapFixed) != 0;
  const bool may_move = (flags & abi::kMremapMaymove) != 0;
  const bool dont_unmap = (flags & abi::kMremapDontunmap) != 0;
  if ((flags & ~7u) != 0 || (fixed && !may_move)) return Errno::kEINVAL;
  if (dont_unmap && (!may_move || old_length != new_length)) return Errno::kEINVAL;
  if (!addr.page_aligned()) return Errno::kEINVAL;
  const uint64_t task_end = impl_->guest_range.end.value;
  old_length = PageRoundUp(old_length);
  new_length = PageRoundUp(new_length);
  if (new_length == 0) return Errno::kEINVAL;
  if (addr.value >= task_end || old_length > task_end - addr.value) {
    return addr.value >= task_end ? Errno::kEFAULT : Errno::kEINVAL;
  }
  const uint64_t from = addr.value;

  VmaTree::Garbage garbage;
  MutexLock lock(impl_->mu);
  VmaTree& tree = impl_->tree;
  const Vma* vma = tree.Find(from);
  if (vma == nullptr) return Errno::kEFAULT;
  if (vma->has(kVmaSpecial)) return Errno::kEINVAL;
  uint64_t target = new_addr.value;
  if (fixed || dont_unmap) {
    // mremap_to().
    if (target % kPageSize != 0 || new_length > task_end || target > task_end - new_length)
      return Errno::kEINVAL;
    if (from + old_length > target && target + new_length > from) return Errno::kEINVAL;
    if (tree.count() + 2 >= kMaxMapCount) return Errno::kENOMEM;
    if (fixed) {
      TRY(impl_->PlaceFixed(target, new_length));
      TRY(impl_->UnmapLocked({GuestAddr(target), GuestAddr(target + new_length)}, &garbage));
    }
    if (old_length > new_length) {
      TRY(impl_->UnmapLocked({GuestAddr(from + new_length), GuestAddr(from + old_length)},
                             &garbage));
      old_length = new_length;
    }
    vma = tree.Find(from);
    if (vma == nullptr) return Errno::kEFAULT;
  } else if (old_length >= new_length) {
    if (old_length > new_length)
      TRY(impl_->UnmapLocked({GuestAddr(from + new_length), GuestAddr(from + old_length)},
                             &garbage));
    return addr;
  }

  // vma_to_resize().
  if (old_length == 0 && !vma->shared()) return Errno::kEINVAL;
  if (old_length > vma->end - from) return Errno::kEFAULT;
  uint64_t offset = vma->OffsetAt(from);
  if (vma->file && offset + new_length < offset) return Errno::kEINVAL;
  // What the address space gains: with DONTUNMAP all of it, and all of a copy made by a zero
  // old_length.
  uint64_t gained = dont_unmap ? new_length : new_length - old_length;
  if (gained != 0) {
    if (vma->has(kVmaLocked)) TRY(impl_->CheckLockLocked(limits, gained));
    TRY(impl_->CheckExpandLocked(limits, gained, IsData(vma->protection, vma->flags)));
  }
  bool populate = vma->has(kVmaLocked) && !vma->has(kVmaLockOnFault);

  if (!fixed && !dont_unmap) {
    // In place, if it is the end of the VMA that grows and there is room.
    AddrRange extension{GuestAddr(from + old_length), GuestAddr(from + new_length)};
    if (old_length != 0 && old_length == vma->end - from && new_length <= task_end - from &&
        tree.IsUsable(extension)) {
      Vma more = *vma;
      more.start = extension.start.value;
      more.end = extension.end.value;
      more.offset = vma->OffsetAt(more.start);
      TRY(impl_->MapLocked(std::move(more), populate, &garbage));
      return addr;
    }
    if (!may_move) return Errno::kENOMEM;
  }

  if (tree.count() + 3 >= kMaxMapCount) return Errno::kENOMEM;
  if (!fixed) {
    target = TRY(impl_->PlaceLocked(dont_unmap ? target : 0, new_length, 0, kPageSize));
  }
  Vma moved = *vma;
  moved.start = target;
  moved.end = target + new_length;
  moved.offset = offset;
  if (old_length == 0) {
    // A second mapping of the same object (shared only).
    TRY(impl_->MapLocked(std::move(moved), populate, &garbage));
    return GuestAddr(target);
  }
  AddrRange source{addr, addr + old_length};
  if (Result<void> done = impl_->MoveLocked(from, old_length, target, new_length, dont_unmap);
      !done.ok()) {
    return done.error();
  }
  if (dont_unmap) {
    tree.Update(source, [](Vma& left) { left.flags &= ~(kVmaLocked | kVmaLockOnFault); });
  } else {
    tree.Remove(source, &garbage);
  }
  if (populate && new_length > old_length) {
    MapOp op;
    op.kind = MapOp::Kind::kPopulate;
    op.protection = HostProtection(moved.protection);
    op.addr = GuestAddr(target + old_length);
    op.length = new_length - old_length;
    (void)impl_->ApplyOne(op).ok();
  }
  tree.Insert(std::move(moved));
  return GuestAddr(target);
}

}  // namespace caisson::mm
