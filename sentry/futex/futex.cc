#include "sentry/futex/futex.h"

#include <utility>
#include <vector>

#include "abi/futex.h"
#include "sentry/futex/bucket.h"
#include "time/clock.h"

namespace caisson::futex {

namespace {

// Wakes at most `limit` waiters (at least one, as Linux) of `key`. Errors: EINVAL for one of a PI
// operation.
Result<int> WakeAllLocked(Bucket& bucket, const mm::MemoryManager::FutexKey& key, int limit,
                          uint32_t bitset, Wakes& wakes)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(bucket.mu) {
  int woken = 0;
  for (Waiter* w = bucket.head; w != nullptr;) {
    Waiter* next = w->next;
    if (w->key == key) {
      if (w->pi || w->target) return Errno::kEINVAL;
      if ((w->bitset & bitset) != 0) {
        bucket.WakeUp(*w, wakes);
        if (++woken >= limit) break;
      }
    }
    w = next;
  }
  return woken;
}

// Sign-extends the low 12 bits.
int32_t Extend12(uint32_t v) { return static_cast<int32_t>(v << 20) >> 20; }

}  // namespace

FutexManager::FutexManager() : buckets_(new Bucket[kBuckets]) {}
FutexManager::~FutexManager() = default;

Bucket& FutexManager::BucketOf(const Key& key) {
  uint64_t h = reinterpret_cast<uintptr_t>(key.object) / 64 ^ key.offset / 4;
  h *= 0x9e3779b97f4a7c15;
  return buckets_[h >> 56];  // Of 256.
}

Result<FutexManager::Key> FutexManager::KeyOf(const Word& word) {
  if (word.addr.value % 4 != 0) return Errno::kEINVAL;
  return word.mm.GetFutexKey(word.addr, word.is_private);
}

Result<void> FutexManager::Enqueue(Waiter& waiter, uint32_t expected) {
  Bucket& bucket = BucketOf(waiter.key);
  for (int tries = 0;; ++tries) {
    // Faults the page in. A word that differs already needs no lock.
    uint32_t value = TRY(waiter.mm->Load32(waiter.addr));
    if (value != expected) return Errno::kEAGAIN;
    MutexLock lock(bucket.mu);
    bucket.Append(waiter);
    Result<uint32_t> again = waiter.mm->address_space().Load32(waiter.addr);
    if (again.ok() && again.value() == expected) return {};
    bucket.Remove(waiter);
    if (again.ok()) return Errno::kEAGAIN;
    if (tries == kMaxFaultTries) return Errno::kEFAULT;
  }
}

// The lock taken is that of the bucket that the waiter is in, which may change until it is held:
// that is tested under it, and only under it can the waiter be moved.
bool FutexManager::Unqueue(Waiter& waiter) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (;;) {
    if (waiter.woken.load(std::memory_order_acquire)) return false;
    Bucket* bucket = waiter.bucket.load(std::memory_order_acquire);
    MutexLock lock(bucket->mu);
    if (bucket != waiter.bucket.load(std::memory_order_acquire)) continue;
    if (waiter.woken.load(std::memory_order_relaxed)) return false;
    bucket->Remove(waiter);
    return true;
  }
}

// As Unqueue() about the lock.
bool FutexManager::IsWoken(Waiter& waiter) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (;;) {
    if (waiter.woken.load(std::memory_order_acquire)) return true;
    Bucket* bucket = waiter.bucket.load(std::memory_order_acquire);
    MutexLock lock(bucket->mu);
    if (bucket == waiter.bucket.load(std::memory_order_acquire)) return waiter.woken.load();
  }
}

Result<void> FutexManager::Sleep(vfs::CallContext& ctx, Waiter& waiter, int64_t deadline) {
  for (;;) {
    Result<void> slept = ctx.Block(deadline);
    if (!slept.ok()) {
      if (!Unqueue(waiter)) return {};
      return slept;
    }
    if (IsWoken(waiter)) return {};
  }
}

Result<void> FutexManager::Wait(vfs::CallContext& ctx, Word word, uint32_t expected,
                                uint32_t bitset, int64_t deadline) {
  if (bitset == 0) return Errno::kEINVAL;
  Waiter waiter(ctx, word.mm, word.addr);
  waiter.key = TRY(KeyOf(word));
  waiter.bitset = bitset;
  TRY(Enqueue(waiter, expected));
  Result<void> slept = Sleep(ctx, waiter, deadline);
  if (!slept.ok() && slept.error() == Errno::kERESTARTSYS && deadline != time::kNever)
    return Errno::kERESTART_RESTARTBLOCK;
  return slept;
}

Result<int> FutexManager::Wake(Word word, int count, uint32_t bitset) {
  if (bitset == 0) return Errno::kEINVAL;
  const Key key = TRY(KeyOf(word));
  Bucket& bucket = BucketOf(key);
  if (bucket.count.load() == 0) return 0;
  Wakes wakes;
  MutexLock lock(bucket.mu);
  return WakeAllLocked(bucket, key, count, bitset, wakes);
}

Result<int> FutexManager::Requeue(Word from, Word to, int wake, int requeue,
                                  std::optional<uint32_t> expected) {
  if (wake < 0 || requeue < 0) return Errno::kEINVAL;
  const Key source = TRY(KeyOf(from));
  const Key target = TRY(KeyOf(to));
  Bucket& a = BucketOf(source);
  Bucket& b = BucketOf(target);
  for (int tries = 0;; ++tries) {
    if (expected && TRY(from.mm.Load32(from.addr)) != *expected) return Errno::kEAGAIN;
    Wakes wakes;
    TwoBuckets lock(a, b);
    if (expected) {
      Result<uint32_t> value = from.mm.address_space().Load32(from.addr);
      if (!value.ok()) {
        if (tries == kMaxFaultTries) return Errno::kEFAULT;
        continue;
      }
      if (value.value() != *expected) return Errno::kEAGAIN;
    }
    int done = 0;
    for (Waiter* w = a.head; w != nullptr && done - wake < requeue;) {
      Waiter* next = w->next;
      if (w->key == source) {
        if (w->pi || w->target) return Errno::kEINVAL;
        if (done < wake) {
          a.WakeUp(*w, wakes);
        } else if (!(source == target)) {
          a.MoveTo(b, *w, target, to.addr);
        }
        ++done;
      }
      w = next;
    }
    return done;
  }
}

Result<int> FutexManager::WakeOp(Word first, Word second, int wake_first, int wake_second,
                                 uint32_t encoded) {
  const uint32_t op = encoded >> 28 & 7;
  const uint32_t comparison = encoded >> 24 & 15;
  uint32_t argument = static_cast<uint32_t>(Extend12(encoded >> 12));
  const int32_t operand = Extend12(encoded);
  // Linux masks a shift that is out of range (and says so in its log).
  if ((encoded >> 28 & abi::kFutexOpOpargShift) != 0) argument = 1u << (argument & 31);
  if (op > abi::kFutexOpXor) return Errno::kENOSYS;
  const Key one = TRY(KeyOf(first));
  const Key two = TRY(KeyOf(second));
  Bucket& a = BucketOf(one);
  Bucket& b = BucketOf(two);
  int faults = 0;
  for (;;) {
    TRY(second.mm.Load32(second.addr));
    Wakes wakes;
    TwoBuckets lock(a, b);
    platform::AddressSpace& space = second.mm.address_space();
    Result<uint32_t> old = space.Load32(second.addr);
    bool stored = false;
    for (int exchanges = 0; old.ok() && !stored; ++exchanges) {
      if (exchanges == kMaxExchangeTries) return Errno::kEAGAIN;
      uint32_t value = old.value(), changed = argument;
      switch (op) {
        case abi::kFutexOpAdd:
          changed = value + argument;
          break;
        case abi::kFutexOpOr:
          changed = value | argument;
          break;
        case abi::kFutexOpAndn:
          changed = value & ~argument;
          break;
        case abi::kFutexOpXor:
          changed = value ^ argument;
          break;
        default:
          break;
      }
      old = space.CompareExchange32(second.addr, value, changed);
      stored = old.ok() && old.value() == value;
    }
    if (!old.ok()) {
      if (++faults > kMaxFaultTries) return Errno::kEFAULT;
      continue;
    }
    const int32_t before = static_cast<int32_t>(old.value());
    bool holds = false;
    switch (comparison) {
      case abi::kFutexOpCmpEq:
        holds = before == operand;
        break;
      case abi::kFutexOpCmpNe:
        holds = before != operand;
        break;
      case abi::kFutexOpCmpLt:
        holds = before < operand;
        break;
      case abi::kFutexOpCmpLe:
        holds = before <= operand;
        break;
      case abi::kFutexOpCmpGt:
        holds = before > operand;
        break;
      case abi::kFutexOpCmpGe:
        holds = before >= operand;
        break;
      default:
        return Errno::kENOSYS;  // After the operation, as Linux.
    }
    int woken = TRY(WakeAllLocked(a, one, wake_first, ~0u, wakes));
    if (!holds) return woken;
    int more = TRY(WakeAllLocked(b, two, wake_second, ~0u, wakes));
    return woken + more;
  }
}

Result<int> FutexManager::WaitMultiple(vfs::CallContext& ctx, mm::MemoryManager& mm,
                                       absl::Span<const WaitvEntry> entries, int64_t deadline) {
  std::vector<std::unique_ptr<Waiter>> waiters;
  for (const WaitvEntry& entry : entries) {
    waiters.push_back(std::make_unique<Waiter>(ctx, mm, entry.addr));
    waiters.back()->key = TRY(KeyOf({mm, entry.addr, entry.is_private}));
  }
  // Takes the first `n` off their queues: the last that had been woken, or -1.
  auto unqueue = [&](size_t n) {
    int woken = -1;
    for (size_t i = 0; i < n; ++i) {
      if (!Unqueue(*waiters[i])) woken = static_cast<int>(i);
    }
    return woken;
  };
  for (size_t i = 0; i < entries.size(); ++i) {
    Result<void> queued = Enqueue(*waiters[i], entries[i].expected);
    if (queued.ok()) continue;
    int woken = unqueue(i);
    if (woken >= 0) return woken;
    return queued.error();
  }
  for (;;) {
    Result<void> slept = ctx.Block(deadline);
    bool any = false;
    for (const std::unique_ptr<Waiter>& waiter : waiters) any |= IsWoken(*waiter);
    if (!any && slept.ok()) continue;
    int woken = unqueue(waiters.size());
    if (woken >= 0) return woken;
    if (!slept.ok()) return slept.error();
  }
}

}  // namespace caisson::futex
