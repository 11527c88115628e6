#include "sentry/kernel/pidfd.h"

#include "absl/strings/str_cat.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group.h"

namespace caisson::kernel {
namespace {

class PidfdFile final : public vfs::FileDescription {
 public:
  PidfdFile(RefPtr<Pid> pid, RefPtr<ThreadGroup> group, uint32_t flags)
      : FileDescription(vfs::FileKind::kPidfd, {}, nullptr, vfs::kOpenReadWrite | flags),
        pid_(std::move(pid)),
        group_(std::move(group)) {}
  const RefPtr<Pid>& pid() const { return pid_; }
  Result<vfs::Attributes> GetAttributes(vfs::CallContext&) override {
    vfs::Attributes attr;
    attr.mode = 0600;
    attr.ino = 1;
    return attr;
  }
  EventMask Readiness(EventMask mask) override {
    if (!group_) return mask & kReadable;
    MutexLock lock(group_->kernel().tasks_mu());
    return group_->zombie || group_->reaped ? mask & kReadable : 0;
  }
  WaitQueue* EventQueue() override { return group_ ? &group_->exit_queue : nullptr; }
  std::string Describe() const override { return "anon_inode:[pidfd]"; }
  std::string FdInfo() override {
    return absl::StrCat("Pid:\t", pid_->global(), "\nNSpid:\t", pid_->global(), "\n");
  }

 private:
  const RefPtr<Pid> pid_;
  const RefPtr<ThreadGroup> group_;
};

}  // namespace

RefPtr<vfs::FileDescription> NewPidfd(RefPtr<Pid> pid, RefPtr<ThreadGroup> group, bool nonblock) {
  return MakeRef<PidfdFile>(std::move(pid), std::move(group), nonblock ? vfs::kOpenNonblock : 0);
}

Result<RefPtr<Pid>> PidOf(const vfs::FileDescription& file) {
  if (file.kind() != vfs::FileKind::kPidfd) return Errno::kEBADF;
  return static_cast<const PidfdFile&>(file).pid();
}

}  // namespace caisson::kernel
