// Priority-inheritance futexes (Linux kernel/futex/pi.c, requeue.c). The word holds the owner's
// tid; with FUTEX_WAITERS set it is handed over here.
#include <utility>

#include "abi/futex.h"
#include "sentry/futex/bucket.h"
#include "sentry/futex/futex.h"
#include "time/clock.h"

namespace caisson::futex {

namespace {

// Changes the word from `expected`; false if it is something else by now.
Result<bool> Exchange(const Word& word, uint32_t expected, uint32_t desired) {
  uint32_t old = TRY(word.mm.address_space().CompareExchange32(word.addr, expected, desired));
  return old == expected;
}

// Waits of lock operations are restarted as a whole.
Errno InterruptedError(Errno e) { return e == Errno::kERESTARTSYS ? Errno::kERESTARTNOINTR : e; }

// Gives the lock in `word` to the first waiter of the key: stores its tid, with `extra` bits, and
// wakes it. False if the word is not `current` any more.
Result<bool> HandOver(Bucket& bucket, Waiter& first, const Word& word, uint32_t current,
                      uint32_t extra, Wakes& wakes)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(bucket.mu) {
  bool more = false;
  for (Waiter* w = first.next; w != nullptr && !more; w = w->next) more = w->key == first.key;
  uint32_t value = static_cast<uint32_t>(first.tid) | extra | (more ? abi::kFutexWaiters : 0);
  if (!TRY(Exchange(word, current, value))) return false;
  for (Waiter* w = first.next; w != nullptr; w = w->next) {
    if (w->key == first.key) w->owner_id = first.id;
  }
  bucket.WakeUp(first, wakes);
  return true;
}

}  // namespace

Result<void> FutexManager::LockPi(vfs::CallContext& ctx, const PiTask& self, Word word,
                                  bool try_only, int64_t deadline) {
  Waiter waiter(ctx, word.mm, word.addr);
  waiter.key = TRY(KeyOf(word));
  waiter.pi = true;
  waiter.tid = self.tid;
  waiter.id = self.id;
  Bucket& bucket = BucketOf(waiter.key);
  bool queued = false;
  for (int tries = 0, faults = 0; !queued; ++tries) {
    if (tries == kMaxExchangeTries) return Errno::kEAGAIN;
    TRY(word.mm.Load32(word.addr));
    MutexLock lock(bucket.mu);
    Result<uint32_t> loaded = word.mm.address_space().Load32(word.addr);
    if (!loaded.ok()) {
      if (++faults > kMaxFaultTries) return Errno::kEFAULT;
      continue;
    }
    uint32_t value = loaded.value();
    uint32_t owner = value & abi::kFutexTidMask;
    if (owner == static_cast<uint32_t>(self.tid)) return Errno::kEDEADLK;
    Waiter* top = bucket.First(waiter.key);
    if (top != nullptr && !top->pi) return Errno::kEINVAL;
    if (owner == 0 && top == nullptr) {
      uint32_t mine = (value & abi::kFutexOwnerDied) | static_cast<uint32_t>(self.tid);
      Result<bool> taken = Exchange(word, value, mine);
      if (!taken.ok()) return Errno::kEFAULT;
      if (taken.value()) return {};
      continue;
    }
    if (try_only) return Errno::kEAGAIN;
    if ((value & abi::kFutexWaiters) == 0) {
      Result<bool> marked = Exchange(word, value, value | abi::kFutexWaiters);
      if (!marked.ok()) return Errno::kEFAULT;
      if (!marked.value()) continue;
    }
    // Counted before the owner is looked for: if it is found, its ExitPi() will find us.
    pi_waiters_.fetch_add(1);
    waiter.owner_id = top != nullptr ? top->owner_id : self.id_of(static_cast<int32_t>(owner));
    if (waiter.owner_id == 0) {
      pi_waiters_.fetch_sub(1);
      return Errno::kESRCH;
    }
    bucket.Append(waiter);
    queued = true;
  }
  Result<void> slept = Sleep(ctx, waiter, deadline);
  pi_waiters_.fetch_sub(1);
  if (!slept.ok()) return InterruptedError(slept.error());
  if (waiter.error) return *waiter.error;
  return {};
}

Result<void> FutexManager::UnlockPi(const PiTask& self, Word word) {
  const Key key = TRY(KeyOf(word));
  Bucket& bucket = BucketOf(key);
  for (int tries = 0, faults = 0;; ++tries) {
    if (tries == kMaxExchangeTries) return Errno::kEAGAIN;
    uint32_t seen = TRY(word.mm.Load32(word.addr));
    if ((seen & abi::kFutexTidMask) != static_cast<uint32_t>(self.tid)) return Errno::kEPERM;
    Wakes wakes;
    MutexLock lock(bucket.mu);
    Result<uint32_t> loaded = word.mm.address_space().Load32(word.addr);
    if (!loaded.ok()) {
      if (++faults > kMaxFaultTries) return Errno::kEFAULT;
      continue;
    }
    uint32_t value = loaded.value();
    if ((value & abi::kFutexTidMask) != static_cast<uint32_t>(self.tid)) return Errno::kEPERM;
    Waiter* top = bucket.First(key);
    if (top != nullptr && !top->pi) return Errno::kEINVAL;
    Result<bool> done =
        top != nullptr ? HandOver(bucket, *top, word, value, 0, wakes) : Exchange(word, value, 0);
    if (!done.ok()) return Errno::kEFAULT;
    if (done.value()) return {};
  }
}

Result<void> FutexManager::WaitRequeuePi(vfs::CallContext& ctx, const PiTask& self, Word word,
                                         Word target, uint32_t expected, uint32_t bitset,
                                         int64_t deadline) {
  if (bitset == 0) return Errno::kEINVAL;
  Waiter waiter(ctx, word.mm, word.addr);
  waiter.key = TRY(KeyOf(word));
  waiter.target = TRY(KeyOf(target));
  waiter.target_addr = target.addr;
  if (waiter.key == *waiter.target) return Errno::kEINVAL;
  waiter.bitset = bitset;
  waiter.tid = self.tid;
  waiter.id = self.id;
  pi_waiters_.fetch_add(1);
  Result<void> result = Enqueue(waiter, expected);
  if (result.ok()) result = Sleep(ctx, waiter, deadline);
  pi_waiters_.fetch_sub(1);
  if (!result.ok()) {
    // Once it waits for the lock, user space calls again by itself.
    if (result.error() == Errno::kERESTARTSYS)
      return waiter.pi ? Errno::kEAGAIN : Errno::kERESTARTNOINTR;
    return result;
  }
  if (waiter.error) return *waiter.error;
  return {};
}

Result<int> FutexManager::CmpRequeuePi(const PiTask& self, Word from, Word to, int wake,
                                       int requeue, uint32_t expected) {
  if (wake != 1 || requeue < 0) return Errno::kEINVAL;
  const Key source = TRY(KeyOf(from));
  const Key target = TRY(KeyOf(to));
  if (source == target) return Errno::kEINVAL;
  Bucket& a = BucketOf(source);
  Bucket& b = BucketOf(target);
  for (int tries = 0;; ++tries) {
    if (tries > kMaxFaultTries) return Errno::kEFAULT;
    if (TRY(from.mm.Load32(from.addr)) != expected) return Errno::kEAGAIN;
    TRY(to.mm.Load32(to.addr));
    Wakes wakes;
    TwoBuckets lock(a, b);
    Result<uint32_t> value = from.mm.address_space().Load32(from.addr);
    if (!value.ok()) continue;
    if (value.value() != expected) return Errno::kEAGAIN;
    int done = 0, exchanges = 0;
    bool again = false;
    for (Waiter* w = a.head; w != nullptr && done - wake < requeue;) {
      Waiter* next = w->next;
      if (!(w->key == source)) {
        w = next;
        continue;
      }
      if (!w->target || !(*w->target == target)) return Errno::kEINVAL;
      if (++exchanges > kMaxExchangeTries) return Errno::kEAGAIN;
      Result<uint32_t> loaded = to.mm.address_space().Load32(to.addr);
      if (!loaded.ok()) {
        again = true;
        break;
      }
      uint32_t lock_value = loaded.value();
      uint32_t owner = lock_value & abi::kFutexTidMask;
      Waiter* top = b.First(target);
      if (top != nullptr && !top->pi) return Errno::kEINVAL;
      if (owner == static_cast<uint32_t>(w->tid)) return Errno::kEDEADLK;
      if (owner == 0 && top == nullptr) {
        uint32_t taken = (lock_value & abi::kFutexOwnerDied) | static_cast<uint32_t>(w->tid);
        Result<bool> stored = Exchange(to, lock_value, taken);
        if (!stored.ok()) return Errno::kEFAULT;
        if (!stored.value()) continue;  // Look at the same waiter again.
        w->pi = true;
        a.WakeUp(*w, wakes);
      } else {
        if ((lock_value & abi::kFutexWaiters) == 0) {
          Result<bool> marked = Exchange(to, lock_value, lock_value | abi::kFutexWaiters);
          if (!marked.ok()) return Errno::kEFAULT;
          if (!marked.value()) continue;
        }
        // The owner may have just been made by us, a waiter that has not run yet.
        uint64_t owner_id =
            top != nullptr ? top->owner_id : self.id_of(static_cast<int32_t>(owner));
        if (owner_id == 0) return Errno::kESRCH;
        w->pi = true;
        w->owner_id = owner_id;
        a.MoveTo(b, *w, target, w->target_addr);
      }
      ++done;
      w = next;
    }
    if (!again || done > 0) return done;
  }
}

void FutexManager::ExitPi(const PiTask& self) {
  if (pi_waiters_.load() == 0) return;
  for (size_t i = 0; i < kBuckets; ++i) {
    Bucket& bucket = buckets_[i];
    if (bucket.count.load() == 0) continue;
    Wakes wakes;
    MutexLock lock(bucket.mu);
    for (Waiter* w = bucket.head; w != nullptr;) {
      if (!w->pi || w->owner_id != self.id) {
        w = w->next;
        continue;
      }
      // The first of its key, since waiters queue in order and a hand-over changes the others.
      Word word{*w->mm, w->addr};
      bool done = false;
      for (int tries = 0; !done; ++tries) {
        Result<uint32_t> value = w->mm->address_space().Load32(w->addr);
        Result<bool> handed = value.ok() && tries < kMaxExchangeTries
                                  ? HandOver(bucket, *w, word, value.value(), abi::kFutexOwnerDied, wakes)
                                  : Result<bool>(Errno::kEFAULT);
        if (!handed.ok()) {
          w->error = Errno::kEFAULT;
          bucket.WakeUp(*w, wakes);
        }
        done = !handed.ok() || handed.value();
      }
      w = bucket.head;  // Whoever was next may have changed.
    }
  }
}

}  // namespace caisson::futex
