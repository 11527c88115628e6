// AF_UNIX stream and seqpacket sockets: unix(7), socketpair(2), accept(2), shutdown(2).
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"
#include "test/util/unix_socket_util.h"

namespace caisson::test {
namespace {

class UnixStreamTest : public testing::Test {
 protected:
  UnixStreamTest() : pair_(SOCK_STREAM), address_(dir_ / "socket") {}
  SocketPair pair_;
  int a_ = pair_.a, b_ = pair_.b;
  TempDir dir_;
  UnixAddress address_;
  char byte_ = 0;
};

TEST_F(UnixStreamTest, BytesHaveNoBoundaries) {
  ASSERT_THAT(send(a_, "abc", 3, 0), SyscallSucceedsWithValue(3));
  ASSERT_THAT(send(a_, "def", 3, 0), SyscallSucceedsWithValue(3));
  EXPECT_EQ(ReadOnce(b_), "abcdef");
}

TEST_F(UnixStreamTest, PeekLeavesTheData) {
  ASSERT_THAT(send(a_, "peek", 4, 0), SyscallSucceedsWithValue(4));
  char buffer[8];
  EXPECT_THAT(recv(b_, buffer, 2, MSG_PEEK), SyscallSucceedsWithValue(2));
  EXPECT_THAT(recv(b_, buffer, 8, 0), SyscallSucceedsWithValue(4));
}

TEST_F(UnixStreamTest, DontwaitIsEagain) {
  EXPECT_THAT(recv(a_, &byte_, 1, MSG_DONTWAIT), SyscallFailsWithErrno(EAGAIN));
}

TEST_F(UnixStreamTest, WaitallWaitsForAllBytes) {
  Child child([&] {
    char buffer[6];
    EXPECT_THAT(recv(b_, buffer, 6, MSG_WAITALL), SyscallSucceedsWithValue(6));
  });
  ASSERT_THAT(send(a_, "abc", 3, 0), SyscallSucceedsWithValue(3));
  ASSERT_TRUE(WaitUntil([&] {
    int unread = -1;
    ioctl(b_, FIONREAD, &unread);
    return unread == 0;
  }));
  ASSERT_THAT(send(a_, "def", 3, 0), SyscallSucceedsWithValue(3));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(UnixStreamTest, ClosedPeerIsEndOfFileThenEpipe) {
  ASSERT_THAT(send(a_, "last", 4, 0), SyscallSucceedsWithValue(4));
  pair_.a.Close();
  EXPECT_EQ(ReadOnce(b_), "last");
  EXPECT_THAT(recv(b_, &byte_, 1, 0), SyscallSucceedsWithValue(0));
  EXPECT_THAT(send(b_, "x", 1, MSG_NOSIGNAL), SyscallFailsWithErrno(EPIPE));
}

TEST_F(UnixStreamTest, UnreadDataAtThePeersCloseIsConnreset) {
  ASSERT_THAT(send(a_, "x", 1, 0), SyscallSucceedsWithValue(1));
  pair_.b.Close();
  EXPECT_THAT(recv(a_, &byte_, 1, 0), SyscallFailsWithErrno(ECONNRESET));
}

TEST_F(UnixStreamTest, SendToAClosedPeerSignals) {
  EXPECT_THAT(InChild([&] {
                pair_.b.Close();
                ScopedAction action(SIGPIPE, CountDelivery);
                // The parent's copy of b is still open: a pair of this child's own.
                SocketPair own(SOCK_STREAM);
                own.b.Close();
                EXPECT_THAT(send(own.a, "x", 1, 0), SyscallFailsWithErrno(EPIPE));
                EXPECT_EQ(g_deliveries, 1);
              }),
              ExitsWith(0));
}

TEST_F(UnixStreamTest, ShutdownOfWritingIsEndOfFileForThePeer) {
  ASSERT_THAT(shutdown(a_, SHUT_WR), SyscallSucceeds());
  EXPECT_THAT(recv(b_, &byte_, 1, 0), SyscallSucceedsWithValue(0));
  EXPECT_THAT(send(a_, "x", 1, MSG_NOSIGNAL), SyscallFailsWithErrno(EPIPE));
  EXPECT_THAT(send(b_, "x", 1, 0), SyscallSucceedsWithValue(1));
}

TEST_F(UnixStreamTest, ShutdownOfReadingBreaksThePeersWrites) {
  ASSERT_THAT(shutdown(a_, SHUT_RD), SyscallSucceeds());
  EXPECT_THAT(recv(a_, &byte_, 1, 0), SyscallSucceedsWithValue(0));
  EXPECT_THAT(send(b_, "x", 1, MSG_NOSIGNAL), SyscallFailsWithErrno(EPIPE));
  EXPECT_THAT(shutdown(a_, 9), SyscallFailsWithErrno(EINVAL));
}

TEST_F(UnixStreamTest, FullBufferIsEagainThenWritableAgain) {
  std::string block(4096, 'x');
  while (send(a_, block.data(), block.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_EQ(errno, EAGAIN);
  pollfd poller = {a_, POLLOUT, 0};
  EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(0));
  while (recv(b_, block.data(), block.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(1));
}

TEST_F(UnixStreamTest, ConnectAcceptAndNames) {
  FdCloser server(Listen(SOCK_STREAM, address_));
  struct stat st;
  ASSERT_THAT(stat((dir_ / "socket").c_str(), &st), SyscallSucceeds());
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  FdCloser client(Connect(SOCK_STREAM, address_));
  ASSERT_THAT(int{client}, SyscallSucceeds());
  FdCloser connection(accept4(server, nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_THAT(int{connection}, SyscallSucceeds());
  ASSERT_TRUE(WriteAll(client, "hello"));
  EXPECT_EQ(ReadOnce(connection), "hello");
  sockaddr_un peer = {};
  socklen_t size = sizeof(peer);
  ASSERT_THAT(getpeername(client, reinterpret_cast<sockaddr*>(&peer), &size), SyscallSucceeds());
  EXPECT_STREQ(peer.sun_path, address_.address.sun_path);
  size = sizeof(peer);
  ASSERT_THAT(getsockname(client, reinterpret_cast<sockaddr*>(&peer), &size), SyscallSucceeds());
  EXPECT_EQ(size, sizeof(sa_family_t));  // Unnamed.
}

TEST_F(UnixStreamTest, AcceptWithoutConnectionIsEagain) {
  FdCloser server(Listen(SOCK_STREAM | SOCK_NONBLOCK, address_));
  EXPECT_THAT(accept(server, nullptr, nullptr), SyscallFailsWithErrno(EAGAIN));
  FdCloser client(Connect(SOCK_STREAM, address_));
  pollfd poller = {server, POLLIN, 0};
  EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(1));
  EXPECT_THAT(close(accept(server, nullptr, nullptr)), SyscallSucceeds());
}

TEST_F(UnixStreamTest, SecondBindToAPathIsEaddrinuse) {
  FdCloser server(Listen(SOCK_STREAM, address_));
  FdCloser other(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_THAT(bind(other, address_.get(), address_.size), SyscallFailsWithErrno(EADDRINUSE));
  UnixAddress free(dir_ / "free");
  EXPECT_THAT(bind(server, free.get(), free.size), SyscallFailsWithErrno(EINVAL));
}

TEST_F(UnixStreamTest, ConnectToNobodyIsRefusedOrMissing) {
  FdCloser client(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_THAT(connect(client, address_.get(), address_.size), SyscallFailsWithErrno(ENOENT));
  Listen(SOCK_STREAM, address_).Close();  // The file stays.
  EXPECT_THAT(connect(client, address_.get(), address_.size), SyscallFailsWithErrno(ECONNREFUSED));
}

TEST_F(UnixStreamTest, ConnectNeedsWritePermissionOnTheFile) {
  FdCloser server(Listen(SOCK_STREAM, address_));
  ASSERT_THAT(chmod((dir_ / "socket").c_str(), 0600), SyscallSucceeds());
  EXPECT_THAT(InChild([&] {
                setresuid(1000, 1000, 1000);
                EXPECT_THAT(int{Connect(SOCK_STREAM, address_)}, SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

TEST_F(UnixStreamTest, FullBacklogIsEagainForANonblockingClient) {
  FdCloser server(Listen(SOCK_STREAM, address_, 0));
  FdCloser first(Connect(SOCK_STREAM, address_));
  ASSERT_THAT(int{first}, SyscallSucceeds());
  FdCloser second(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_THAT(connect(second, address_.get(), address_.size), SyscallFailsWithErrno(EAGAIN));
}

TEST_F(UnixStreamTest, AbstractNamesVanishWithTheirSocket) {
  UnixAddress abstract(std::string("\0guest_test_", 12) + std::to_string(getpid()));
  FdCloser server(Listen(SOCK_STREAM, abstract));
  FdCloser client(Connect(SOCK_STREAM, abstract));
  EXPECT_THAT(int{client}, SyscallSucceeds());
  server.Close();
  EXPECT_THAT(int{Connect(SOCK_STREAM, abstract)}, SyscallFailsWithErrno(ECONNREFUSED));
}

TEST_F(UnixStreamTest, AutobindMakesAnAbstractName) {
  FdCloser fd(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  ASSERT_THAT(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)),
              SyscallSucceeds());
  socklen_t size = sizeof(address);
  ASSERT_THAT(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), SyscallSucceeds());
  EXPECT_EQ(size, sizeof(sa_family_t) + 6);
  EXPECT_EQ(address.sun_path[0], 0);
}

TEST_F(UnixStreamTest, WrongStateIsRefused) {
  FdCloser fd(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_THAT(listen(fd, 1), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(accept(fd, nullptr, nullptr), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(send(fd, "x", 1, MSG_NOSIGNAL), SyscallFailsWithErrno(ENOTCONN));
  EXPECT_THAT(recv(fd, &byte_, 1, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(connect(a_, address_.get(), address_.size), SyscallFailsWithErrno(ENOENT));
  sockaddr_un peer;
  socklen_t size = sizeof(peer);
  EXPECT_THAT(getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size),
              SyscallFailsWithErrno(ENOTCONN));
}

TEST_F(UnixStreamTest, ReceiveTimeoutIsEagain) {
  timeval timeout = {0, 1000};
  ASSERT_THAT(setsockopt(a_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)),
              SyscallSucceeds());
  EXPECT_THAT(recv(a_, &byte_, 1, 0), SyscallFailsWithErrno(EAGAIN));
}

TEST_F(UnixStreamTest, OptionsTellTypeDomainAndState) {
  int value = 0;
  socklen_t size = sizeof(value);
  ASSERT_THAT(getsockopt(a_, SOL_SOCKET, SO_TYPE, &value, &size), SyscallSucceeds());
  EXPECT_EQ(value, SOCK_STREAM);
  ASSERT_THAT(getsockopt(a_, SOL_SOCKET, SO_DOMAIN, &value, &size), SyscallSucceeds());
  EXPECT_EQ(value, AF_UNIX);
  ASSERT_THAT(getsockopt(a_, SOL_SOCKET, SO_ACCEPTCONN, &value, &size), SyscallSucceeds());
  EXPECT_EQ(value, 0);
  EXPECT_THAT(getsockopt(a_, SOL_SOCKET, 9999, &value, &size), SyscallFailsWithErrno(ENOPROTOOPT));
}

TEST(SocketTest, UnknownFamiliesAndTypes) {
  EXPECT_THAT(socket(77, SOCK_STREAM, 0), SyscallFailsWithErrno(EAFNOSUPPORT));
  EXPECT_THAT(socket(AF_UNIX, 9, 0), SyscallFailsWithErrno(ESOCKTNOSUPPORT));
  EXPECT_THAT(socket(AF_UNIX, 12, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(socket(AF_UNIX, SOCK_STREAM, 33), SyscallFailsWithErrno(EPROTONOSUPPORT));
}

TEST(SocketTest, FilesAreNotSockets) {
  Pipe pipe;
  char byte;
  EXPECT_THAT(recv(pipe.reader, &byte, 1, 0), SyscallFailsWithErrno(ENOTSOCK));
  EXPECT_THAT(listen(pipe.reader, 1), SyscallFailsWithErrno(ENOTSOCK));
}

TEST(SeqpacketTest, KeepsBoundariesAndTruncates) {
  SocketPair pair(SOCK_SEQPACKET);
  ASSERT_THAT(send(pair.a, "first", 5, 0), SyscallSucceedsWithValue(5));
  ASSERT_THAT(send(pair.a, "second", 6, 0), SyscallSucceedsWithValue(6));
  char buffer[16];
  EXPECT_THAT(recv(pair.b, buffer, 2, 0), SyscallSucceedsWithValue(2));
  EXPECT_THAT(recv(pair.b, buffer, 16, 0), SyscallSucceedsWithValue(6));
  pair.a.Close();
  EXPECT_THAT(recv(pair.b, buffer, 16, 0), SyscallSucceedsWithValue(0));
}

pid_t PeerOf(int fd) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  EXPECT_THAT(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size), SyscallSucceeds());
  return peer.pid;
}

TEST(PeerTest, OneThatHasGoneIsStillNamed) {
  FdCloser server(socket(AF_UNIX, SOCK_STREAM, 0));
  const sockaddr_un any = {AF_UNIX, {}};
  sockaddr_un name = {};
  socklen_t size = sizeof(name);
  ASSERT_THAT(bind(server, reinterpret_cast<const sockaddr*>(&any), sizeof(sa_family_t)), SyscallSucceeds());
  ASSERT_THAT(getsockname(server, reinterpret_cast<sockaddr*>(&name), &size), SyscallSucceeds());
  ASSERT_THAT(listen(server, 1), SyscallSucceeds());
  pid_t pid = 0;
  {
    Child child([&] {
      FdCloser fd(socket(AF_UNIX, SOCK_STREAM, 0));
      EXPECT_THAT(connect(fd, reinterpret_cast<const sockaddr*>(&name), size), SyscallSucceeds());
    });
    pid = child.pid();
    EXPECT_THAT(child.Wait(), ExitsWith(0));
  }
  FdCloser connection(accept(server, nullptr, nullptr));
  EXPECT_EQ(PeerOf(connection), pid);
}

TEST(PeerTest, IsNumberedAsTheReaderSeesIt) {
  EXPECT_THAT(InChild([] {
                ASSERT_THAT(unshare(CLONE_NEWPID), SyscallSucceeds());
                const pid_t init = fork();
                if (init == 0) _exit(PeerOf(SocketPair(SOCK_STREAM).a) == 1 ? 0 : 1);
                int status = -1;
                EXPECT_THAT(waitpid(init, &status, 0), SyscallSucceedsWithValue(init));
                EXPECT_THAT(status, ExitsWith(0));
                SocketPair pair(SOCK_STREAM);
                EXPECT_EQ(PeerOf(pair.a), getpid());
              }),
              ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
