// Where a patched call site goes: code of the thread blob that hands a system call to the sentry by
// the slot, without a host call if the sentry is quick (README.md).
#ifndef CAISSON_PLATFORM_TRAP_TRAMPOLINE_H_
#define CAISSON_PLATFORM_TRAP_TRAMPOLINE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "platform/trap/call_rules.h"

namespace Xbyak {
class CodeGenerator;
}

namespace caisson::platform::trap {

// What a site's stub hands over: r11 points to it, everything else is the guest's. With a hop: rcx does,
// r11 is the slot, whose gs base has been checked, and rax the number.
struct SiteRecord {
  uint32_t number;        // Of the call.
  int32_t return_offset;  // From this record to behind the site's `syscall` instruction.
};
static_assert(sizeof(SiteRecord) == 8);
// How far before the record of a site with a hop its stub's `syscall` is.
inline constexpr uint64_t kRecordToEscape = 28;

// Addresses in a stub; ranges are [a, b).
struct Trampoline {
  // Where a site jumps to: kEntries addresses, by EntryFor(number), or kHopEntry.
  static constexpr size_t kEntries = 2 + kAnsweredCalls.size();
  std::array<uint64_t, kEntries> entries{};
  uint64_t begin = 0;
  // Before the exchange of `state` no register of the guest but rax, rcx and r11 has been changed,
  // nor flags; in [*_swapped, ...) rsp is in the slot and the guest's is in CallRegisters.
  uint64_t answered = 0;          // [answered, answered_end): rax and rcx hold what the call leaves.
  uint64_t answered_swapped = 0;
  uint64_t answered_counted = 0;  // From here on, and in [finish_counted, restore), Slot::answered counts it.
  uint64_t answered_end = 0;
  uint64_t call_swapped = 0;      // [call_swapped, committed).
  uint64_t copy_in = 0;           // [copy_in, committed): CallRegisters are complete.
  uint64_t copy_in_failed = 0;    // In it: where a copy that faults goes on, with nothing copied.
  // The same for sites with a hop. In [any, any_saved) rcx is the record and rax the number, from any_rax
  // on only in CallRegisters; in [any_saved, any_end) and [finish, restore) these are complete.
  uint64_t any = 0, any_swapped = 0, any_rax = 0, any_saved = 0, any_end = 0, finish = 0, finish_counted = 0;
  uint64_t committed = 0;         // The sentry has the call: [committed, end).
  // Of that, [copy_out, copy_out_end) stores Slot::copy_out. r9 records are left, of the present one
  // nothing is stored before `store`, an instruction that has rcx bytes left, and all behind it; it is no
  // longer counted from `counted` on. In [restore, restore_end) all is stored.
  uint64_t copy_out = 0, copy_out_next = 0, copy_out_store = 0, copy_out_stored = 0;
  uint64_t copy_out_counted = 0, copy_out_end = 0;
  uint64_t bulk_move = 0;  // The instruction of kBulkCopy that has rcx bytes left.
  uint64_t restore = 0, restore_end = 0;
  // kLoadFp has been done in [fp_loaded, fp_loaded_end) and [restore, restore_end).
  uint64_t fp_loaded = 0, fp_loaded_end = 0;
  uint64_t end = 0;
};

// The index into Trampoline::entries.
inline constexpr size_t kHopEntry = Trampoline::kEntries - 1;
size_t EntryFor(uint32_t number);

// What waits for the sentry beyond spinning; emitted inline, may change all registers but rbx (the
// slot) and r12 (the thread page).
struct TrampolineHooks {
  // The sentry sleeps. The thread may sleep too, until something happens.
  std::function<void()> ring;
  // The state is kCall+kSleeping, or no longer kCall. Sleeps until something happens.
  std::function<void()> sleep;
  // The sentry wants host calls (kHost): makes them, and sets `state` to kCall again. None: the
  // sentry never does.
  std::function<void()> host;
  uint64_t xfeatures = 0;  // What kLoadFp and kSaveFp are about (stub::HostXstate()).
  bool knows_in_use = false;  // The CPU tells which of these are in use (xgetbv of 1).
};

// Emits at the current position of `g`, whose first byte will be at `address`.
Trampoline EmitTrampoline(Xbyak::CodeGenerator& g, uint64_t address, const TrampolineHooks& hooks);

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_TRAMPOLINE_H_
