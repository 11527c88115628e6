#include "auth/user_counts.h"

namespace caisson::auth {

bool UserCounts::Add(Kind kind, uint64_t n, uint64_t limit) {
  uint64_t now = counts_[kind].load(std::memory_order_relaxed);
  do {
    if (n > limit || now > limit - n) return false;
  } while (!counts_[kind].compare_exchange_weak(now, now + n, std::memory_order_relaxed));
  return true;
}

UserCounts::~UserCounts() {
  MutexLock lock(table_.mu_);
  auto it = table_.users_.find(uid_);
  if (it != table_.users_.end() && it->second == this) table_.users_.erase(it);
}

RefPtr<UserCounts> UserTable::Get(uint32_t uid) {
  MutexLock lock(mu_);
  UserCounts*& slot = users_[uid];
  // One that is ending has not left the table yet: a new one takes its place.
  if (slot != nullptr && slot->TryIncRef()) return RefPtr<UserCounts>::Adopt(slot);
  slot = new UserCounts(*this, uid);
  return RefPtr<UserCounts>::Adopt(slot);
}

}  // namespace caisson::auth
