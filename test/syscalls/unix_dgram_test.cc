// AF_UNIX datagram sockets, ancillary data and credentials: unix(7), recvmsg(2), sendmmsg(2).
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"
#include "test/util/unix_socket_util.h"

namespace caisson::test {
namespace {

// Sends `text` with the descriptors.
ssize_t SendFds(int socket, const std::string& text, const std::vector<int>& fds) {
  iovec iov = {const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(260 * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  return sendmsg(socket, &message, 0);
}

struct Received {
  ssize_t size = -1;
  std::string text;
  int flags = 0;
  std::vector<int> fds;
  ucred credentials = {};
  bool has_credentials = false;
};
Received Receive(int socket, int flags = 0, size_t control_size = 256) {
  Received received;
  char text[256];
  iovec iov = {text, sizeof(text)};
  alignas(cmsghdr) char control[256];
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = control_size;
  received.size = recvmsg(socket, &message, flags);
  if (received.size < 0) return received;
  received.text.assign(text, std::min<size_t>(received.size, sizeof(text)));
  received.flags = message.msg_flags;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_type == SCM_RIGHTS) {
      received.fds.resize((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
      memcpy(received.fds.data(), CMSG_DATA(header), received.fds.size() * sizeof(int));
    } else if (header->cmsg_type == SCM_CREDENTIALS) {
      memcpy(&received.credentials, CMSG_DATA(header), sizeof(ucred));
      received.has_credentials = true;
    }
  }
  return received;
}

TEST(UnixDgramTest, KeepsBoundariesAndSenders) {
  TempDir dir;
  UnixAddress server_address(dir / "server"), client_address(dir / "client");
  FdCloser server = Bind(SOCK_DGRAM, server_address), client = Bind(SOCK_DGRAM, client_address);
  ASSERT_THAT(sendto(client, "one", 3, 0, server_address.get(), server_address.size),
              SyscallSucceedsWithValue(3));
  ASSERT_THAT(sendto(client, "", 0, 0, server_address.get(), server_address.size),
              SyscallSucceedsWithValue(0));
  char buffer[16];
  sockaddr_un from = {};
  socklen_t size = sizeof(from);
  ASSERT_THAT(recvfrom(server, buffer, 16, 0, reinterpret_cast<sockaddr*>(&from), &size),
              SyscallSucceedsWithValue(3));
  EXPECT_STREQ(from.sun_path, client_address.address.sun_path);
  EXPECT_THAT(recv(server, buffer, 16, MSG_DONTWAIT), SyscallSucceedsWithValue(0));
}

TEST(UnixDgramTest, TruncationShowsInFlagsAndWithTruncInTheLength) {
  SocketPair pair(SOCK_DGRAM);
  ASSERT_THAT(send(pair.a, "123456", 6, 0), SyscallSucceeds());
  ASSERT_THAT(send(pair.a, "123456", 6, 0), SyscallSucceeds());
  char buffer[2];
  iovec iov = {buffer, 2};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  EXPECT_THAT(recvmsg(pair.b, &message, 0), SyscallSucceedsWithValue(2));
  EXPECT_EQ(message.msg_flags, MSG_TRUNC);
  EXPECT_THAT(recv(pair.b, buffer, 2, MSG_TRUNC), SyscallSucceedsWithValue(6));
}

TEST(UnixDgramTest, ConnectedSocketTakesOnlyItsPeersMessages) {
  TempDir dir;
  UnixAddress a(dir / "a"), b(dir / "b"), c(dir / "c");
  FdCloser socket_a = Bind(SOCK_DGRAM, a), socket_b = Bind(SOCK_DGRAM, b),
           socket_c = Bind(SOCK_DGRAM, c);
  ASSERT_THAT(connect(socket_a, b.get(), b.size), SyscallSucceeds());
  EXPECT_THAT(sendto(socket_c, "x", 1, 0, a.get(), a.size), SyscallFailsWithErrno(EPERM));
  EXPECT_THAT(sendto(socket_b, "x", 1, 0, a.get(), a.size), SyscallSucceedsWithValue(1));
}

TEST(UnixDgramTest, WithoutDestinationIsEnotconnAndDeadOneRefused) {
  TempDir dir;
  UnixAddress address(dir / "s");
  FdCloser fd(socket(AF_UNIX, SOCK_DGRAM, 0));
  EXPECT_THAT(send(fd, "x", 1, 0), SyscallFailsWithErrno(ENOTCONN));
  Bind(SOCK_DGRAM, address).Close();
  EXPECT_THAT(sendto(fd, "x", 1, 0, address.get(), address.size),
              SyscallFailsWithErrno(ECONNREFUSED));
}

TEST(UnixDgramTest, OversizedMessageIsEmsgsize) {
  SocketPair pair(SOCK_DGRAM);
  std::string big(4 << 20, 'x');
  EXPECT_THAT(send(pair.a, big.data(), big.size(), 0), SyscallFailsWithErrno(EMSGSIZE));
}

TEST(UnixDgramTest, BadAddressesAreInvalid) {
  FdCloser fd(socket(AF_UNIX, SOCK_DGRAM, 0));
  sockaddr_un address = {};
  address.sun_family = AF_INET;
  EXPECT_THAT(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
              SyscallFailsWithErrno(EINVAL));
  address.sun_family = AF_UNIX;
  EXPECT_THAT(bind(fd, reinterpret_cast<sockaddr*>(&address), 200), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(bind(fd, reinterpret_cast<sockaddr*>(&address), 1), SyscallFailsWithErrno(EINVAL));
}

TEST(MmsgTest, SendsAndReceivesSeveral) {
  SocketPair pair(SOCK_DGRAM);
  char text[3][4] = {"one", "two", "tri"};
  iovec iov[3];
  mmsghdr messages[3] = {};
  for (int i = 0; i < 3; i++) {
    iov[i] = {text[i], 3};
    messages[i].msg_hdr.msg_iov = &iov[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_THAT(sendmmsg(pair.a, messages, 3, 0), SyscallSucceedsWithValue(3));
  EXPECT_THAT(recvmmsg(pair.b, messages, 3, MSG_DONTWAIT, nullptr), SyscallSucceedsWithValue(3));
  EXPECT_EQ(messages[2].msg_len, 3u);
  EXPECT_STREQ(text[2], "tri");
}

TEST(RightsTest, PassedDescriptorIsTheSameDescription) {
  SocketPair pair(SOCK_STREAM);
  TempFile file("0123456789");
  FdCloser fd = file.Open(O_RDONLY);
  ASSERT_THAT(SendFds(pair.a, "x", {fd}), SyscallSucceedsWithValue(1));
  Received received = Receive(pair.b);
  ASSERT_EQ(received.fds.size(), 1u);
  FdCloser copy(received.fds[0]);
  EXPECT_NE(copy, fd);
  EXPECT_EQ(ReadOnce(fd, 5), "01234");
  EXPECT_EQ(ReadOnce(copy, 5), "56789");
}

TEST(RightsTest, CloexecFlagOfTheReceiverApplies) {
  SocketPair pair(SOCK_DGRAM);
  ASSERT_THAT(SendFds(pair.a, "x", {0}), SyscallSucceeds());
  Received received = Receive(pair.b, MSG_CMSG_CLOEXEC);
  ASSERT_EQ(received.fds.size(), 1u);
  FdCloser copy(received.fds[0]);
  EXPECT_THAT(fcntl(copy, F_GETFD), SyscallSucceedsWithValue(FD_CLOEXEC));
}

TEST(RightsTest, ClosedByTheSenderItLivesInTheQueue) {
  SocketPair pair(SOCK_STREAM);
  Pipe pipe;
  ASSERT_THAT(SendFds(pair.a, "x", {pipe.writer}), SyscallSucceeds());
  pipe.writer.Close();
  Received received = Receive(pair.b);
  ASSERT_EQ(received.fds.size(), 1u);
  ASSERT_TRUE(WriteAll(received.fds[0], "alive"));
  close(received.fds[0]);
  EXPECT_EQ(ReadAll(pipe.reader), "alive");
}

TEST(RightsTest, UnreceivedOnesAreClosedWithTheSocket) {
  Pipe pipe;
  {
    SocketPair pair(SOCK_STREAM);
    ASSERT_THAT(SendFds(pair.a, "x", {pipe.writer}), SyscallSucceeds());
    pipe.writer.Close();
  }
  EXPECT_EQ(ReadAll(pipe.reader), "");
}

TEST(RightsTest, SmallControlBufferTruncatesAndClosesTheRest) {
  SocketPair pair(SOCK_DGRAM);
  Pipe pipe;
  ASSERT_THAT(SendFds(pair.a, "x", {0, pipe.writer}), SyscallSucceeds());
  pipe.writer.Close();
  Received received = Receive(pair.b, 0, CMSG_LEN(sizeof(int)));
  EXPECT_TRUE(received.flags & MSG_CTRUNC);
  ASSERT_EQ(received.fds.size(), 1u);
  close(received.fds[0]);
  EXPECT_EQ(ReadAll(pipe.reader), "");
}

TEST(RightsTest, PlainReadDropsThem) {
  SocketPair pair(SOCK_STREAM);
  Pipe pipe;
  ASSERT_THAT(SendFds(pair.a, "x", {pipe.writer}), SyscallSucceeds());
  pipe.writer.Close();
  EXPECT_EQ(ReadOnce(pair.b), "x");
  EXPECT_EQ(ReadAll(pipe.reader), "");
}

TEST(RightsTest, StreamReadEndsBehindTheBytesThatBroughtThem) {
  SocketPair pair(SOCK_STREAM);
  ASSERT_THAT(send(pair.a, "before", 6, 0), SyscallSucceeds());
  ASSERT_THAT(SendFds(pair.a, "with", {0}), SyscallSucceeds());
  ASSERT_THAT(send(pair.a, "after", 5, 0), SyscallSucceeds());
  Received received = Receive(pair.b);
  EXPECT_EQ(received.text, "beforewith");
  ASSERT_EQ(received.fds.size(), 1u);
  close(received.fds[0]);
  EXPECT_EQ(Receive(pair.b).text, "after");
}

TEST(RightsTest, BadDescriptorAndTooManyAreRefused) {
  SocketPair pair(SOCK_DGRAM);
  EXPECT_THAT(SendFds(pair.a, "x", {1000}), SyscallFailsWithErrno(EBADF));
  EXPECT_THAT(SendFds(pair.a, "x", std::vector<int>(254, 0)), SyscallFailsWithErrno(EINVAL));
}

TEST(RightsTest, SocketCanBeSentOverItself) {
  SocketPair pair(SOCK_STREAM);
  ASSERT_THAT(SendFds(pair.a, "x", {pair.a, pair.b}), SyscallSucceeds());
  // Nobody receives it: the collector of such cycles has to free it, or the kernel leaks.
}

TEST(CredentialsTest, PeerOfAPairIsTheMaker) {
  SocketPair pair(SOCK_STREAM);
  ucred peer = {};
  socklen_t size = sizeof(peer);
  ASSERT_THAT(getsockopt(pair.a, SOL_SOCKET, SO_PEERCRED, &peer, &size), SyscallSucceeds());
  EXPECT_EQ(peer.pid, getpid());
  EXPECT_EQ(peer.uid, getuid());
}

TEST(CredentialsTest, PasscredReportsTheSender) {
  SocketPair pair(SOCK_DGRAM);
  int on = 1;
  ASSERT_THAT(setsockopt(pair.b, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), SyscallSucceeds());
  pid_t sender = 0;
  {
    Child child([&] {
      setresuid(1000, 1000, 1000);
      send(pair.a, "x", 1, 0);
    });
    sender = child.pid();
    child.Wait();
  }
  Received received = Receive(pair.b);
  ASSERT_TRUE(received.has_credentials);
  EXPECT_EQ(received.credentials.pid, sender);
  EXPECT_EQ(received.credentials.uid, 1000u);
}

TEST(CredentialsTest, UnprivilegedCannotForgeThem) {
  SocketPair pair(SOCK_DGRAM);
  EXPECT_THAT(InChild([&] {
                setresuid(1000, 1000, 1000);
                EXPECT_EQ(SendCredentials(pair.a, {getpid(), 0, 0}), EPERM);
              }),
              ExitsWith(0));
}

TEST(ControlTest, BrokenHeadersAreInvalid) {
  SocketPair pair(SOCK_DGRAM);
  char byte = 'x';
  iovec iov = {&byte, 1};
  cmsghdr header = {};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = &header;
  message.msg_controllen = sizeof(header);
  header.cmsg_level = SOL_SOCKET;
  header.cmsg_type = SCM_RIGHTS;
  header.cmsg_len = 1000;
  EXPECT_THAT(sendmsg(pair.a, &message, 0), SyscallFailsWithErrno(EINVAL));
  header.cmsg_len = 4;
  EXPECT_THAT(sendmsg(pair.a, &message, 0), SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
