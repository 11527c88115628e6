#include "syscalls/io.h"

#include <algorithm>

namespace caisson::syscalls {

using kernel::Task;

Result<std::vector<mm::IoVec>> ReadIoVec(Task& task, GuestAddr vec, uint64_t count) {
  if (count > kIovMax) return Errno::kEINVAL;
  std::vector<mm::IoVec> out(count);
  static_assert(sizeof(mm::IoVec) == 16);
  if (count != 0)
    TRY(task.memory().CopyIn(vec, absl::Span<char>(reinterpret_cast<char*>(out.data()), count * sizeof(mm::IoVec))));
  uint64_t total = 0;
  for (mm::IoVec& v : out) {
    if (static_cast<int64_t>(v.length) < 0) return Errno::kEINVAL;
    v.length = std::min(v.length, kMaxRwCount - total);
    total += v.length;
  }
  return out;
}

int64_t DeadlineAfter(int64_t timeout_ns) {
  if (timeout_ns < 0) return time::kNever;
  int64_t deadline;
  if (__builtin_add_overflow(time::MonotonicNow(), timeout_ns, &deadline)) return time::kNever;
  return deadline;
}

namespace {

int64_t SocketDeadline(vfs::FileDescription& file, bool read) {
  if (file.kind() != vfs::FileKind::kSocket) return time::kNever;
  auto& socket = static_cast<vfs::Socket&>(file);
  int64_t timeout = read ? socket.receive_timeout() : socket.send_timeout();
  return timeout > 0 ? DeadlineAfter(timeout) : time::kNever;
}

Errno TimeoutOf(vfs::FileDescription& file, Errno e) {
  if (e != Errno::kETIMEDOUT) {
    // An interrupted call on a socket with a timeout is not restarted (signal(7)).
    if (e == Errno::kERESTARTSYS && SocketDeadline(file, true) != time::kNever) return Errno::kEINTR;
    return e;
  }
  return Errno::kEAGAIN;
}

}  // namespace

Result<int64_t> ReadFully(Task& task, vfs::FileDescription& file, IoBuffer& to, uint32_t rwf) {
  auto attempt = [&]() -> Result<size_t> { return vfs::FileRead(task, file, to, rwf); };
  bool wait = !file.nonblocking() && (rwf & vfs::kRwfNowait) == 0;
  Result<size_t> n = attempt();
  if (!n.ok() && n.error() == Errno::kEAGAIN && wait) {
    // A terminal's VTIME ends the wait with what there is; a socket's timeout is an error.
    const int64_t since = time::MonotonicNow();
    const int64_t deadline = SocketDeadline(file, true);
    for (;;) {
      int64_t read_deadline = file.ReadDeadline(since);
      n = WaitForFile(task, file, kReadable, true, std::min(deadline, read_deadline), attempt);
      if (n.ok() || n.error() != Errno::kETIMEDOUT || read_deadline > deadline) break;
      if (time::MonotonicNow() < file.ReadDeadline(since)) continue;
      n = vfs::FileRead(task, file, to, rwf | vfs::kRwfTimedOut);
      break;
    }
  }
  if (!n.ok()) return TimeoutOf(file, n.error());
  return static_cast<int64_t>(*n);
}

Result<int64_t> WriteFully(Task& task, vfs::FileDescription& file, IoBuffer& from, uint32_t rwf) {
  // Counted by what attempts return: a failed one may have moved the cursor.
  int64_t done = 0;
  bool wait = !file.nonblocking() && (rwf & vfs::kRwfNowait) == 0;
  auto attempt = [&]() -> Result<size_t> { return vfs::FileWrite(task, file, from, rwf); };
  int64_t deadline = time::kNever;
  for (;;) {
    Result<size_t> n = attempt();
    if (!n.ok() && n.error() == Errno::kEAGAIN && wait) {
      if (deadline == time::kNever) deadline = SocketDeadline(file, false);
      n = WaitForFile(task, file, kWritable, true, deadline, attempt);
    }
    if (!n.ok()) {
      if (done != 0) return done;
      return TimeoutOf(file, n.error());
    }
    done += static_cast<int64_t>(*n);
    // Only what waits goes on: a short write to a regular file is a result (a full disk).
    if (from.remaining() == 0 || *n == 0 || !wait || file.EventQueue() == nullptr)
      return done;
  }
}

}  // namespace caisson::syscalls
