#include "gofer/server/handle_table.h"

#include "gofer/protocol/messages.h"

namespace caisson::gofer {

HandleTable::HandleTable(RefPtr<Object> root, size_t limit) : limit_(limit) {
  slots_.resize(2);
  slots_[kRootHandle].object = std::move(root);
}

uint64_t HandleTable::Insert(RefPtr<Object> object) {
  MutexLock lock(mu_);
  uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    if (slots_.size() > limit_) return 0;
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  }
  Slot& slot = slots_[index];
  ++slot.generation;
  slot.object = std::move(object);
  return uint64_t{slot.generation} << 32 | index;
}

RefPtr<Object> HandleTable::Get(uint64_t handle) const {
  uint32_t index = static_cast<uint32_t>(handle);
  MutexLock lock(mu_);
  if (index >= slots_.size() || slots_[index].generation != handle >> 32) return nullptr;
  return slots_[index].object;
}

void HandleTable::Release(uint64_t handle) {
  uint32_t index = static_cast<uint32_t>(handle);
  RefPtr<Object> released;  // Closed outside the lock.
  MutexLock lock(mu_);
  if (handle == kRootHandle || index >= slots_.size() || !slots_[index].object ||
      slots_[index].generation != handle >> 32)
    return;
  released = std::move(slots_[index].object);
  free_.push_back(index);
}

}  // namespace caisson::gofer
