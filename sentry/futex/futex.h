// Futexes (futex(2), Linux kernel/futex/).
#ifndef CAISSON_SENTRY_FUTEX_FUTEX_H_
#define CAISSON_SENTRY_FUTEX_FUTEX_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/types/span.h"
#include "base/guest_addr.h"
#include "base/result.h"
#include "sentry/mm/memory_manager.h"
#include "vfs/call_context.h"

namespace caisson::futex {

struct Bucket;
struct Waiter;

// A 32-bit word of guest memory. `is_private`: FUTEX_PRIVATE_FLAG.
struct Word {
  mm::MemoryManager& mm;
  GuestAddr addr;
  bool is_private = false;
};

// The caller of a PI operation.
struct PiTask {
  int32_t tid = 0;  // As its guest sees it: what stands in futex words.
  uint64_t id = 0;  // Unique in the sentry and never used again; not 0.
  // The id of the live task that has this tid in the caller's pid namespace; 0 if there is none.
  std::function<uint64_t(int32_t tid)> id_of;
};

// All futexes of a kernel. Thread-safe.
//
// Every operation can fail with EFAULT (the word is not readable, or not writable where it is
// changed) and EINVAL (the address is not a multiple of 4). Deadlines are ns on CLOCK_MONOTONIC,
// time::kNever for none.
class FutexManager {
 public:
  FutexManager();
  ~FutexManager();
  FutexManager(const FutexManager&) = delete;
  FutexManager& operator=(const FutexManager&) = delete;

  // FUTEX_WAIT and FUTEX_WAIT_BITSET. Errors: EAGAIN if the word is not `expected`; ETIMEDOUT;
  // EINVAL for an empty bitset; interrupted: kERESTARTSYS without a deadline, else
  // kERESTART_RESTARTBLOCK (wait again until the same deadline).
  Result<void> Wait(vfs::CallContext& ctx, Word word, uint32_t expected, uint32_t bitset,
                    int64_t deadline);
  // FUTEX_WAKE and FUTEX_WAKE_BITSET: how many were woken. Errors: EINVAL for an empty bitset or a
  // waiter of a PI operation.
  Result<int> Wake(Word word, int count, uint32_t bitset = ~0u);
  // FUTEX_REQUEUE and, with `expected`, FUTEX_CMP_REQUEUE: how many were woken or moved. Errors:
  // EAGAIN; EINVAL for negative counts.
  Result<int> Requeue(Word from, Word to, int wake, int requeue, std::optional<uint32_t> expected);
  // FUTEX_WAKE_OP. Errors: ENOSYS for an unknown operation or comparison.
  Result<int> WakeOp(Word first, Word second, int wake_first, int wake_second, uint32_t op);

  // futex_waitv(2): the index of a word that was woken. Errors: EAGAIN, ETIMEDOUT, kERESTARTSYS.
  struct WaitvEntry {
    GuestAddr addr;
    bool is_private = false;
    uint32_t expected = 0;
  };
  Result<int> WaitMultiple(vfs::CallContext& ctx, mm::MemoryManager& mm,
                           absl::Span<const WaitvEntry> entries, int64_t deadline);

  // FUTEX_LOCK_PI(2) and FUTEX_TRYLOCK_PI. Errors: EDEADLK if held by the caller; ESRCH if its
  // owner is gone; EAGAIN (try); ETIMEDOUT; EINVAL beside other waiters; kERESTARTNOINTR.
  Result<void> LockPi(vfs::CallContext& ctx, const PiTask& self, Word word, bool try_only,
                      int64_t deadline);
  // FUTEX_UNLOCK_PI. Errors: EPERM if the caller does not hold it; EINVAL.
  Result<void> UnlockPi(const PiTask& self, Word word);
  // FUTEX_WAIT_REQUEUE_PI: waits on `word` until requeued to the PI futex `target` and then for
  // that lock. Errors: EAGAIN, ETIMEDOUT, EINVAL if both are the same, kERESTARTNOINTR.
  Result<void> WaitRequeuePi(vfs::CallContext& ctx, const PiTask& self, Word word, Word target,
                             uint32_t expected, uint32_t bitset, int64_t deadline);
  // FUTEX_CMP_REQUEUE_PI. Errors: EAGAIN, EINVAL, ESRCH.
  Result<int> CmpRequeuePi(const PiTask& self, Word from, Word to, int wake, int requeue,
                           uint32_t expected);
  // A task that ends passes on the PI futexes that others wait for. It comes after
  // ExitRobustList(), and after id_of() has ceased to find the task: who asked before is queued.
  void ExitPi(const PiTask& self);

  // Walks the list of set_robust_list(2) of a task that ends: words that it holds are marked and a
  // waiter is woken. `head` may be null.
  void ExitRobustList(mm::MemoryManager& mm, GuestAddr head, int32_t tid);
  // set_tid_address(2) at exit: stores 0 and wakes one waiter.
  void ClearChildTid(mm::MemoryManager& mm, GuestAddr addr);

 private:
  friend struct Bucket;
  using Key = mm::MemoryManager::FutexKey;

  Bucket& BucketOf(const Key& key);
  Result<Key> KeyOf(const Word& word);
  // Queues `waiter` and reads the word, both under the bucket's lock. EAGAIN if it differs.
  Result<void> Enqueue(Waiter& waiter, uint32_t expected);
  // Sleeps until `waiter` was taken off its queue by a waker. Else takes it off and returns why:
  // ETIMEDOUT or kERESTARTSYS.
  Result<void> Sleep(vfs::CallContext& ctx, Waiter& waiter, int64_t deadline);
  // Takes `waiter` off its queue; false if a waker has.
  bool Unqueue(Waiter& waiter);
  bool IsWoken(Waiter& waiter);
  bool HandleDeath(mm::MemoryManager& mm, GuestAddr addr, int32_t tid, bool pi, bool pending);

  const std::unique_ptr<Bucket[]> buckets_;
  std::atomic<int64_t> pi_waiters_{0};  // 0: ExitPi() has nothing to look for.
};

}  // namespace caisson::futex

#endif  // CAISSON_SENTRY_FUTEX_FUTEX_H_
