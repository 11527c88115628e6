#include "gofer/protocol/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace caisson::gofer {

int SendPacket(int socket, absl::string_view bytes, int fd, bool dont_wait) {
  iovec iov{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (fd >= 0) {
    msg.msg_control = control;
    msg.msg_controllen = sizeof(control);
    cmsghdr* c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
  }
  int flags = MSG_NOSIGNAL | (dont_wait ? MSG_DONTWAIT : 0);
  for (;;) {
    ssize_t n = sendmsg(socket, &msg, flags);
    if (n >= 0) return 0;
    if (errno != EINTR) return errno;
  }
}

ssize_t ReceivePacket(int socket, char* buffer, size_t size, UniqueFd* fd) {
  iovec iov{buffer, size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  ssize_t n;
  do {
    if (fd != nullptr) {
      msg.msg_control = control;
      // Room for one exactly: with CMSG_SPACE's padding the host would deliver a second.
      msg.msg_controllen = CMSG_LEN(sizeof(int));
    }
    n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return -errno;
  if (fd != nullptr) {
    for (cmsghdr* c = CMSG_FIRSTHDR(&msg); c != nullptr; c = CMSG_NXTHDR(&msg, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
          c->cmsg_len != CMSG_LEN(sizeof(int)))
        continue;
      int received;
      memcpy(&received, CMSG_DATA(c), sizeof(int));
      fd->reset(received);
    }
    if ((msg.msg_flags & MSG_CTRUNC) != 0) return -EMSGSIZE;
  }
  if ((msg.msg_flags & MSG_TRUNC) != 0) return -EMSGSIZE;
  return n;
}

}  // namespace caisson::gofer
