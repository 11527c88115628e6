// eventfd(2): a counter to wait for.
#ifndef CAISSON_VFS_ANON_EVENTFD_H_
#define CAISSON_VFS_ANON_EVENTFD_H_

#include <string>

#include "base/mutex.h"
#include "base/wait_queue.h"
#include "vfs/file_description.h"

namespace caisson::vfs {

inline constexpr uint32_t kEfdSemaphore = 1;

// Thread-safe.
class Eventfd final : public FileDescription {
 public:
  // `inode` is AnonFileSystem's; `flags` are O_* (O_NONBLOCK).
  Eventfd(RefPtr<Inode> inode, uint64_t initial, bool semaphore, uint32_t flags);

  // 8 bytes. Errors: EINVAL for a shorter buffer or the value ~0, EAGAIN.
  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint32_t rwf) override;
  // From within the kernel (aio, cgroup events): stops at the value ~0, which polls as an error.
  void Signal(uint64_t n);

  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override { return &queue_; }
  std::string Describe() const override { return "anon_inode:[eventfd]"; }
  std::string FdInfo() override;

 private:
  const bool semaphore_;
  Mutex mu_;
  uint64_t count_ ABSL_GUARDED_BY(mu_);
  WaitQueue queue_;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_ANON_EVENTFD_H_
