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
  uint64_t handler = 0;     // Of a guest thread's signals, if there is one.
};

// What a platform adds for its guest threads, at kThreadBlobAddr.
struct ThreadCode {
  std::string code;
  // Where a new guest thread starts, with r9 and r8 as CloneThread() says; 0: it parks.
  uint64_t start = 0;
  // r9 and r8 of the ready thread.
  uint64_t ready_r9 = 0, ready_r8 = 0;
  // Handler of a guest thread's signals, on its alternate stack; 0: none. Not the worker's: it
  // goes to `fault` if it is not on such a stack.
  uint64_t handler = 0;
};

// `xfeatures`: the XSAVE components that a guest may use, set to their initial state at entry so
// that nothing of the sentry's registers is left.
Blob GenerateBlob(uint64_t xfeatures, const ThreadCode& threads = {});

// clone(2) flags of guest threads and of stubs, also for the filter.
extern const uint64_t kCloneThreadFlags;
extern const uint64_t kCloneStubFlags;

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_BLOB_H_
