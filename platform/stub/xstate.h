// The extended (FP, vector) state of a guest thread: XSAVE's standard layout, as in signal frames
// and in the kernel's NT_X86_XSTATE register set.
#ifndef CAISSON_PLATFORM_STUB_XSTATE_H_
#define CAISSON_PLATFORM_STUB_XSTATE_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace caisson::platform::stub {

// The component of protection key rights.
inline constexpr uint64_t kPkru = uint64_t{1} << 9;

struct XstateInfo {
  uint64_t features = 0;  // XCR0 less AMX, whose permission is never asked for.
  size_t size = 0;        // Bytes that those features need.
  uint32_t mxcsr_mask = 0;
  size_t host_size = 0;   // Of the host's register set, which may have AMX too.
  size_t pkru_offset = 0;  // Of PKRU's component; 0: there is none.
  bool knows_in_use = false;  // xgetbv of 1 tells which components are not in their initial state.
};

// Of this CPU. features is 0 without XSAVE.
const XstateInfo& HostXstate();

// The state after exec. `out` has at least HostXstate().size bytes; the rest is zeroed.
void InitialXstate(absl::Span<char> out);

// Whether a guest may load `state`, of HostXstate().size bytes: no component or header bit that it
// must not have, no MXCSR bit that faults (Intel SDM vol. 1, 13.4.2 and 11.6.6).
bool XstateIsValid(absl::Span<const char> state);

// Whether `state` takes its own memory from a thread: PKRU forbids access to, or writing of, key 0. Blob code that
// has loaded it could not go on.
bool DeniesOwnMemory(absl::Span<const char> state);

// Copies `from` as far as it is loaded: no component that is in its initial state. Both have HostXstate().size;
// `from` may change meanwhile, and is read once.
void CopyXstate(absl::Span<char> to, absl::Span<const char> from);

// Of a state that the host has written: clears what is not a guest's to see.
void SanitizeXstate(absl::Span<char> state);

// AT_MINSIGSTKSZ for a guest: the largest signal frame.
uint64_t MinSignalStack();

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_XSTATE_H_
