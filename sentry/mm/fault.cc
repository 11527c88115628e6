// Faults, stack growth and copies that a fault interrupted (docs/platform.md 19).
#include <algorithm>
#include <cstring>

#include "abi/mman.h"
#include "sentry/mm/impl.h"

namespace caisson::mm {

using platform::MapOp;

namespace {
// How far a stack grows at a time, where it may: fewer faults for deep recursion.
constexpr uint64_t kStackChunk = 128 << 10;
// A fault that the VMAs allow is tried again this often before it is a signal.
constexpr int kMaxSpurious = 8;
// Where memory is short, guest pages are made in pieces of this many bytes.
constexpr size_t kPopulateStep = 4 << 20;
}  // namespace

bool MemoryManager::Impl::GrowStackLocked(uint64_t address) {
  if (address < guest_range.start.value || address >= guest_range.end.value) return false;
  uint64_t page = PageRoundDown(address);
  const Vma* stack = tree.FindFrom(address);
  if (stack == nullptr || stack->start <= address || !stack->has(kVmaGrowsDown)) return false;
  // The lowest page allowed: RLIMIT_STACK, the guard gap to what is below (Linux
  // expand_downwards()).
  uint64_t limit = stack_limit.load(std::memory_order_relaxed);
  uint64_t floor = guest_range.start.value;
  if (limit < stack->end) floor = std::max(floor, PageRoundUp(stack->end - limit));
  if (const Vma* below = tree.FindBefore(stack->start); below != nullptr) {
    uint64_t gap = below->has(kVmaGrowsDown) || below->protection == 0 ? 0 : kStackGuardGap;
    floor = std::max(floor, below->end + gap);
  }
  if (page < floor) return false;
  uint64_t start = stack->start;
  uint64_t low = std::max(floor, page >= kStackChunk ? page - (kStackChunk - kPageSize) : 0);
  MapOp op = stack->MakeOp(stack->start, stack->end);
  op.addr = GuestAddr(low);
  op.length = start - low;
  if (!ApplyOne(op).ok()) return false;
  tree.GrowDown(start, low);
  return true;
}

MemoryManager::FaultSignal MemoryManager::HandleFault(const platform::Event& event,
                                                      uint64_t limit) {
  set_stack_limit(limit);
  FaultSignal signal;
  signal.signo = abi::kSigsegv;
  signal.code = abi::kSegvMaperr;
  if (!impl_->IsGuestRange(GuestAddr(event.address), 1)) return signal;
  bool write = event.access == platform::Access::kWrite;
  bool execute = event.access == platform::Access::kExecute;
  if (event.has_error_code) {
    write = (event.error_code & abi::kFaultWrite) != 0;
    execute = (event.error_code & abi::kFaultInstruction) != 0;
  }
  MutexLock lock(impl_->mu);
  const Vma* vma = impl_->tree.Find(event.address);
  if (vma == nullptr) {
    signal.repaired = impl_->GrowStackLocked(event.address);
    return signal;
  }
  uint32_t needed = write     ? abi::kProtWrite
                    : execute ? abi::kProtExec
                              : abi::kProtRead | abi::kProtWrite | abi::kProtExec;
  if ((vma->protection & needed) == 0) {
    signal.code = abi::kSegvAccerr;
    return signal;
  }
  if (event.signo == abi::kSigbus) {
    signal.signo = abi::kSigbus;  // Past the end of the file, or the host could not read it.
    signal.code = abi::kBusAdrerr;
    return signal;
  }
  // Another thread may have changed the mapping since. Without a change, the host knows better.
  auto& last = impl_->spurious;
  if (last.address != event.address || last.generation != impl_->tree.generation()) {
    last.address = event.address;
    last.generation = impl_->tree.generation();
    last.count = 0;
  }
  signal.repaired = ++last.count <= kMaxSpurious;
  signal.code = abi::kSegvAccerr;
  if (!signal.repaired) last.count = 0;
  return signal;
}

bool MemoryManager::Impl::IsGuestRange(GuestAddr address, uint64_t length) const {
  const std::optional<GuestAddr> end = address.Plus(length);
  return end && address >= guest_range.start && *end <= guest_range.end;
}

bool MemoryManager::Impl::Repair(GuestAddr address) {
  MutexLock lock(mu);
  return tree.Find(address.value) == nullptr && GrowStackLocked(address.value);
}

size_t MemoryManager::CopyInPartial(GuestAddr from, absl::Span<char> to) {
  // Sizes that would leave the guest's range are cut: the rest faults.
  size_t size = to.size();
  if (!impl_->IsGuestRange(from, size)) {
    if (!impl_->IsGuestRange(from, 1)) return 0;
    size = std::min<uint64_t>(size, impl_->guest_range.end - from);
  }
  size_t done = 0;
  while (done < size) {
    done += space_->CopyIn(from + done, to.subspan(done, size - done));
    if (done >= size || !impl_->Repair(from + done)) break;
  }
  return done;
}

size_t MemoryManager::CopyOutPartial(GuestAddr to, absl::Span<const char> from) {
  size_t size = from.size();
  if (!impl_->IsGuestRange(to, size)) {
    if (!impl_->IsGuestRange(to, 1)) return 0;
    size = std::min<uint64_t>(size, impl_->guest_range.end - to);
  }
  size_t done = 0;
  // Less than a page is nearly always of a page that is there.
  const bool watched = size >= kPageSize && impl_->headroom != nullptr && impl_->headroom->limited();
  while (done < size) {
    const size_t part = watched ? std::min(size - done, kPopulateStep) : size - done;
    if (watched && !impl_->MakePages(to + done, part)) break;
    const size_t copied = space_->CopyOut(to + done, from.subspan(done, part));
    done += copied;
    if (done >= size || (copied < part && !impl_->Repair(to + done))) break;
  }
  return done;
}

// A page that is missing when the sentry copies is allocated by the sentry's call, in the guest's
// name. Where the memory limit does not allow that the host's OOM killer ends a guest process, the
// largest; if it is this one, its memory cannot be freed before our call returns, which waits for
// memory to be freed: one innocent process after another is ended. A process that allocates for
// itself dies of that at once.
bool MemoryManager::Impl::MakePages(GuestAddr to, size_t length) {
  if (!headroom->IsShort(length)) return true;
  MapOp op;
  op.kind = MapOp::Kind::kPopulate;
  op.protection = platform::kProtWrite;
  op.addr = GuestAddr(PageRoundDown(to.value));
  op.length = PageRoundUp(to.value + length) - op.addr.value;
  // No mapping changes, so the lock is not needed; the platform has its own. Other failures (no
  // MADV_POPULATE_WRITE before Linux 5.14, a page that is not there) are the copy's to find.
  Result<void> made = ApplyOne(op);
  return made.ok() || made.error() != Errno::kEIO;
}

Result<void> MemoryManager::CopyIn(GuestAddr from, absl::Span<char> to) {
  if (!to.empty() && !impl_->IsGuestRange(from, to.size())) return Errno::kEFAULT;
  if (CopyInPartial(from, to) != to.size()) return Errno::kEFAULT;
  return {};
}

Result<void> MemoryManager::CopyOut(GuestAddr to, absl::Span<const char> from) {
  if (!from.empty() && !impl_->IsGuestRange(to, from.size())) return Errno::kEFAULT;
  if (CopyOutPartial(to, from) != from.size()) return Errno::kEFAULT;
  return {};
}

Result<std::string> MemoryManager::CopyInString(GuestAddr from, size_t max) {
  std::string out;
  char page[kPageSize];
  GuestAddr at = from;
  for (;;) {
    // To the end of the page and no further: the next page may not exist.
    size_t want = kPageSize - at.value % kPageSize;
    want = std::min(want, max + 1 - out.size());
    size_t got = CopyInPartial(at, absl::Span<char>(page, want));
    if (got == 0) return Errno::kEFAULT;
    if (const void* nul = memchr(page, 0, got); nul != nullptr) {
      out.append(page, static_cast<const char*>(nul) - page);
      return out;
    }
    if (got < want) return Errno::kEFAULT;
    out.append(page, got);
    if (out.size() > max) return Errno::kENAMETOOLONG;
    at = at + got;
  }
}

bool MemoryManager::MayWrite(GuestAddr to, uint64_t length) const {
  if (!impl_->IsGuestRange(to, length)) return false;
  MutexLock lock(impl_->mu);
  const Vma* vma = impl_->tree.Find(to.value);
  return vma != nullptr && (vma->protection & abi::kProtWrite) != 0 && to.value + length <= vma->end;
}

size_t MemoryManager::CopyInForced(GuestAddr from, absl::Span<char> to) {
  size_t done = 0;
  for (;;) {
    done += CopyInPartial(from + done, to.subspan(done));
    if (done >= to.size() || !impl_->IsGuestRange(from + done, 1)) return done;
    // PROT_NONE (all else is readable): made readable for the time of the copy. Guest threads
    // could notice, but only by reading what they had protected from themselves.
    MutexLock lock(impl_->mu);
    uint64_t at = from.value + done;
    const Vma* vma = impl_->tree.Find(at);
    if (vma == nullptr || vma->protection != 0 || vma->has(kVmaSpecial)) return done;
    size_t want = std::min<uint64_t>(to.size() - done, vma->end - at);
    MapOp op;
    op.kind = MapOp::Kind::kProtect;
    op.protection = platform::kProtRead;
    op.addr = GuestAddr(PageRoundDown(at));
    op.length = PageRoundUp(at + want) - op.addr.value;
    if (!impl_->ApplyOne(op).ok()) return done;
    size_t got = space_->CopyIn(from + done, to.subspan(done, want));
    op.protection = platform::kProtNone;
    // It fails only where the stub is gone, and then nobody reads there.
    if (!impl_->ApplyOne(op).ok()) return done;
    done += got;
    if (got < want) return done;
  }
}

size_t MemoryManager::CopyOutForced(GuestAddr to, absl::Span<const char> from) {
  size_t done = 0;
  while (done < from.size()) {
    if (!impl_->IsGuestRange(to + done, 1)) break;
    MutexLock lock(impl_->mu);
    const Vma* vma = impl_->tree.Find(to.value + done);
    if (vma == nullptr) break;
    size_t want = std::min<uint64_t>(from.size() - done, vma->end - (to.value + done));
    absl::Span<const char> part = from.subspan(done, want);
    size_t got = 0;
    if ((vma->protection & abi::kProtWrite) != 0) {
      got = space_->CopyOut(to + done, part);
    } else if (!vma->shared()) {  // FOLL_FORCE breaks copy-on-write, never a shared mapping.
      got = space_->CopyOutForced(to + done, part);
    }
    done += got;
    if (got < want) break;
  }
  return done;
}

Result<uint32_t> MemoryManager::Load32(GuestAddr addr) {
  if (addr.value % 4 != 0 || !impl_->IsGuestRange(addr, 4)) return Errno::kEFAULT;
  Result<uint32_t> value = space_->Load32(addr);
  if (!value.ok() && impl_->Repair(addr)) value = space_->Load32(addr);
  return value;
}

Result<uint32_t> MemoryManager::CompareExchange32(GuestAddr addr, uint32_t expected,
                                                  uint32_t desired) {
  if (addr.value % 4 != 0 || !impl_->IsGuestRange(addr, 4)) return Errno::kEFAULT;
  Result<uint32_t> value = space_->CompareExchange32(addr, expected, desired);
  if (!value.ok() && impl_->Repair(addr))
    value = space_->CompareExchange32(addr, expected, desired);
  return value;
}

Result<MemoryManager::FutexKey> MemoryManager::GetFutexKey(GuestAddr addr, bool private_hint) {
  if (!impl_->IsGuestRange(addr, 4)) return Errno::kEFAULT;
  FutexKey key;
  key.object = this;
  key.offset = addr.value;
  if (private_hint) return key;
  MutexLock lock(impl_->mu);
  const Vma* vma = impl_->tree.Find(addr.value);
  if (vma == nullptr && impl_->GrowStackLocked(addr.value)) vma = impl_->tree.Find(addr.value);
  if (vma == nullptr) return Errno::kEFAULT;
  if (!vma->shared() || !vma->file) return key;
  key.offset = vma->OffsetAt(addr.value);
  if (vma->file->inode() != nullptr) {
    key.object = vma->file->inode();
    key.hold = vma->file->inode_ref();
  } else {
    key.object = vma->file.get();
    key.hold_file = vma->file;
  }
  return key;
}

}  // namespace caisson::mm
