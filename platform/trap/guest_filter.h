// The second seccomp filter, of guest threads only.
#ifndef CAISSON_PLATFORM_TRAP_GUEST_FILTER_H_
#define CAISSON_PLATFORM_TRAP_GUEST_FILTER_H_

#include <vector>

#include "platform/stub/filter.h"

namespace caisson::platform::trap {

// A guest thread may call rt_sigreturn, and futex to wait and wake on a slot, and with notifications also
// what IsFreeHostCall() says, and close kHostCallFd. Any other call, from wherever, goes to the sentry: as a
// notification, or, without them and where all registers are needed, as SIGSYS.
//
// With notifications it may do so from one `syscall` instruction of the blob, the gate, and each thread's own
// filter says no more than that: installing a long one takes three times as long (the kernel compiles it).
// What may be called there, and what traps, is the same for all and so in the base filter
// (GuestFilterParts()), which every stub inherits. The filters of a thread all have their say, and the most
// restrictive wins: the worker's calls, which the base filter allows, are notifications of a guest thread.
std::vector<stub::BpfInstruction> GuestFilter(uint64_t gate);
stub::FilterParts GuestFilterParts(uint64_t gate);

// Without notifications: from anywhere in the blob, and also exit, which ends the thread.
std::vector<stub::BpfInstruction> GuestFilterWithoutNotifications();

// Calls that change mappings: they come as SIGSYS too, since a thread in the handler can make host
// calls, but their sites are patched.
bool ChangesMappings(uint32_t number);

// Host calls that a guest may as well make itself, as it can only harm itself by them: what was its own
// memory is no memory, or zeros (README.md).
bool IsFreeHostCall(uint64_t number, const uint64_t (&args)[6]);

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_GUEST_FILTER_H_
