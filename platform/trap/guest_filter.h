// The second seccomp filter, of guest threads only.
#ifndef CAISSON_PLATFORM_TRAP_GUEST_FILTER_H_
#define CAISSON_PLATFORM_TRAP_GUEST_FILTER_H_

#include <vector>

#include "platform/stub/filter.h"

namespace caisson::platform::trap {

// From the blob a guest thread may call rt_sigreturn, and futex to wait and wake on a slot; with `notify`
// also what IsFreeHostCall() says, and close kHostCallFd. Any other call, from wherever, goes to the sentry: as a notification, or, with `notify` false and where all
// registers are needed, as SIGSYS. Also allowed from the blob without notifications: exit, which
// ends the thread.
std::vector<stub::BpfInstruction> GuestFilter(bool notify);

// Calls that change mappings: they come as SIGSYS too, since a thread in the handler can make host
// calls, but their sites are patched.
bool ChangesMappings(uint32_t number);

// Host calls that a guest may as well make itself, as it can only harm itself by them: what was its own
// memory is no memory, or zeros (README.md).
bool IsFreeHostCall(uint64_t number, const uint64_t (&args)[6]);

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_GUEST_FILTER_H_
