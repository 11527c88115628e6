// What each user has of the things that are limited user by user (Linux struct ucounts).
#ifndef CAISSON_AUTH_USER_COUNTS_H_
#define CAISSON_AUTH_USER_COUNTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "base/mutex.h"
#include "base/ref.h"

namespace caisson::auth {

class UserTable;

// Counters of one kernel uid. Thread-safe. Kept alive by what is counted and by tasks.
class UserCounts : public RefCounted<UserCounts> {
 public:
  enum Kind : uint8_t {
    kProcesses,          // RLIMIT_NPROC: tasks, until they are reaped.
    kPendingSignals,     // RLIMIT_SIGPENDING: entries of queues.
    kMessageQueueBytes,  // RLIMIT_MSGQUEUE.
    kNamespaces,         // user.max_*_namespaces, all kinds together.
    kPipePages,          // fs.pipe-user-pages-soft.
    kInotifyInstances, kInotifyWatches,  // fs.inotify.max_user_*.
    kEpollWatches,       // fs.epoll.max_user_watches.
    kKinds,
  };
  ~UserCounts();

  uint32_t uid() const { return uid_; }
  uint64_t Get(Kind kind) const { return counts_[kind].load(std::memory_order_relaxed); }
  // Counts `n` in unless the count would pass `limit`.
  bool Add(Kind kind, uint64_t n, uint64_t limit);
  void AddAlways(Kind kind, uint64_t n) { counts_[kind].fetch_add(n, std::memory_order_relaxed); }
  void Remove(Kind kind, uint64_t n) { counts_[kind].fetch_sub(n, std::memory_order_relaxed); }

 private:
  friend class UserTable;
  UserCounts(UserTable& table, uint32_t uid) : table_(table), uid_(uid) {}
  UserTable& table_;
  const uint32_t uid_;
  std::array<std::atomic<uint64_t>, kKinds> counts_{};  // Relaxed: limits, no ordering.
};

// Of one kernel; outlives all counters. Thread-safe. Weak: a user nobody counts for is forgotten,
// or a guest's root could fill it with every uid there is.
class UserTable {
 public:
  RefPtr<UserCounts> Get(uint32_t uid) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  friend class UserCounts;
  Mutex mu_;  // A leaf.
  std::unordered_map<uint32_t, UserCounts*> users_ ABSL_GUARDED_BY(mu_);
};

// A share of a counter, given back when this ends. Movable.
class UserCharge {
 public:
  UserCharge() = default;
  // Takes over what has been added to `user`.
  UserCharge(RefPtr<UserCounts> user, UserCounts::Kind kind, uint64_t n)
      : user_(std::move(user)), kind_(kind), n_(n) {}
  UserCharge(UserCharge&& o) noexcept
      : user_(std::move(o.user_)), kind_(o.kind_), n_(std::exchange(o.n_, 0)) {}
  UserCharge& operator=(UserCharge&& o) noexcept {
    if (this == &o) return *this;
    Release();
    user_ = std::move(o.user_);
    kind_ = o.kind_;
    n_ = std::exchange(o.n_, 0);
    return *this;
  }
  ~UserCharge() { Release(); }
  explicit operator bool() const { return static_cast<bool>(user_); }
  const RefPtr<UserCounts>& user() const { return user_; }
  uint64_t amount() const { return n_; }
  // Another amount, unless the user's count would grow past `limit`.
  bool Resize(uint64_t n, uint64_t limit) {
    if (!user_) return true;
    if (n > n_ && !user_->Add(kind_, n - n_, limit)) return false;
    if (n < n_) user_->Remove(kind_, n_ - n);
    n_ = n;
    return true;
  }

 private:
  void Release() {
    if (RefPtr<UserCounts> user = std::move(user_)) user->Remove(kind_, n_);
  }
  RefPtr<UserCounts> user_;
  UserCounts::Kind kind_ = UserCounts::kProcesses;
  uint64_t n_ = 0;
};

}  // namespace caisson::auth

#endif  // CAISSON_AUTH_USER_COUNTS_H_
