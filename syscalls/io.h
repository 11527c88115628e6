// Waiting reads and writes: what every call that moves bytes shares.
#ifndef CAISSON_SYSCALLS_IO_H_
#define CAISSON_SYSCALLS_IO_H_

#include <vector>

#include "sentry/kernel/task.h"
#include "vfs/operations.h"
#include "vfs/socket.h"

namespace caisson::syscalls {

inline constexpr int kIovMax = 1024;
// The most one call moves (Linux MAX_RW_COUNT).
inline constexpr uint64_t kMaxRwCount = 0x7ffff000;

// readv(2)'s vector. Errors: EINVAL (count, sum), EFAULT. The sum is cut to kMaxRwCount.
Result<std::vector<mm::IoVec>> ReadIoVec(kernel::Task& task, GuestAddr vec, uint64_t count);

// Reads into `to` at the file position, waiting unless O_NONBLOCK (or `nowait`).
Result<int64_t> ReadFully(kernel::Task& task, vfs::FileDescription& file, IoBuffer& to, uint32_t rwf = 0);
// Writes all of `from`, waiting in between; a part that was written before an error or a signal is
// the result.
Result<int64_t> WriteFully(kernel::Task& task, vfs::FileDescription& file, IoBuffer& from,
                           uint32_t rwf = 0);
// A deadline from an relative timeout in ns; negative: never.
int64_t DeadlineAfter(int64_t timeout_ns);

// Runs `attempt` until it gives something other than EAGAIN, waiting for `events` of `file`.
template <typename F>
auto WaitForFile(kernel::Task& task, vfs::FileDescription& file, EventMask events, bool wait,
                 int64_t deadline, F attempt) -> decltype(attempt()) {
  WaitQueue* queue = file.EventQueue();
  if (!wait || queue == nullptr) return attempt();
  return vfs::WaitUntil(task, *queue, events, deadline, attempt);
}

}  // namespace caisson::syscalls

#endif  // CAISSON_SYSCALLS_IO_H_
