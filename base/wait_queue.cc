#include "base/wait_queue.h"

#include "base/check.h"

namespace caisson {

WaitEntry::~WaitEntry() { CHECK(queue_ == nullptr); }

WaitQueue::~WaitQueue() { CHECK(head_ == nullptr); }

void WaitQueue::Add(WaitEntry& entry, EventMask mask) {
  MutexLock lock(mu_);
  CHECK(entry.queue_ == nullptr);
  entry.queue_ = this;
  entry.mask_ = mask | kEventErr | kEventHup;
  entry.prev_ = tail_;
  entry.next_ = nullptr;
  (tail_ != nullptr ? tail_->next_ : head_) = &entry;
  tail_ = &entry;
  // Sequentially consistent: the waiter re-checks its condition after Add(), the notifier changes
  // the condition before it reads the count in Notify().
  count_.fetch_add(1, std::memory_order_seq_cst);
}

void WaitQueue::Remove(WaitEntry& entry) {
  MutexLock lock(mu_);
  if (entry.queue_ != this) return;
  (entry.prev_ != nullptr ? entry.prev_->next_ : head_) = entry.next_;
  (entry.next_ != nullptr ? entry.next_->prev_ : tail_) = entry.prev_;
  entry.prev_ = entry.next_ = nullptr;
  entry.queue_ = nullptr;
  count_.fetch_sub(1, std::memory_order_relaxed);
}

void WaitQueue::Notify(EventMask events) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (count_.load(std::memory_order_seq_cst) == 0) return;
  MutexLock lock(mu_);
  for (WaitEntry* e = head_; e != nullptr; e = e->next_) {
    if (EventMask hit = events & e->mask_; hit != 0) e->OnEvent(hit);
  }
}

bool WaitQueue::empty() const { return count_.load(std::memory_order_relaxed) == 0; }

}  // namespace caisson
