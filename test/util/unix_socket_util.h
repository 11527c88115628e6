// AF_UNIX addresses and connected sockets.
#ifndef CAISSON_TEST_UTIL_UNIX_SOCKET_UTIL_H_
#define CAISSON_TEST_UTIL_UNIX_SOCKET_UTIL_H_

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "test/util/file_util.h"

namespace caisson::test {

// A path, or an abstract name if it begins with a zero byte.
struct UnixAddress {
  explicit UnixAddress(const std::string& name) {
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const bool abstract = !name.empty() && name[0] == 0;
    size = offsetof(sockaddr_un, sun_path) + name.size() + (abstract ? 0 : 1);
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }

  sockaddr_un address = {};
  socklen_t size;
};

struct SocketPair {
  explicit SocketPair(int type) {
    int fds[2] = {-1, -1};
    socketpair(AF_UNIX, type, 0, fds);
    a = FdCloser(fds[0]);
    b = FdCloser(fds[1]);
  }
  FdCloser a;
  FdCloser b;
};

// One byte with these credentials. 0, or the errno.
inline int SendCredentials(int fd, const ucred& credentials) {
  char byte = 'x';
  iovec iov = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(credentials))] = {};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_CREDENTIALS;
  header->cmsg_len = CMSG_LEN(sizeof(credentials));
  memcpy(CMSG_DATA(header), &credentials, sizeof(credentials));
  return sendmsg(fd, &message, 0) == 1 ? 0 : errno;
}

// A descriptor below 0 and errno, if a step fails.
inline FdCloser Bind(int type, const UnixAddress& address) {
  FdCloser fd(socket(AF_UNIX, type, 0));
  if (bind(fd, address.get(), address.size) != 0) return FdCloser();
  return fd;
}
inline FdCloser Listen(int type, const UnixAddress& address, int backlog = 8) {
  FdCloser fd = Bind(type, address);
  if (listen(fd, backlog) != 0) return FdCloser();
  return fd;
}
inline FdCloser Connect(int type, const UnixAddress& address) {
  int fd = socket(AF_UNIX, type, 0);
  if (connect(fd, address.get(), address.size) == 0) return FdCloser(fd);
  const int error = errno;
  close(fd);
  errno = error;
  return FdCloser();
}

}  // namespace caisson::test

#endif  // CAISSON_TEST_UTIL_UNIX_SOCKET_UTIL_H_
