// epoll(7).
#ifndef CAISSON_VFS_ANON_EPOLL_H_
#define CAISSON_VFS_ANON_EPOLL_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "base/ref.h"
#include "base/result.h"
#include "auth/user_counts.h"
#include "vfs/file_description.h"

namespace caisson::vfs {

inline constexpr size_t kMaxEpollWatches = 1 << 20;  // fs.epoll.max_user_watches.

inline constexpr uint32_t kEpollExclusive = 1u << 28;
inline constexpr uint32_t kEpollWakeup = 1u << 29;  // Accepted, without effect.
inline constexpr uint32_t kEpollOneshot = 1u << 30;
inline constexpr uint32_t kEpollEdge = 1u << 31;
inline constexpr int kEpollMaxNesting = 5;

// struct epoll_event of x86-64: packed.
struct __attribute__((packed)) EpollEvent {
  uint32_t events = 0;
  uint64_t data = 0;
};
static_assert(sizeof(EpollEvent) == 12);

class EpollCore;

// Thread-safe. A registration does not keep its file alive: it goes with the file's last
// reference. Waiting costs what is ready, not what is registered.
class Epoll final : public FileDescription {
 public:
  // `inode` is AnonFileSystem's.
  explicit Epoll(RefPtr<Inode> inode);
  ~Epoll() override;

  // epoll_ctl(2). `fd` is the number under which `file` is registered: file and number together
  // are the key. Errors: EINVAL (itself, bad use of EPOLLEXCLUSIVE), EEXIST, ENOENT, EPERM (a file
  // that has no events), ELOOP, ENOSPC (`max_watches` registrations).
  Result<void> Add(int fd, FileDescription& file, const EpollEvent& event,
                   size_t max_watches = kMaxEpollWatches, auth::UserCharge charge = {});
  Result<void> Modify(int fd, FileDescription& file, const EpollEvent& event);
  Result<void> Delete(int fd, FileDescription& file);
  // epoll_wait(2): up to out.size() events (the caller has refused 0), at least one unless
  // `deadline` (ns, CLOCK_MONOTONIC; a past one does not wait) comes first.
  // Errors: those of Block() but ETIMEDOUT, which is 0 events.
  Result<size_t> Wait(CallContext& ctx, int64_t deadline, absl::Span<EpollEvent> out);

  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override;
  std::string Describe() const override { return "anon_inode:[eventpoll]"; }
  std::string FdInfo() override;

 private:
  friend class EpollCore;
  const RefPtr<EpollCore> core_;
};

// Null unless `file` is an epoll instance.
inline Epoll* AsEpoll(FileDescription& file) {
  return file.kind() == FileKind::kEpoll ? static_cast<Epoll*>(&file) : nullptr;
}

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_ANON_EPOLL_H_
