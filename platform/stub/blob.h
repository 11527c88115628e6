// The code that runs in a stub beside the guest's: worker, start of a child, parking and ending of
// guest threads. Generated once, mapped read-only and executable at kBlobAddr.
#ifndef CAISSON_PLATFORM_STUB_BLOB_H_
#define CAISSON_PLATFORM_STUB_BLOB_H_

#include <cstdint>
#include <string>

namespace caisson::platform::stub {

struct Blob {
  std::string code;         // At most kBlobSize bytes.
  // Addresses in a stub.
  uint64_t entry = 0;       // Where the zygote starts: unmaps everything below, becomes a worker.
  uint64_t fault = 0;       // Handler of the worker's SIGSEGV and SIGBUS.
  uint64_t restorer = 0;    // rt_sigreturn.
  uint64_t exit_thread = 0; // Ends the calling thread.
  uint64_t park = 0;        // Where a new guest thread waits for its tracer.
};

// `xfeatures`: the XSAVE components that a guest may use, set to their initial state at entry so
// that nothing of the sentry's registers is left.
Blob GenerateBlob(uint64_t xfeatures);

// clone(2) flags of guest threads and of stubs, also for the filter.
extern const uint64_t kCloneThreadFlags;
extern const uint64_t kCloneStubFlags;

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_BLOB_H_
