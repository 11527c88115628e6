// Root, working directory and umask of one task, or of several (CLONE_FS).
#ifndef CAISSON_SENTRY_KERNEL_FS_CONTEXT_H_
#define CAISSON_SENTRY_KERNEL_FS_CONTEXT_H_

#include "base/mutex.h"
#include "base/ref.h"
#include "vfs/dentry.h"
#include "vfs/mount.h"
#include "vfs/types.h"

namespace caisson::kernel {

// Thread-safe.
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

 private:
  mutable Mutex mu_;
  vfs::VfsPath root_ ABSL_GUARDED_BY(mu_);
  vfs::VfsPath cwd_ ABSL_GUARDED_BY(mu_);
  vfs::FileMode umask_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_FS_CONTEXT_H_
