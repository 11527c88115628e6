// The descriptors of one task, or of several that share them (CLONE_FILES).
#ifndef CAISSON_SENTRY_KERNEL_FD_TABLE_H_
#define CAISSON_SENTRY_KERNEL_FD_TABLE_H_

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "vfs/file_description.h"

namespace caisson::kernel {

// Thread-safe. Tasks count themselves as users; others (/proc) only hold references, so the last
// user closes the files although somebody is looking. A file description leaves the table under mu_ but is released after mu_ is dropped,
// because its last release may flush and block.
class FdTable : public RefCounted<FdTable> {
 public:
  FdTable() = default;
  ~FdTable();

  // Linux files_struct.count. A task that shares it adds itself before it can be seen.
  void AddUser() { users_.fetch_add(1, std::memory_order_relaxed); }
  // True for the last one, which closes the files. Orders the others' use before that.
  [[nodiscard]] bool DropUser() { return users_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  bool shared() const { return users_.load(std::memory_order_acquire) > 1; }

  // Errors: EBADF.
  Result<RefPtr<vfs::FileDescription>> Get(int32_t fd) const;
  // Installs `file` at the lowest free descriptor >= `min`.
  // Errors: EMFILE, if that descriptor would reach `limit` (RLIMIT_NOFILE, in descriptors).
  // Source: fcntl(2) F_DUPFD; Linux fs/file.c, alloc_fd().
  Result<int32_t> Install(RefPtr<vfs::FileDescription> file, int32_t min, uint64_t limit,
                          bool close_on_exec);
  // The number that Install() would use, kept free for Fill() or Release(): nobody else gets or
  // sees it. Errors: EMFILE.
  Result<int32_t> Reserve(uint64_t limit);
  void Fill(int32_t fd, RefPtr<vfs::FileDescription> file, bool close_on_exec);
  void Release(int32_t fd);
  // dup2(2): puts `file` at `fd`; what was there is closed. Errors: EBADF past `limit`;
  // EBUSY for a reserved one.
  Result<RefPtr<vfs::FileDescription>> Replace(RefPtr<vfs::FileDescription> file, int32_t fd,
                                               uint64_t limit, bool close_on_exec);
  // Takes the file out; the caller runs close(2)'s work. Errors: EBADF.
  Result<RefPtr<vfs::FileDescription>> Remove(int32_t fd);
  // close_range(2), and CLOEXEC at exec: takes out all that `predicate` wants.
  std::vector<RefPtr<vfs::FileDescription>> RemoveRange(uint32_t first, uint32_t last);
  std::vector<RefPtr<vfs::FileDescription>> RemoveCloseOnExec();
  std::vector<RefPtr<vfs::FileDescription>> RemoveAll();
  void SetCloseOnExecRange(uint32_t first, uint32_t last);
  Result<bool> close_on_exec(int32_t fd) const;
  Result<void> set_close_on_exec(int32_t fd, bool value);
  // fork(2): the same files in a table of its own; with a range, without those in it.
  RefPtr<FdTable> Clone() const;
  // Open descriptors, ascending.
  std::vector<int32_t> Descriptors() const;
  uint64_t capacity() const;  // FDSize of /proc/PID/status.

 private:
  struct Slot {
    RefPtr<vfs::FileDescription> file;
    bool close_on_exec = false;
    bool reserved = false;
    bool taken() const { return file || reserved; }
  };
  Result<int32_t> LowestFreeLocked(int32_t min, uint64_t limit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  std::atomic<int> users_{0};
  mutable Mutex mu_;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mu_);  // Indexed by descriptor; a slot may be empty.
  int32_t next_free_ ABSL_GUARDED_BY(mu_) = 0;    // No free descriptor is below it.
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_FD_TABLE_H_
