// A caller that is the kernel itself: mounts at boot, loading a container's first program.
#ifndef CAISSON_SENTRY_KERNEL_KERNEL_CONTEXT_H_
#define CAISSON_SENTRY_KERNEL_KERNEL_CONTEXT_H_

#include "auth/credentials.h"
#include "base/mutex.h"
#include "sentry/kernel/fs_context.h"
#include "sentry/kernel/rlimits.h"
#include "vfs/call_context.h"
#include "vfs/mount.h"

namespace caisson::kernel {

// Waits are not interrupted, so only operations that end may be called with it. Used by one thread,
// but for Wake().
class KernelContext final : public vfs::CallContext {
 public:
  KernelContext(RefPtr<const auth::Credentials> creds, RefPtr<FsContext> fs, RefPtr<vfs::MountNamespace> ns)
      : creds_(std::move(creds)), fs_(std::move(fs)), ns_(std::move(ns)) {}
  const auth::Credentials& creds() const override { return *creds_; }
  vfs::VfsPath root() const override { return fs_->root(); }
  vfs::VfsPath cwd() const override { return fs_->cwd(); }
  vfs::MountNamespace& mount_namespace() const override { return *ns_; }
  vfs::FileMode umask() const override { return fs_->umask(); }
  uint64_t file_size_limit() const override { return kRlimInfinity; }
  int32_t tgid() const override { return 0; }
  int32_t tid() const override { return 0; }
  Result<void> Block(int64_t deadline) override {
    MutexLock lock(mu_);
    while (!woken_) {
      if (deadline == time::kNever) cv_.Wait(mu_);
      else if (!cv_.WaitUntil(mu_, deadline) && !woken_) return Errno::kETIMEDOUT;
    }
    woken_ = false;
    return {};
  }
  void Wake() override {
    MutexLock lock(mu_);
    woken_ = true;
    cv_.Signal();
  }
  void SendSignal(int, bool) override {}
  Result<void> CopyInBytes(GuestAddr, absl::Span<char>) override { return Errno::kEFAULT; }
  Result<void> CopyOutBytes(GuestAddr, absl::Span<const char>) override { return Errno::kEFAULT; }

 private:
  const RefPtr<const auth::Credentials> creds_;
  const RefPtr<FsContext> fs_;
  const RefPtr<vfs::MountNamespace> ns_;
  Mutex mu_;
  CondVar cv_;
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_KERNEL_CONTEXT_H_
