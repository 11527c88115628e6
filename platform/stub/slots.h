// The pages and the socket that the sentry shares with one stub.
#ifndef CAISSON_PLATFORM_STUB_SLOTS_H_
#define CAISSON_PLATFORM_STUB_SLOTS_H_

#include <cstddef>

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
  UniqueFd socket;
  ControlPage* control() const { return static_cast<ControlPage*>(control_mapping.get()); }
  // Of guest thread `index`, for platforms that use them.
  void* thread_page(size_t index) const {
    return static_cast<char*>(control_mapping.get()) + (1 + index) * kPageSize;
  }
  void* thread_slot(size_t index) const {
    return static_cast<char*>(result_mapping.get()) + kResultPages * kPageSize + index * kSlotSize;
  }
  // Written by the guest at any time: copy once, then check.
  volatile ResultPage* result() const {
    return static_cast<volatile ResultPage*>(result_mapping.get());
  }
};

// The stub's side: sent to it, then closed here.
struct StubEnd {
  UniqueFd socket;
  UniqueFd control;  // Sealed: can be mapped for reading only (docs/platform.md 9).
  UniqueFd result;   // Cannot shrink, so that the worker never gets a SIGBUS on it.
};

struct SlotPair {
  Slots sentry;
  StubEnd stub;
};

// Errors: ENOMEM, EMFILE, ENFILE; ENOSYS where the host lacks memfd seals.
Result<SlotPair> MakeSlots();

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_SLOTS_H_
