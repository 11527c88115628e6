#include "vfs/dentry_cache.h"

#include <utility>

namespace caisson::vfs {

void DentryCache::Insert(RefPtr<Dentry> dentry) {
  MutexLock lock(mu_);  // Released before `dentry`, which may hold the evicted one, goes.
  if (!enabled_ || dentry->cache_slot_ != kNoSlot) return;
  if (slots_.size() < kCapacity) {
    dentry->cache_slot_ = slots_.size();
    slots_.push_back(std::move(dentry));
    return;
  }
  for (int tries = 0; tries < 64; ++tries) {
    if (!slots_[hand_]->recently_used_.exchange(false, std::memory_order_relaxed)) break;
    hand_ = (hand_ + 1) % kCapacity;
  }
  slots_[hand_]->cache_slot_ = kNoSlot;
  dentry->cache_slot_ = hand_;
  std::swap(slots_[hand_], dentry);
  hand_ = (hand_ + 1) % kCapacity;
}

void DentryCache::Remove(Dentry& dentry) {
  RefPtr<Dentry> dropped;
  MutexLock lock(mu_);
  size_t slot = std::exchange(dentry.cache_slot_, kNoSlot);
  if (slot == kNoSlot) return;
  dropped = std::move(slots_[slot]);
  if (slot + 1 != slots_.size()) {
    slots_[slot] = std::move(slots_.back());
    slots_[slot]->cache_slot_ = slot;
  }
  slots_.pop_back();
  if (hand_ >= slots_.size()) hand_ = 0;
}

void DentryCache::Clear() {
  std::vector<RefPtr<Dentry>> dropped;
  MutexLock lock(mu_);
  for (RefPtr<Dentry>& d : slots_) d->cache_slot_ = kNoSlot;
  dropped.swap(slots_);
  hand_ = 0;
}

void DentryCache::set_enabled(bool enabled) {
  MutexLock lock(mu_);
  enabled_ = enabled;
}

}  // namespace caisson::vfs
