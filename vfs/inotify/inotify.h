// inotify(7).
#ifndef CAISSON_VFS_INOTIFY_INOTIFY_H_
#define CAISSON_VFS_INOTIFY_INOTIFY_H_

#include <deque>
#include <map>
#include <string>

#include "vfs/file_description.h"
#include "vfs/watches.h"

namespace caisson::vfs::inotify {

struct Limits {
  uint32_t max_queued_events = 16384;  // fs.inotify.max_queued_events.
  uint32_t max_watches = 65536;        // fs.inotify.max_user_watches; also of one instance. ENOSPC.
};
inline constexpr uint64_t kMaxInstances = 128;  // fs.inotify.max_user_instances.

class Queue;
class Watch;

// An inotify instance. Thread-safe. Lock order: mu_, then that of an inode's watches, then the
// queue's.
class Inotify final : public FileDescription {
 public:
  // `flags`: O_NONBLOCK or 0. `instance`: what it counts as, of its user.
  explicit Inotify(uint32_t flags, const Limits& limits = {}, auth::UserCharge instance = {});
  // inotify_init1(2). Errors: EMFILE past kMaxInstances of the caller's user.
  static Result<RefPtr<Inotify>> New(const CallContext& ctx, uint32_t flags);
  ~Inotify() override;

  // inotify_add_watch(2) after the walk (follow unless IN_DONT_FOLLOW, directory if IN_ONLYDIR).
  // Errors: EACCES, EINVAL, EEXIST, ENOSPC.
  Result<int32_t> AddWatch(CallContext& ctx, const VfsPath& path, uint32_t mask);
  Result<void> RemoveWatch(int32_t wd);  // Errors: EINVAL.

  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  Result<int64_t> Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) override;
  Result<Attributes> GetAttributes(CallContext& ctx) override;
  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override;
  std::string Describe() const override { return "anon_inode:inotify"; }
  std::string FdInfo() override;

 private:
  const Limits limits_;
  const auth::UserCharge instance_;
  const RefPtr<Queue> queue_;
  Mutex mu_;
  std::map<int32_t, RefPtr<Watch>> watches_ ABSL_GUARDED_BY(mu_);
  std::map<const Inode*, int32_t> by_inode_ ABSL_GUARDED_BY(mu_);
  int32_t next_wd_ ABSL_GUARDED_BY(mu_) = 1;

  void DropDeadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
};

}  // namespace caisson::vfs::inotify

#endif  // CAISSON_VFS_INOTIFY_INOTIFY_H_
