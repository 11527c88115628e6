// Root, working directory and umask of one task, or of several (CLONE_FS).
#ifndef CAISSON_SENTRY_KERNEL_FS_CONTEXT_H_
#define CAISSON_SENTRY_KERNEL_FS_CONTEXT_H_

#include <atomic>

#include "base/mutex.h"
#include "base/ref.h"
#include "vfs/dentry.h"
#include "vfs/mount.h"
#include "vfs/types.h"

namespace caisson::kernel {

// Thread-safe. References are not users: a reader of /proc takes one for a moment.
class FsContext : public RefCounted<FsContext> {
 public:
  FsContext(vfs::VfsPath root, vfs::VfsPath cwd, vfs::FileMode umask)
      : root_(std::move(root)), cwd_(std::move(cwd)), umask_(umask) {}
  vfs::VfsPath root() const {
    MutexLock lock(mu_);
    return root_;
  }
  vfs::VfsPath cwd() const {
    MutexLock lock(mu_);
    return cwd_;
  }
  vfs::FileMode umask() const {
    MutexLock lock(mu_);
    return umask_;
  }
  void set_root(vfs::VfsPath root) {
    MutexLock lock(mu_);
    std::swap(root_, root);
  }
  void set_cwd(vfs::VfsPath cwd) {
    MutexLock lock(mu_);
    std::swap(cwd_, cwd);
  }
  vfs::FileMode set_umask(vfs::FileMode umask) {
    MutexLock lock(mu_);
    return std::exchange(umask_, umask & 0777);
  }
  RefPtr<FsContext> Clone() const {
    MutexLock lock(mu_);
    return MakeRef<FsContext>(root_, cwd_, umask_);
  }

  // The tasks that have it (Linux fs->users): from where a task can be seen until, at its end, it lets go.
  // Changes under the tasks lock, together with the lists of tasks; so does `in_exec()`.
  void AddUser() { users_.fetch_add(1, std::memory_order_relaxed); }
  void DropUser() { users_.fetch_sub(1, std::memory_order_relaxed); }
  // Of oneself, without a lock: nobody else can give it away.
  bool shared() const { return users_.load(std::memory_order_relaxed) > 1; }
  int users() const { return users_.load(std::memory_order_relaxed); }
  // A thread has found nobody outside its process here, and decides upon that: nobody may come.
  bool in_exec() const { return execs_.load(std::memory_order_relaxed) != 0; }
  void BeginExec() { execs_.fetch_add(1, std::memory_order_relaxed); }
  void EndExec() { execs_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  std::atomic<int> users_{0};
  std::atomic<int> execs_{0};
  mutable Mutex mu_;
  vfs::VfsPath root_ ABSL_GUARDED_BY(mu_);
  vfs::VfsPath cwd_ ABSL_GUARDED_BY(mu_);
  vfs::FileMode umask_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_FS_CONTEXT_H_
