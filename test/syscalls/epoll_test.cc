// epoll_create(2), epoll_ctl(2), epoll_wait(2).
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

class EpollTest : public testing::Test {
 protected:
  EpollTest() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {}
  int Add(int fd, uint32_t events) { return Control(EPOLL_CTL_ADD, fd, events); }
  int Control(int operation, int fd, uint32_t events) {
    epoll_event event = {};
    event.events = events;
    event.data.fd = fd;
    return epoll_ctl(epoll_, operation, fd, &event);
  }
  // How many are ready right now; the first is in event_.
  int Ready() { return epoll_wait(epoll_, &event_, 1, 0); }

  FdCloser epoll_;
  Pipe pipe_;
  epoll_event event_ = {};
};

TEST_F(EpollTest, ReportsEventAndData) {
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN), SyscallSucceeds());
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(0));
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
  EXPECT_EQ(event_.events, static_cast<uint32_t>(EPOLLIN));
  EXPECT_EQ(event_.data.fd, pipe_.reader);
}

TEST_F(EpollTest, LevelTriggeredRepeats) {
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN), SyscallSucceeds());
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
}

TEST_F(EpollTest, EdgeTriggeredReportsEachNewWriteOnce) {
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN | EPOLLET), SyscallSucceeds());
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(0));
  ASSERT_TRUE(WriteAll(pipe_.writer, "y"));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
}

TEST_F(EpollTest, OneShotIsSilentUntilRearmed) {
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN | EPOLLONESHOT), SyscallSucceeds());
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
  ASSERT_TRUE(WriteAll(pipe_.writer, "y"));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(0));
  ASSERT_THAT(Control(EPOLL_CTL_MOD, pipe_.reader, EPOLLIN | EPOLLONESHOT), SyscallSucceeds());
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
}

TEST_F(EpollTest, ModRearmsAnEdge) {
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN | EPOLLET), SyscallSucceeds());
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
  ASSERT_THAT(Control(EPOLL_CTL_MOD, pipe_.reader, EPOLLIN | EPOLLET), SyscallSucceeds());
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
}

TEST_F(EpollTest, HangupIsReportedUnasked) {
  ASSERT_THAT(Add(pipe_.reader, 0), SyscallSucceeds());
  pipe_.writer.Close();
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
  EXPECT_EQ(event_.events, static_cast<uint32_t>(EPOLLHUP));
}

TEST_F(EpollTest, ReadHangupOfAStreamSocket) {
  int pair[2];
  ASSERT_THAT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), SyscallSucceeds());
  FdCloser a(pair[0]), b(pair[1]);
  ASSERT_THAT(Add(a, EPOLLRDHUP), SyscallSucceeds());
  ASSERT_THAT(shutdown(b, SHUT_WR), SyscallSucceeds());
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
  EXPECT_EQ(event_.events, static_cast<uint32_t>(EPOLLRDHUP));
}

TEST_F(EpollTest, AddTwiceIsEexistAndModOrDeleteOfNothingEnoent) {
  EXPECT_THAT(Control(EPOLL_CTL_MOD, pipe_.reader, EPOLLIN), SyscallFailsWithErrno(ENOENT));
  EXPECT_THAT(Control(EPOLL_CTL_DEL, pipe_.reader, 0), SyscallFailsWithErrno(ENOENT));
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN), SyscallSucceeds());
  EXPECT_THAT(Add(pipe_.reader, EPOLLIN), SyscallFailsWithErrno(EEXIST));
}

TEST_F(EpollTest, ADuplicateDescriptorCanBeAddedToo) {
  FdCloser copy(dup(pipe_.reader));
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN), SyscallSucceeds());
  ASSERT_THAT(Add(copy, EPOLLIN), SyscallSucceeds());
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  epoll_event events[4];
  EXPECT_THAT(epoll_wait(epoll_, events, 4, 0), SyscallSucceedsWithValue(2));
}

TEST_F(EpollTest, ClosingTheLastDescriptorRemovesIt) {
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN), SyscallSucceeds());
  pipe_.writer.Close();
  pipe_.reader.Close();
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(0));
}

TEST_F(EpollTest, ADescriptionKeptOpenElsewhereStillReports) {
  // epoll(7), Questions and answers, 6: the entry belongs to the description, not the number.
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN), SyscallSucceeds());
  FdCloser copy(dup(pipe_.reader));
  pipe_.reader.Close();
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  EXPECT_THAT(Ready(), SyscallSucceedsWithValue(1));
}

TEST_F(EpollTest, RegularFileIsEperm) {
  TempFile file;
  FdCloser fd = file.Open(O_RDWR);
  EXPECT_THAT(Add(fd, EPOLLIN), SyscallFailsWithErrno(EPERM));
}

TEST_F(EpollTest, ItselfAndNonEpollsAreInvalid) {
  EXPECT_THAT(Add(epoll_, EPOLLIN), SyscallFailsWithErrno(EINVAL));
  epoll_event event = {};
  EXPECT_THAT(epoll_ctl(pipe_.reader, EPOLL_CTL_ADD, pipe_.writer, &event),
              SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(epoll_wait(pipe_.reader, &event, 1, 0), SyscallFailsWithErrno(EINVAL));
}

TEST_F(EpollTest, BadDescriptorsAreEbadf) {
  EXPECT_THAT(Add(1000, EPOLLIN), SyscallFailsWithErrno(EBADF));
  epoll_event event;
  EXPECT_THAT(epoll_wait(1000, &event, 1, 0), SyscallFailsWithErrno(EBADF));
}

TEST_F(EpollTest, EventCountMustBePositive) {
  EXPECT_THAT(epoll_wait(epoll_, &event_, 0, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(epoll_wait(epoll_, &event_, -1, 0), SyscallFailsWithErrno(EINVAL));
}

TEST_F(EpollTest, NestedEpollIsReadableWhenItHasEvents) {
  FdCloser outer(epoll_create1(0));
  epoll_event event = {};
  event.events = EPOLLIN;
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN), SyscallSucceeds());
  ASSERT_THAT(epoll_ctl(outer, EPOLL_CTL_ADD, epoll_, &event), SyscallSucceeds());
  EXPECT_THAT(epoll_wait(outer, &event, 1, 0), SyscallSucceedsWithValue(0));
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  EXPECT_THAT(epoll_wait(outer, &event, 1, 0), SyscallSucceedsWithValue(1));
}

TEST_F(EpollTest, LoopOfEpollsIsEloop) {
  FdCloser other(epoll_create1(0));
  epoll_event event = {};
  event.events = EPOLLIN;
  ASSERT_THAT(Add(other, EPOLLIN), SyscallSucceeds());
  EXPECT_THAT(epoll_ctl(other, EPOLL_CTL_ADD, epoll_, &event), SyscallFailsWithErrno(ELOOP));
}

TEST_F(EpollTest, TooDeepANestingIsRefused) {
  std::vector<FdCloser> chain;
  chain.emplace_back(epoll_create1(0));
  int error = 0;
  for (int depth = 0; depth < 10 && error == 0; depth++) {
    FdCloser next(epoll_create1(0));
    epoll_event event = {};
    event.events = EPOLLIN;
    if (epoll_ctl(next, EPOLL_CTL_ADD, chain.back(), &event) != 0) error = errno;
    chain.push_back(std::move(next));
  }
  EXPECT_THAT(error, testing::AnyOf(ELOOP, EINVAL));
}

TEST_F(EpollTest, BlockedWaitWakes) {
  ASSERT_THAT(Add(pipe_.reader, EPOLLIN), SyscallSucceeds());
  Child child(
      [&] { EXPECT_THAT(epoll_wait(epoll_, &event_, 1, -1), SyscallSucceedsWithValue(1)); });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(EpollTest, ReadyDescriptorsTakeTurns) {
  FdCloser a(eventfd(1, 0)), b(eventfd(1, 0));
  ASSERT_THAT(Add(a, EPOLLIN), SyscallSucceeds());
  ASSERT_THAT(Add(b, EPOLLIN), SyscallSucceeds());
  ASSERT_THAT(Ready(), SyscallSucceedsWithValue(1));
  const int first = event_.data.fd;
  ASSERT_THAT(Ready(), SyscallSucceedsWithValue(1));
  EXPECT_NE(event_.data.fd, first);
}

TEST_F(EpollTest, PwaitLetsAPendingSignalIn) {
  EXPECT_THAT(InChild([&] {
                ScopedAction action(SIGUSR1, CountDelivery);
                ScopedMask blocked(SIG_BLOCK, {SIGUSR1});
                kill(getpid(), SIGUSR1);
                sigset_t none = SignalSet({});
                EXPECT_THAT(epoll_pwait(epoll_, &event_, 1, -1, &none),
                            SyscallFailsWithErrno(EINTR));
                EXPECT_EQ(g_deliveries, 1);
              }),
              ExitsWith(0));
}

TEST(EpollCreateTest, SizeMustBePositiveAndFlagsKnown) {
  EXPECT_THAT(syscall(SYS_epoll_create, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(epoll_create1(1), SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
