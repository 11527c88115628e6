// Call sites that can be patched: `mov eax, imm32; syscall`.
#ifndef CAISSON_PLATFORM_TRAP_PATCH_SCAN_H_
#define CAISSON_PLATFORM_TRAP_PATCH_SCAN_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace caisson::platform::trap {

inline constexpr size_t kMovSize = 5;                // mov eax, imm32: b8 and the number.
inline constexpr size_t kSiteSize = kMovSize + 2;    // And syscall: 0f 05.

// Whether the `syscall` instruction at page[at], which has just made call `number`, can be patched:
// its `mov` stands right before it, in the same page, and is an instruction of its own as far as
// the bytes before it tell. Only sites that were executed are asked about, so data is never taken
// for code; the number that was in eax is what the `mov` loads.
bool IsPatchableSite(absl::Span<const char> page, size_t at, uint32_t number);

// Calls that need more of the thread than a patched site saves, or that do not come back.
bool IsPatchableCall(uint32_t number);

// Replaces the `mov` before page[at] by a jump of `offset`, counted from behind the jump. The
// `syscall` stays: who jumps to it, or stands before it, traps as before.
void PatchSite(absl::Span<char> page, size_t at, int32_t offset);

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_PATCH_SCAN_H_
