#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "vfs/host/host_file.h"

namespace caisson::vfs {
namespace {

constexpr size_t kMaxTransfer = 64 << 10;
constexpr size_t kPipeAtomic = 4096;

bool IsTerminal(int fd) {
  termios t;
  return tcgetattr(fd, &t) == 0;
}

}  // namespace

HostObject::HostObject(HostPoller& poller, UniqueFd fd, FileMode mode)
    : poller_(poller),
      fd_(std::move(fd)),
      type_(mode & kModeType),
      terminal_(type_ == kModeChar && IsTerminal(fd_.get())) {
  pollable_ = poller_.Add(*this, fd_.get());
}

HostObject::~HostObject() { poller_.Remove(*this); }

EventMask HostObject::Poll(EventMask mask) {
  constexpr EventMask kHostEvents = 0x3fff;
  pollfd p = {fd_.get(), static_cast<short>(mask & kHostEvents), 0};
  constexpr timespec kNow = {};
  int n;
  do {
    n = ppoll(&p, 1, &kNow, nullptr);
  } while (n < 0 && errno == EINTR);
  EventMask now = n > 0 ? static_cast<uint16_t>(p.revents) : 0;
  // Where kEventIn and kEventRdNorm were asked for, having one is having both.
  if ((now & kReadable) != 0) now |= mask & kReadable;
  if ((now & kWritable) != 0) now |= mask & kWritable;
  EventMask missing = mask & kHostEvents & ~now;
  if (missing != 0 && (now & (kEventHup | kEventErr)) == 0) poller_.Arm(*this, missing);
  return now;
}

EventMask HostObject::Readiness(EventMask mask) {
  if (!pollable_) return mask & (kReadable | kWritable);
  return Poll(mask) & (mask | kEventErr | kEventHup);
}

ssize_t HostObject::TryRead(char* to, size_t n) {
  if (type_ == kModeSocket) return recv(fd_.get(), to, n, MSG_DONTWAIT);
  if (!pollable_) return read(fd_.get(), to, n);
  if (nowait_works_.load(std::memory_order_relaxed)) {
    iovec v = {to, n};
    ssize_t got = preadv2(fd_.get(), &v, 1, -1, RWF_NOWAIT);
    if (got >= 0 || errno != EOPNOTSUPP) return got;
    nowait_works_.store(false, std::memory_order_relaxed);
  }
  // Another reader of the host may come between; then this waits for the next bytes.
  if ((Poll(kEventIn) & (kEventIn | kEventHup | kEventErr)) == 0) {
    errno = EAGAIN;
    return -1;
  }
  return read(fd_.get(), to, n);
}

ssize_t HostObject::TryWrite(const char* from, size_t n) {
  if (type_ == kModeSocket) return send(fd_.get(), from, n, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (!pollable_) return write(fd_.get(), from, n);
  if (nowait_works_.load(std::memory_order_relaxed)) {
    iovec v = {const_cast<char*>(from), n};
    ssize_t put = pwritev2(fd_.get(), &v, 1, -1, RWF_NOWAIT);
    if (put >= 0 || errno != EOPNOTSUPP) return put;
    nowait_works_.store(false, std::memory_order_relaxed);
  }
  if ((Poll(kEventOut) & (kEventOut | kEventHup | kEventErr)) == 0) {
    errno = EAGAIN;
    return -1;
  }
  // A pipe that polls as writable takes this much without waiting.
  return write(fd_.get(), from, std::min(n, kPipeAtomic));
}

Result<size_t> HostObject::Read(IoBuffer& to) {
  if (to.remaining() == 0) return size_t{0};
  std::string bounce;
  bounce.resize(std::min(to.remaining(), kMaxTransfer));
  ssize_t n;
  do {
    n = TryRead(bounce.data(), bounce.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (errno != EAGAIN) return FromHostErrno(errno);
    Poll(kEventIn | kEventRdNorm);
    return Errno::kEAGAIN;
  }
  return to.Put({bounce.data(), static_cast<size_t>(n)});
}

Result<size_t> HostObject::Write(IoBuffer& from) {
  if (from.remaining() == 0) return size_t{0};
  std::string bounce;
  bounce.resize(std::min(from.remaining(), kMaxTransfer));
  size_t taken = TRY(from.Take(absl::MakeSpan(bounce)));
  ssize_t n;
  do {
    n = TryWrite(bounce.data(), taken);
  } while (n < 0 && errno == EINTR);
  int error = n < 0 ? errno : 0;
  from.Rewind(taken - (n < 0 ? 0 : static_cast<size_t>(n)));
  if (error == EAGAIN) {
    Poll(kEventOut | kEventWrNorm);
    return Errno::kEAGAIN;
  }
  if (error != 0) return FromHostErrno(error);
  return static_cast<size_t>(n);
}

}  // namespace caisson::vfs
