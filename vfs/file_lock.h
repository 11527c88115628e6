// Advisory locks on an inode: flock(2), POSIX record locks and open file description locks
// (fcntl(2)).
#ifndef CAISSON_VFS_FILE_LOCK_H_
#define CAISSON_VFS_FILE_LOCK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/wait_queue.h"
#include "vfs/call_context.h"

namespace caisson::vfs {

enum class LockType : uint8_t { kRead, kWrite, kUnlock };

// [start, end] inclusive; end == INT64_MAX is "to the end of file".
struct LockRange {
  int64_t start = 0;
  int64_t end = INT64_MAX;
};

struct RecordLock {
  LockType type;
  LockRange range;
  const void* owner;  // The fd table (POSIX) or the file description (OFD).
  bool ofd = false;
  int32_t tgid = 0;   // Shown by F_GETLK; -1 for OFD locks.
};

// Makes the locks of a file known to those who share it with the sandbox: host processes, other
// sandboxes. There the sandbox is one owner, since FileLocks settles what its tasks hold. Called
// under FileLocks' lock, but for Prepare(): nothing waits.
class HostLocks {
 public:
  virtual ~HostLocks() = default;
  // Before the others, without a lock held: may ask the file system. Errors: the file system's.
  virtual Result<void> Prepare() = 0;
  // Sets, converts or drops a record lock. Errors: EAGAIN if somebody there has a conflicting one;
  // ESTALE if it went idle since Prepare(), which has to be called again.
  virtual Result<void> Set(LockType type, LockRange range) = 0;
  virtual Result<void> SetFlock(LockType type) = 0;
  // What conflicts there; its owner has no number here.
  virtual std::optional<RecordLock> Test(LockType type, LockRange range) = 0;
  // No lock is left.
  virtual void Idle() = 0;
};

// Thread-safe.
class FileLocks {
 public:
  // `host` is null for files that only the sandbox has.
  explicit FileLocks(std::unique_ptr<HostLocks> host = nullptr) : host_(std::move(host)) {}
  // F_SETLK / F_SETLKW (`wait`), F_OFD_*. Errors: EAGAIN, EDEADLK (POSIX only), ENOLCK, and
  // Block()'s.
  Result<void> SetRecord(CallContext& ctx, const RecordLock& lock, bool wait);
  // F_GETLK: the first conflicting lock, if any.
  std::optional<RecordLock> TestRecord(const RecordLock& lock);
  // close(2): drops the POSIX locks of `owner`; a file description's end drops its OFD locks.
  void ReleaseRecords(const void* owner);
  // flock(2): `owner` is the file description. Errors: EWOULDBLOCK, and Block()'s.
  Result<void> SetFlock(CallContext& ctx, LockType type, const void* owner, bool wait,
                        int32_t tgid = 0);
  void ReleaseFlock(const void* owner);
  bool empty() const;
  struct Info {
    bool flock;
    RecordLock lock;
  };
  std::vector<Info> Snapshot() const;  // For /proc/locks.

  ~FileLocks();

 private:
  struct Waiter {
    const void* owner;
    const void* blocker;
  };
  // Null if there is no conflict.
  const RecordLock* ConflictLocked(const RecordLock& lock) const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  void ApplyLocked(const RecordLock& lock) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> TrySetFlockLocked(LockType type, const void* owner, int32_t tgid)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Something was released: who waits tries again, and no longer waits for anyone until then.
  void ForgetWaitersLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Sets or drops at the host what the table is to have, or has no more.
  Result<void> HostSetLocked(const RecordLock& lock) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void HostUnlockLocked(LockRange range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  LockType StrongestFlockLocked() const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  void HostIdleLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::unique_ptr<HostLocks> host_;
  mutable Mutex mu_;  // Held while the host is told, which does not wait.
  std::vector<RecordLock> records_ ABSL_GUARDED_BY(mu_);  // Each owner's disjoint, by start.
  std::vector<RecordLock> flocks_ ABSL_GUARDED_BY(mu_);
  std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mu_);      // Of POSIX locks.
  WaitQueue released_;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_FILE_LOCK_H_
