// Locks on files that the host and other sandboxes use too.
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "vfs/file_lock.h"
#include "vfs/gofer/inode.h"

namespace caisson::vfs {

namespace {

struct flock HostRange(LockType type, const LockRange& range) {
  struct flock lock = {};
  lock.l_type = type == LockType::kUnlock ? F_UNLCK : type == LockType::kRead ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = range.start;
  lock.l_len = range.end == INT64_MAX ? 0 : range.end - range.start + 1;
  return lock;
}

Result<void> FromHost(int result) {
  if (result == 0) return {};
  if (errno == EAGAIN || errno == EACCES) return Errno::kEAGAIN;
  return FromHostErrno(errno);
}

// Open file description locks, and flock(2), on a donated descriptor that serves nothing else. The
// gofer is asked only for the descriptor.
class GoferLocks final : public HostLocks {
 public:
  explicit GoferLocks(GoferInode& inode) : inode_(inode) {}

  Result<void> Prepare() override {
    {
      MutexLock lock(mu_);
      if (file_.valid()) return {};
    }
    Result<UniqueFd> opened = inode_.LockFile();
    UniqueFd unused;  // Closed outside the lock.
    MutexLock lock(mu_);
    if (!opened.ok()) return opened.error();
    // Another thread may have come first; no lock is on ours yet.
    (file_.valid() ? unused : file_) = std::move(opened).value();
    return {};
  }
  Result<void> Set(LockType type, LockRange range) override {
    MutexLock lock(mu_);
    if (!file_.valid()) return NotPrepared(type);
    struct flock wanted = HostRange(type, range);
    return FromHost(fcntl(file_.get(), F_OFD_SETLK, &wanted));
  }
  Result<void> SetFlock(LockType type) override {
    MutexLock lock(mu_);
    if (!file_.valid()) return NotPrepared(type);
    int operation = type == LockType::kUnlock ? LOCK_UN : type == LockType::kRead ? LOCK_SH : LOCK_EX;
    return FromHost(flock(file_.get(), operation | LOCK_NB));
  }
  std::optional<RecordLock> Test(LockType type, LockRange range) override {
    MutexLock lock(mu_);
    struct flock found = HostRange(type, range);
    if (!file_.valid() || fcntl(file_.get(), F_OFD_GETLK, &found) != 0 || found.l_type == F_UNLCK)
      return std::nullopt;
    RecordLock there{};
    there.type = found.l_type == F_RDLCK ? LockType::kRead : LockType::kWrite;
    there.range = {found.l_start, found.l_len == 0 ? INT64_MAX : found.l_start + found.l_len - 1};
    return there;
  }
  void Idle() override {
    UniqueFd unused;  // Closed outside the lock.
    MutexLock lock(mu_);
    unused = std::move(file_);
  }

 private:
  // Without a descriptor nothing is locked.
  static Result<void> NotPrepared(LockType type) {
    if (type == LockType::kUnlock) return {};
    return Errno::kESTALE;
  }

  GoferInode& inode_;  // Owns this.
  Mutex mu_;           // Inside of FileLocks'.
  UniqueFd file_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<HostLocks> GoferInode::MakeHostLocks() {
  if (!is_regular() || !gofer().options().host_locks) return nullptr;
  return std::make_unique<GoferLocks>(*this);
}

}  // namespace caisson::vfs
