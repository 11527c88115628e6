// Waiters and the buckets they queue in; for the sources of this folder.
#ifndef CAISSON_SENTRY_FUTEX_BUCKET_H_
#define CAISSON_SENTRY_FUTEX_BUCKET_H_

#include <atomic>
#include <optional>

#include "base/mutex.h"
#include "base/parker.h"
#include "sentry/futex/futex.h"

namespace caisson::futex {

// How often a word that is gone again under the lock is faulted in once more.
inline constexpr int kMaxFaultTries = 16;
// How often an exchange of a word that its guest keeps changing is tried. Then EAGAIN: nobody else
// waits for the bucket because of that guest.
inline constexpr int kMaxExchangeTries = 2000;
inline constexpr size_t kBuckets = 256;

// On the stack of a sleeping caller. All fields but the atomic ones are guarded by the lock of the bucket
// that it is or was last in.
struct Waiter {
  Waiter(vfs::CallContext& ctx_in, mm::MemoryManager& mm_in, GuestAddr addr_in)
      : ctx(&ctx_in), mm(&mm_in), addr(addr_in) {}

  vfs::CallContext* ctx;
  mm::MemoryManager* mm;  // Of the sleeper: lives as long as it sleeps.
  GuestAddr addr;
  mm::MemoryManager::FutexKey key;
  uint32_t bitset = ~0u;
  // Set under the lock, as the last that a waker does with this. Whoever reads true needs no lock.
  std::atomic<bool> woken{false};
  std::atomic<Bucket*> bucket{nullptr};  // Changed by requeue under both locks; acquire, release.
  Waiter* prev = nullptr;
  Waiter* next = nullptr;

  // Waits for a PI lock that the task `owner_id` holds.
  bool pi = false;
  int32_t tid = 0;
  uint64_t id = 0;
  uint64_t owner_id = 0;
  std::optional<Errno> error;  // Woken without the lock.
  // Waits to be moved to that PI futex (FUTEX_WAIT_REQUEUE_PI).
  std::optional<mm::MemoryManager::FutexKey> target;
  GuestAddr target_addr;
};

// Whom to ring once the locks are dropped: a sleeper that runs at once would meet them.
class Wakes {
 public:
  Wakes() = default;
  ~Wakes() {
    for (size_t i = 0; i < n_; ++i) Parker::Ring(words_[i]);
  }
  Wakes(const Wakes&) = delete;
  Wakes& operator=(const Wakes&) = delete;
  void Add(const void* word) {
    if (word == nullptr) return;
    if (n_ == kMax) Parker::Ring(word);
    else words_[n_++] = word;
  }

 private:
  static constexpr size_t kMax = 64;
  const void* words_[kMax];
  size_t n_ = 0;
};

struct alignas(64) Bucket {
  Mutex mu;
  Waiter* head ABSL_GUARDED_BY(mu) = nullptr;
  Waiter* tail ABSL_GUARDED_BY(mu) = nullptr;
  // Sequentially consistent: a waiter counts itself before it reads the word, a waker has changed
  // the word before it reads the count. So with AddressSpace::CountWaiter().
  std::atomic<int> count{0};

  void Append(Waiter& w) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    Count(w.mm, w.addr, 1);
    Link(w);
  }
  void Remove(Waiter& w) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    Unlink(w);
    Count(w.mm, w.addr, -1);
  }
  // To `key` at `addr`. It is counted there before it ceases to be counted here: who asks for both, in either
  // order and without a lock, finds it.
  void MoveTo(Bucket& to, Waiter& w, const mm::MemoryManager::FutexKey& key, GuestAddr addr)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu, to.mu) {
    const GuestAddr from = w.addr;
    to.Count(w.mm, addr, 1);
    Unlink(w);
    w.key = key;
    w.addr = addr;
    to.Link(w);
    Count(w.mm, from, -1);
  }
  // Takes `w` off and lets its caller go on. Its stack may be gone at once.
  // `wakes` ends after the lock is dropped.
  void WakeUp(Waiter& w, Wakes& wakes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    Remove(w);
    // In this order: a sleeper that goes on sees `woken`, or takes the lock to look again.
    wakes.Add(w.ctx->MarkWoken());
    w.woken.store(true, std::memory_order_release);
  }
  Waiter* First(const mm::MemoryManager::FutexKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    for (Waiter* w = head; w != nullptr; w = w->next) {
      if (w->key == key) return w;
    }
    return nullptr;
  }

 private:
  void Count(mm::MemoryManager* mm, GuestAddr addr, int delta) {
    count.fetch_add(delta);
    mm->address_space().CountWaiter(addr, delta);
  }
  void Link(Waiter& w) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    w.prev = tail;
    w.next = nullptr;
    (tail != nullptr ? tail->next : head) = &w;
    tail = &w;
    w.bucket.store(this, std::memory_order_release);
  }
  void Unlink(Waiter& w) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    (w.prev != nullptr ? w.prev->next : head) = w.next;
    (w.next != nullptr ? w.next->prev : tail) = w.prev;
    w.prev = w.next = nullptr;
  }
};

// Locks one or two buckets in address order.
class ABSL_SCOPED_LOCKABLE TwoBuckets {
 public:
  TwoBuckets(Bucket& a, Bucket& b) ABSL_EXCLUSIVE_LOCK_FUNCTION(a.mu, b.mu)
      ABSL_NO_THREAD_SAFETY_ANALYSIS  // The order and the equal case are beyond the analysis.
      : low_(&a < &b ? a : b),
        high_(&a < &b ? b : a) {
    low_.mu.Lock();
    if (&low_ != &high_) high_.mu.Lock();
  }
  ~TwoBuckets() ABSL_UNLOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (&low_ != &high_) high_.mu.Unlock();
    low_.mu.Unlock();
  }

 private:
  Bucket& low_;
  Bucket& high_;
};

}  // namespace caisson::futex

#endif  // CAISSON_SENTRY_FUTEX_BUCKET_H_
