// The pages and the socket that the sentry shares with one stub.
#ifndef CAISSON_PLATFORM_STUB_SLOTS_H_
#define CAISSON_PLATFORM_STUB_SLOTS_H_

#include <cstddef>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/stub/layout.h"

namespace caisson::platform::stub {

// A mapping of the sentry's, unmapped at the end.
class SharedMapping {
 public:
  SharedMapping() = default;
  SharedMapping(void* address, size_t size) : address_(address), size_(size) {}
  SharedMapping(SharedMapping&& o) noexcept;
  SharedMapping& operator=(SharedMapping&& o) noexcept;
  ~SharedMapping();
  void* get() const { return address_; }

 private:
  void* address_ = nullptr;
  size_t size_ = 0;
};

// The sentry's side.
struct Slots {
  SharedMapping control_mapping;
  SharedMapping result_mapping;
  // Of these pages; closed once the stub has them, but for those that are used again (SlotCache).
  UniqueFd control_fd;  // Sealed: can be mapped for reading only (docs/platform.md 9).
  UniqueFd result_fd;   // Cannot shrink, so that the worker never gets a SIGBUS on it.
  UniqueFd socket;
  ControlPage* control() const { return static_cast<ControlPage*>(control_mapping.get()); }
  // Of guest thread `index`, for platforms that use them.
  void* thread_page(size_t index) const {
    return static_cast<char*>(control_mapping.get()) + (1 + index) * kPageSize;
  }
  void* waiters() const {
    return static_cast<char*>(control_mapping.get()) + (kWaitersAddr - kControlAddr);
  }
  void* thread_slot(size_t index) const {
    return static_cast<char*>(result_mapping.get()) + (kSlotAddr - kResultAddr) + index * kSlotSize;
  }
  char* bulk() const { return static_cast<char*>(result_mapping.get()) + (kBulkAddr - kResultAddr); }
  // Written by the guest at any time: copy once, then check.
  volatile ResultPage* result() const {
    return static_cast<volatile ResultPage*>(result_mapping.get());
  }
};

struct SlotPair {
  Slots sentry;
  UniqueFd stub_socket;  // Sent to the stub, then closed here.
};

// Makes slots, and keeps a few of stubs that have ended for the next ones: making and ending two memfds is
// a good part of a fork. Thread-safe.
class SlotCache {
 public:
  // Errors: ENOMEM, EMFILE, ENFILE; ENOSYS where the host lacks memfd seals.
  Result<SlotPair> Make() ABSL_LOCKS_EXCLUDED(mu_);
  // The stub has them, by its descriptors or by those of its parent.
  static void Sent(Slots& slots);
  // Of a stub that has been reaped: nobody can write to them any more. Nothing of what is in them is
  // seen by another stub.
  void Keep(Slots slots) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Result<Slots> MakePair() ABSL_LOCKS_EXCLUDED(mu_);

  Mutex mu_;  // Innermost.
  std::vector<Slots> spare_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_SLOTS_H_
