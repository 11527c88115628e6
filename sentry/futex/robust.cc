// What the end of a task does to futexes (Linux kernel/futex/core.c, exit_robust_list()).
#include "abi/futex.h"
#include "sentry/futex/futex.h"

namespace caisson::futex {

namespace {

template <typename T>
bool Read(mm::MemoryManager& mm, GuestAddr from, T* to) {
  return mm.CopyIn(from, {reinterpret_cast<char*>(to), sizeof(T)}).ok();
}

}  // namespace

// False if the list cannot be walked further.
bool FutexManager::HandleDeath(mm::MemoryManager& mm, GuestAddr addr, int32_t tid, bool pi,
                               bool pending) {
  if (addr.value % 4 != 0) return false;
  for (;;) {
    Result<uint32_t> value = mm.Load32(addr);
    if (!value.ok()) return false;
    uint32_t word = value.value();
    // It died between unlocking in user space and the wake call (see the comment in Linux).
    if (pending && !pi && (word & abi::kFutexTidMask) == 0) {
      (void)Wake({mm, addr, false}, 1).ok();
      return true;
    }
    if ((word & abi::kFutexTidMask) != static_cast<uint32_t>(tid)) return true;
    uint32_t dead = (word & abi::kFutexWaiters) | abi::kFutexOwnerDied;
    Result<uint32_t> old = mm.CompareExchange32(addr, word, dead);
    if (!old.ok()) return false;
    if (old.value() != word) continue;
    // Waiters of a PI futex are woken by ExitPi().
    if (!pi && (word & abi::kFutexWaiters) != 0) (void)Wake({mm, addr, false}, 1).ok();
    return true;
  }
}

void FutexManager::ExitRobustList(mm::MemoryManager& mm, GuestAddr head, int32_t tid) {
  abi::RobustListHead list;
  if (head.is_null() || !Read(mm, head, &list)) return;
  const uint64_t offset = static_cast<uint64_t>(list.futex_offset);  // Sums wrap, as in Linux.
  const uint64_t pending = list.list_op_pending;
  uint64_t entry = list.next;
  // The list is the guest's: it may be endless.
  for (int limit = abi::kRobustListLimit; limit > 0 && (entry & ~uint64_t{1}) != head.value;
       --limit) {
    uint64_t next = 0;
    const uint64_t node = entry & ~uint64_t{1};
    bool readable = Read(mm, GuestAddr(node), &next);
    // The pending one comes last.
    if (node != (pending & ~uint64_t{1}) &&
        !HandleDeath(mm, GuestAddr(node + offset), tid, (entry & 1) != 0, false))
      return;
    if (!readable) return;
    entry = next;
  }
  if (pending != 0)
    HandleDeath(mm, GuestAddr((pending & ~uint64_t{1}) + offset), tid, (pending & 1) != 0, true);
}

void FutexManager::ClearChildTid(mm::MemoryManager& mm, GuestAddr addr) {
  if (addr.is_null()) return;
  const uint32_t zero = 0;
  // Linux ignores failures: the address is the guest's own affair.
  if (mm.CopyOut(addr, {reinterpret_cast<const char*>(&zero), sizeof(zero)}).ok())
    (void)Wake({mm, addr, false}, 1).ok();
}

}  // namespace caisson::futex
