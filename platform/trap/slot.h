// What one guest thread and the sentry's thread that runs it say to each other: the slot, which both
// write, and the thread page, which only the sentry writes. README.md has the protocol.
#ifndef CAISSON_PLATFORM_TRAP_SLOT_H_
#define CAISSON_PLATFORM_TRAP_SLOT_H_

#include <cstddef>
#include <cstdint>

#include "platform/stub/layout.h"

namespace caisson::platform::trap {

// Where slot and thread page `index` are in a stub. A slot is aligned to its size, so code that runs
// on its stack finds it from the stack pointer.
constexpr uint64_t SlotAddress(size_t index) { return stub::kSlotAddr + index * stub::kSlotSize; }
constexpr uint64_t ThreadPageAddress(size_t index) {
  return stub::kThreadPageAddr + index * kPageSize;
}
// In the stub: thread page address = kThreadPageAddr + ((slot address - kSlotAddr) >> 2).
static_assert(stub::kSlotSize / kPageSize == 4);

// Slot::state: one word, changed by exchange or compare-exchange only, so that no wake-up is lost.
// The lowest byte says whose turn it is:
inline constexpr uint32_t kGuest = 0;  // The guest thread runs, or may go on.
inline constexpr uint32_t kCall = 1;   // A system call of a patched site: Slot::registers are valid.
inline constexpr uint32_t kTrap = 2;   // A signal frame is on the slot's stack: `trap` is valid.
inline constexpr uint32_t kHost = 3;   // From either of these: the thread makes the page's host calls.
inline constexpr uint32_t kTurnMask = 0xff;
// With kGuest and kHost: the sentry sleeps, so whoever replaces this value rings.
inline constexpr uint32_t kParked = 0x100;
// With kCall and kTrap: the guest thread sleeps, so the sentry rings when it replaces this value.
inline constexpr uint32_t kSleeping = 0x200;

// The registers of a patched call. What is not here (FP state, fs and gs base) stays in the thread;
// the sentry gets it by a signal, whose frame has it.
struct alignas(64) CallRegisters {
  // One cache line: all that most calls need.
  uint64_t rax, rdi, rsi, rdx, r10, r8, r9;
  uint64_t rip;  // After the `syscall` instruction that was replaced.
  // The second.
  uint64_t rbx, rbp, rsp, r12, r13, r14, r15;
  uint64_t rflags;
};
static_assert(sizeof(CallRegisters) == 128);

// Slot::copies: the extended state, in the slot's last page, is loaded; or it is stored there and the call
// handed over once more. Or rcx and r11 are loaded from the slot: else they are what `syscall` leaves there.
inline constexpr uint32_t kLoadFp = 0x40000000, kSaveFp = 0x80000000, kAllRegisters = 0x20000000;
// Or a large copy is made (bulk_copy.cc), and the call handed over once more.
inline constexpr uint32_t kBulkCopy = 0x10000000;

// Bytes of the last page that the trampoline stores.
struct CopyOutRecord {
  uint64_t to;
  uint32_t length;
  uint32_t offset;  // In the slot.
};
inline constexpr size_t kMaxCopiesOut = 8;
inline constexpr size_t kMaxCopiedString = 256;  // With what is before it in its 8 bytes.

// Everything here can be written by any guest thread of the stub at any time: the sentry copies a
// value once, then checks it.
struct Slot {
  alignas(64) uint32_t state;
  // What the trampoline does before it goes on, the sentry's: a number of copy_out records to store, or
  // kSaveFp, or kBulkCopy, or kLoadFp and kAllRegisters.
  uint32_t copies;
  uint64_t rcx, r11;  // kAllRegisters.
  uint32_t unused[10];
  CallRegisters registers;

  // kTrap. Addresses on the slot's stack, as the kernel passed them to the handler.
  alignas(64) uint64_t siginfo;
  uint64_t ucontext;
  uint64_t fs_base, gs_base;   // Read by the handler and, when it returns, set by it.
  uint32_t interrupted_state;  // `state` when the handler began (a signal inside the trampoline).
  uint32_t unused2;

  // Written once by the sentry (InitSlot), for the trampoline: it cannot do arithmetic without
  // changing flags, and a gs base is a slot's if this and it add up to zero.
  alignas(64) uint64_t minus_self;
  uint64_t thread_page;

  // Calls that the trampoline has answered itself, for Platform::Counters().
  uint64_t answered;

  // At start: the number of the listener's descriptor in the stub, plus one; 0: none yet; negative:
  // the host's error.
  alignas(64) int32_t listener;

  // kHost, when it is done: what the last call returned, and how many from that on were not carried
  // out, or failed.
  alignas(64) int64_t host_result;
  uint32_t host_left;

  // Copies that go along with a patched call (copies.h). The bytes are in the slot's last page: first those
  // that came in, which the sentry takes out at once, then those of copy_out.
  alignas(64) uint64_t copied_in;  // Valid for calls that have a CopyRule.
  CopyOutRecord copy_out[kMaxCopiesOut];

  // kBulkCopy: addresses in the stub.
  alignas(64) uint64_t bulk_to;
  uint64_t bulk_from, bulk_length;
};

// Before the slot's thread starts; `slot` is the sentry's mapping of it.
inline void InitSlot(Slot* slot, size_t index) {
  slot->minus_self = ~SlotAddress(index) + 1;
  slot->thread_page = ThreadPageAddress(index);
  slot->copies = 0;
}

// The parts of a slot: the struct; the alternate signal stack; a page for copies.
inline constexpr size_t kStackOffset = kPageSize;
inline constexpr size_t kStackSize = 2 * kPageSize;
inline constexpr size_t kCopyOffset = 3 * kPageSize;
inline constexpr size_t kCopySize = kPageSize;
inline constexpr size_t kMaxCopyIn = kCopySize;
static_assert(sizeof(Slot) <= kStackOffset);
static_assert(kCopyOffset + kCopySize == stub::kSlotSize);

// A call that the sentry asks a stopped thread to make (host_calls.h).
struct HostCall {
  uint64_t number;
  uint64_t args[6];
  uint64_t free;  // Whether it is made without telling (IsFreeHostCall()).
};
inline constexpr size_t kMaxHostCalls = 8;
// The descriptor of host calls that map a file; none of the worker's.
inline constexpr uint32_t kHostCallFd = stub::kThreadFd;

// Written by the sentry, mapped read-only from a sealed memfd in the stub (docs/platform.md 9).
struct ThreadPage {
  // For sigaltstack(2): struct stack_t.
  uint64_t stack_address;
  uint32_t stack_flags;
  uint32_t unused;
  uint64_t stack_size;
  uint64_t signal_mask;  // Of guest code, and of the thread when it starts.

  // Spinning (README.md): cycles of the time stamp counter that the thread waits for kGuest before
  // it sleeps. 0: it rings and sleeps at once.
  alignas(64) uint32_t spin_cycles;

  // Answers that the trampoline gives itself, if `answers` is not 0 (docs/platform.md 10). The sentry
  // turns them off by clearing it, and keeps them true while it is set.
  alignas(64) uint32_t answers;
  uint32_t pid, tid, uid, euid, gid, egid;
  uint32_t zero;
  // Where the counts of waiters are (WaiterCell()); 0: nowhere. While a cell is 0, FUTEX_WAKE of a private
  // word that it counts for wakes nobody.
  alignas(8) uint64_t waiters;
  uint32_t answered_unused[22];

  // For kHost.
  alignas(64) uint32_t host_count;
  uint32_t host_rings;   // Not 0: the sentry believes only a notification that they are done.
  uint32_t host_closes;  // Not 0: kHostCallFd is closed afterwards.
  uint32_t host_asks;    // Not 0: the thread rings before them, and gets kHostCallFd as the answer.
  HostCall host_calls[kMaxHostCalls];
};
static_assert(sizeof(ThreadPage) <= kPageSize);
// The index of ThreadPage::zero among the answers.
inline constexpr uint32_t kZeroAnswer = (offsetof(ThreadPage, zero) - offsetof(ThreadPage, pid)) / sizeof(uint32_t);

// The page of counts in a stub, uint32_t each, by which a futex word's waiters are counted.
inline constexpr size_t kWaiterCells = kPageSize / sizeof(uint32_t);
constexpr size_t WaiterCell(uint64_t address) { return address / 4 % kWaiterCells; }

// What the blob rings with, where there is a listener: a notification with this number from an
// instruction of the blob. It is never carried out.
inline constexpr uint32_t kDoorbell = 39;  // getpid(2).

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_SLOT_H_
