#include "sentry/protocol/channel.h"

#include <fcntl.h>
#include <google/protobuf/message_lite.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/status.h"

namespace caisson::protocol {
namespace {

// The first byte of a packet. A protobuf message may have no bytes at all, which would look like
// the end of the connection.
constexpr char kMessageMark = 1;
constexpr size_t kPacketSize = 1 + kMaxControlMessage;
constexpr int kAllSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// A control buffer for kMaxControlFds descriptors; heap memory, since it is 1 KiB.
constexpr size_t kControlSize = CMSG_SPACE(kMaxControlFds * sizeof(int));

int64_t NowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// Waits until `socket` is readable or has hung up.
absl::Status WaitReadable(int socket, int timeout_ms) {
  if (timeout_ms < 0) return absl::OkStatus();  // recvmsg() itself waits.
  const int64_t deadline = NowMs() + timeout_ms;
  while (true) {
    pollfd entry{.fd = socket, .events = POLLIN, .revents = 0};
    const int64_t left = std::max<int64_t>(deadline - NowMs(), 0);
    // ppoll(2), since the sentry's filter does not have poll(2).
    const timespec wait{.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1'000'000};
    const int n = ppoll(&entry, 1, &wait, nullptr);
    if (n > 0) return absl::OkStatus();
    if (n == 0) return absl::DeadlineExceededError("control connection: no answer in time");
    if (errno != EINTR) return HostErrnoStatus(errno, "poll of a control connection");
  }
}

}  // namespace

absl::StatusOr<SocketPair> MakeSocketPair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    return HostErrnoStatus(errno, "socketpair");
  }
  return SocketPair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

absl::Status SendMessage(int socket, const google::protobuf::MessageLite& message,
                         absl::Span<const int> fds, bool dont_wait) {
  std::string bytes(1, kMessageMark);
  message.AppendToString(&bytes);
  if (bytes.size() > kPacketSize || fds.size() > kMaxControlFds) {
    return absl::InvalidArgumentError("control message too large");
  }
  iovec data{bytes.data(), bytes.size()};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  std::vector<char> control;
  if (!fds.empty()) {
    control.resize(CMSG_SPACE(fds.size() * sizeof(int)));
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* cmsg = CMSG_FIRSTHDR(&header);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(cmsg), fds.data(), fds.size() * sizeof(int));
  }
  while (true) {
    const ssize_t n = sendmsg(socket, &header, MSG_NOSIGNAL | (dont_wait ? MSG_DONTWAIT : 0));
    if (n >= 0) return absl::OkStatus();
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET || errno == EAGAIN) {
      return absl::UnavailableError("control connection: peer is gone");
    }
    return HostErrnoStatus(errno, "sendmsg on a control connection");
  }
}

absl::Status ReceiveMessage(int socket, google::protobuf::MessageLite* message,
                            std::vector<UniqueFd>* fds, int timeout_ms) {
  RETURN_IF_ERROR(WaitReadable(socket, timeout_ms));
  std::unique_ptr<char[]> bytes(new char[kPacketSize]);
  alignas(cmsghdr) char control[kControlSize];
  iovec data{bytes.get(), kPacketSize};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  ssize_t n;
  do {
    n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (errno == ECONNRESET) return absl::OutOfRangeError("control connection: peer is gone");
    return HostErrnoStatus(errno, "recvmsg on a control connection");
  }
  // Whatever came is owned before anything is judged, so that nothing leaks.
  std::vector<UniqueFd> received;
  for (cmsghdr* cmsg = CMSG_FIRSTHDR(&header); cmsg != nullptr; cmsg = CMSG_NXTHDR(&header, cmsg)) {
    if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
      received.emplace_back(fd);
    }
  }
  if (n == 0) return absl::OutOfRangeError("control connection: closed by peer");
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return absl::InvalidArgumentError("control message too large");
  }
  if (fds == nullptr && !received.empty()) {
    return absl::InvalidArgumentError("control message with unexpected descriptors");
  }
  if (bytes[0] != kMessageMark ||
      !message->ParseFromArray(bytes.get() + 1, static_cast<int>(n) - 1)) {
    return absl::InvalidArgumentError("control message does not parse");
  }
  for (UniqueFd& fd : received) fds->push_back(std::move(fd));
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> SealedPayload(const google::protobuf::MessageLite& message,
                                       const char* name) {
  const std::string bytes = message.SerializeAsString();
  if (bytes.size() > kMaxPayload) return absl::InvalidArgumentError("payload too large");
  UniqueFd fd(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return HostErrnoStatus(errno, "memfd_create");
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = pwrite(fd.get(), bytes.data() + done, bytes.size() - done,
                             static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return HostErrnoStatus(n < 0 ? errno : EIO, "write to a memfd");
    done += static_cast<size_t>(n);
  }
  if (fcntl(fd.get(), F_ADD_SEALS, kAllSeals) != 0) return HostErrnoStatus(errno, "F_ADD_SEALS");
  return fd;
}

absl::Status ReadSealedPayload(int fd, google::protobuf::MessageLite* message) {
  // F_GET_SEALS fails on anything but a memfd or tmpfs file.
  const int seals = fcntl(fd, F_GET_SEALS);
  struct stat status {};
  if (seals < 0 || (seals & kAllSeals) != kAllSeals || fstat(fd, &status) != 0 ||
      !S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError("payload is not a sealed memfd");
  }
  if (status.st_size < 0 || static_cast<uint64_t>(status.st_size) > kMaxPayload) {
    return absl::InvalidArgumentError("payload too large");
  }
  std::string bytes(static_cast<size_t>(status.st_size), '\0');
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n =
        pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return absl::InvalidArgumentError("payload cannot be read");
    done += static_cast<size_t>(n);
  }
  if (!message->ParseFromString(bytes)) return absl::InvalidArgumentError("payload does not parse");
  return absl::OkStatus();
}

}  // namespace caisson::protocol
