// The code of guest threads in a stub: their start, and the handler of their signals.
#ifndef CAISSON_PLATFORM_TRAP_BLOB_H_
#define CAISSON_PLATFORM_TRAP_BLOB_H_

#include <cstdint>
#include <vector>

#include "platform/stub/blob.h"
#include "platform/trap/trampoline.h"

namespace caisson::platform::trap {

struct ThreadBlob {
  stub::ThreadCode code;
  // Addresses in a stub.
  uint64_t started = 0;   // The instruction by which a new thread enters the handler.
  std::vector<uint64_t> doorbells;  // What a doorbell's notification can show as instruction pointer.
  // The same of calls that the sentry asks for and is told of (host_calls.cc), and of all that is allowed
  // without (guest_filter.h); 0 without notifications.
  std::vector<uint64_t> host_calls;
  uint64_t gate = 0;
  Trampoline trampoline;
};

// `notify`: threads have a listener, and ring with notifications; else with futex(2). `xfeatures` as
// for stub::GenerateBlob().
ThreadBlob GenerateThreadBlob(bool notify, uint64_t xfeatures);

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_BLOB_H_
