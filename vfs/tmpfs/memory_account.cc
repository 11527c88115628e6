#include "vfs/tmpfs/memory_account.h"

namespace caisson::vfs::tmpfs {

bool MemoryAccount::Charge(uint64_t bytes) {
  const uint64_t limit = limit_.load(std::memory_order_relaxed);
  uint64_t now = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit || now > limit - bytes) return false;
  } while (!used_.compare_exchange_weak(now, now + bytes, std::memory_order_relaxed));
  if (HasRoom(bytes)) return true;
  Uncharge(bytes);
  return false;
}

bool MemoryAccount::HasRoom(uint64_t bytes) const {
  if (headroom_ == nullptr || !headroom_->IsShort(bytes)) return true;
  const uint64_t limit = limit_.load(std::memory_order_relaxed);
  const uint64_t held = headroom_->shared_bytes();
  return bytes <= limit && held <= limit - bytes;
}

uint64_t MemoryAccount::available() const {
  const uint64_t limit = limit_.load(std::memory_order_relaxed), now = used();
  return now < limit ? limit - now : 0;
}

}  // namespace caisson::vfs::tmpfs
