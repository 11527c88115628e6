#include "runsc/container/console.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace caisson::runsc {

absl::StatusOr<Pty> OpenPty(uint32_t rows, uint32_t columns) {
  Pty out;
  out.master.reset(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!out.master) return HostErrnoStatus(errno, "opening /dev/ptmx");
  int unlock = 0;
  if (ioctl(out.master.get(), TIOCSPTLCK, &unlock) != 0) {
    return HostErrnoStatus(errno, "unlocking the pty");
  }
  // Not by name: /dev/pts may be another instance's in this mount namespace.
  out.slave.reset(ioctl(out.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!out.slave) return HostErrnoStatus(errno, "opening the pty's other end");
  termios mode{};
  if (tcgetattr(out.slave.get(), &mode) != 0) return HostErrnoStatus(errno, "tcgetattr");
  cfmakeraw(&mode);
  if (tcsetattr(out.slave.get(), TCSANOW, &mode) != 0) return HostErrnoStatus(errno, "tcsetattr");
  if (rows != 0 || columns != 0) {
    winsize size{};
    size.ws_row = static_cast<uint16_t>(rows);
    size.ws_col = static_cast<uint16_t>(columns);
    ioctl(out.master.get(), TIOCSWINSZ, &size);
  }
  return out;
}

absl::Status SendDescriptor(const std::string& path, int fd, const std::string& name) {
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) return HostErrnoStatus(errno, "socket");
  // A path that is too long for sockaddr_un is reached through a descriptor of its directory.
  std::string name_of_socket = path;
  UniqueFd directory;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    size_t slash = path.rfind('/');
    if (slash == std::string::npos)
      return absl::InvalidArgumentError(absl::StrCat(path, ": too long"));
    directory.reset(open(path.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory) return HostErrnoStatus(errno, path);
    name_of_socket = absl::StrCat("/proc/self/fd/", directory.get(), path.substr(slash));
    if (name_of_socket.size() >= sizeof(address.sun_path)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": too long"));
    }
  }
  memcpy(address.sun_path, name_of_socket.c_str(), name_of_socket.size());
  if (connect(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return HostErrnoStatus(errno, absl::StrCat("connecting to ", path));
  }
  iovec data{const_cast<char*>(name.data()), name.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof(int));
  ssize_t n = 0;
  do {
    n = sendmsg(socket_fd.get(), &message, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return HostErrnoStatus(errno, absl::StrCat("sending to ", path));
  return absl::OkStatus();
}

RawMode::RawMode(int fd) {
  if (tcgetattr(fd, &saved_) != 0) return;
  termios raw = saved_;
  cfmakeraw(&raw);
  if (tcsetattr(fd, TCSANOW, &raw) == 0) fd_ = fd;
}

RawMode::~RawMode() {
  if (fd_ >= 0) tcsetattr(fd_, TCSANOW, &saved_);
}

void CopyWindowSize(int from, int to) {
  winsize size{};
  if (ioctl(from, TIOCGWINSZ, &size) == 0) ioctl(to, TIOCSWINSZ, &size);
}

}  // namespace caisson::runsc
