#include "vfs/bounce_buffer.h"

#include <stdlib.h>

#include <array>
#include <atomic>

#include "base/check.h"

namespace caisson::vfs {
namespace {

// As many as there are transfers at once on a small machine; more come and go.
constexpr size_t kKept = 4;
std::array<std::atomic<char*>, kKept> kept;  // Acquire and release: whoever had it last is done with it.

}  // namespace

char* BounceBuffer::TakeLarge() {
  for (std::atomic<char*>& slot : kept) {
    if (slot.load(std::memory_order_relaxed) == nullptr) continue;
    if (char* large = slot.exchange(nullptr, std::memory_order_acq_rel)) return large;
  }
  auto* large = static_cast<char*>(aligned_alloc(4096, kLarge));
  CHECK(large != nullptr);
  return large;
}

void BounceBuffer::GiveBack(char* large) {
  for (std::atomic<char*>& slot : kept) {
    char* none = nullptr;
    if (slot.compare_exchange_strong(none, large, std::memory_order_acq_rel)) return;
  }
  free(large);
}

}  // namespace caisson::vfs
