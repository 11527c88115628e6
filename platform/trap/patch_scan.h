// Call sites, and how they can be patched.
#ifndef CAISSON_PLATFORM_TRAP_PATCH_SCAN_H_
#define CAISSON_PLATFORM_TRAP_PATCH_SCAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/types/span.h"

namespace caisson::platform::trap {

inline constexpr size_t kSyscallSize = 2;  // 0f 05.
inline constexpr size_t kJumpSize = 5;     // e9 and 32 bits.

// How a `syscall` instruction is replaced by a jump to its stub.
struct SitePlan {
  // Else the jump is in place of the `mov` that loads the call's number, and the `syscall` stays:
  // who jumps to it, or stands before it, traps as before. If set, the `syscall` itself becomes a
  // short jump to the jump, which is in padding nearby: a hop.
  bool hop = false;
  size_t jump = 0;  // Where its first byte is, in the page.
  // Instructions between a short `mov` and the `syscall`, in bytes: the stub has them too, and they stay
  // where they are.
  size_t carried = 0;
};

inline constexpr size_t kMaxCarried = 24;

// For the `syscall` instruction at page[at], which has just made call `number`; null if it cannot be
// patched within this page.
//
// In place of the `mov`: mov eax, imm32 or mov rax, imm32 stands right before the call, is an
// instruction of its own as far as the bytes before it tell, and loads the number that was called.
// Only sites that were executed are asked about, so data is never taken for code. Between the `mov` and the
// call there may be instructions of a few kinds that change registers only, and neither use nor change rax
// and rsp: compilers put the operation's flags there (`xor sil, 0x81` of glibc's futex calls).
//
// A hop goes into the five zeros (SIB byte and displacement) at the end of an unused
// `0f 1f 84 00 00 00 00 00`, the no-operation that pads most code. Such an instruction does nothing
// whatever these bytes are: who runs through it, or stands before it, sees no difference, so it does not
// matter if anybody does, nor with which prefixes. That these eight bytes are anything else, so near to
// a call, is left out of account. Or it goes where five or more int3 fill up to the alignment of a
// function behind a `ret` or ud2 (Go): they are not executed.
std::optional<SitePlan> PlanSite(absl::Span<const char> page, size_t at, uint32_t number);

// Calls that need more of the thread than a patched site saves, or that do not come back.
bool IsPatchableCall(uint32_t number);

// `offset` is counted from behind the jump.
void PatchSite(absl::Span<char> page, size_t at, const SitePlan& plan, int32_t offset);

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_PATCH_SCAN_H_
