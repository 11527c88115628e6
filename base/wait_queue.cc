#include "base/wait_queue.h"

#include "base/check.h"
#include "base/parker.h"

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
  // The waiter checks its condition again after Add(), the notifier changes it before Notify().
  // Both modify the count, so one of them comes first: the notifier sees a waiter, or the waiter
  // reads what the notifier's release wrote and so sees the change.
  count_.fetch_add(1, std::memory_order_acq_rel);
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
  // A modification that changes nothing, not a load: see Add(). It costs what a fence would, and
  // ThreadSanitizer understands it.
  if (count_.fetch_add(0, std::memory_order_acq_rel) == 0) return;
  Parker::Later later;
  MutexLock lock(mu_);
  for (WaitEntry* e = head_; e != nullptr; e = e->next_) {
    if (EventMask hit = events & e->mask_; hit != 0) e->OnEvent(hit);
  }
}

bool WaitQueue::empty() const { return count_.load(std::memory_order_relaxed) == 0; }

}  // namespace caisson
