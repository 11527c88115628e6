// poll(2), ppoll(2), select(2), pselect(2).
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(PollTest, ReportsReadableAndWritableEnds) {
  Pipe pipe;
  ASSERT_TRUE(WriteAll(pipe.writer, "x"));
  pollfd fds[] = {{pipe.reader, POLLIN | POLLOUT, 0}, {pipe.writer, POLLIN | POLLOUT, 0}};
  EXPECT_THAT(poll(fds, 2, 0), SyscallSucceedsWithValue(2));
  EXPECT_EQ(fds[0].revents, POLLIN);
  EXPECT_EQ(fds[1].revents, POLLOUT);
}

TEST(PollTest, ZeroTimeoutReturnsAtOnce) {
  Pipe pipe;
  pollfd fd = {pipe.reader, POLLIN, 0};
  EXPECT_THAT(poll(&fd, 1, 0), SyscallSucceedsWithValue(0));
  EXPECT_EQ(fd.revents, 0);
}

TEST(PollTest, NegativeDescriptorIsSkipped) {
  pollfd fd = {-1, POLLIN, 0x7f};
  EXPECT_THAT(poll(&fd, 1, 0), SyscallSucceedsWithValue(0));
  EXPECT_EQ(fd.revents, 0);
}

TEST(PollTest, ClosedDescriptorIsNval) {
  pollfd fd = {UnusedFd(), POLLIN, 0};
  EXPECT_THAT(poll(&fd, 1, -1), SyscallSucceedsWithValue(1));
  EXPECT_EQ(fd.revents, POLLNVAL);
}

TEST(PollTest, WriterGoneIsHangupEvenUnasked) {
  Pipe pipe;
  pipe.writer.Close();
  pollfd fd = {pipe.reader, 0, 0};
  EXPECT_THAT(poll(&fd, 1, -1), SyscallSucceedsWithValue(1));
  EXPECT_EQ(fd.revents, POLLHUP);
}

TEST(PollTest, ReaderGoneIsErrorOnTheWriter) {
  Pipe pipe;
  pipe.reader.Close();
  pollfd fd = {pipe.writer, POLLOUT, 0};
  EXPECT_THAT(poll(&fd, 1, -1), SyscallSucceedsWithValue(1));
  EXPECT_EQ(fd.revents, POLLOUT | POLLERR);
}

TEST(PollTest, RegularFileIsAlwaysReady) {
  TempFile file;
  FdCloser file_fd = file.Open(O_RDWR);
  pollfd fd = {file_fd, POLLIN | POLLOUT, 0};
  EXPECT_THAT(poll(&fd, 1, -1), SyscallSucceedsWithValue(1));
  EXPECT_EQ(fd.revents, POLLIN | POLLOUT);
}

TEST(PollTest, BlockedPollWakesOnData) {
  Pipe pipe;
  Child poller([&] {
    pollfd fd = {pipe.reader, POLLIN, 0};
    EXPECT_THAT(poll(&fd, 1, -1), SyscallSucceedsWithValue(1));
  });
  ASSERT_TRUE(WaitUntilSleeping(poller.pid()));
  ASSERT_TRUE(WriteAll(pipe.writer, "x"));
  EXPECT_THAT(poller.Wait(), ExitsWith(0));
}

TEST(PollTest, TimeoutExpires) { EXPECT_THAT(poll(nullptr, 0, 5), SyscallSucceedsWithValue(0)); }

TEST(PollTest, MoreDescriptorsThanTheLimitAreInvalid) {
  EXPECT_THAT(InChild([] {
                rlimit limit = {16, 16};
                ASSERT_THAT(setrlimit(RLIMIT_NOFILE, &limit), SyscallSucceeds());
                std::vector<pollfd> fds(17, pollfd{-1, 0, 0});
                EXPECT_THAT(poll(fds.data(), 17, 0), SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

TEST(PollTest, SignalInterruptsEvenWithRestart) {
  Child child([] {
    ScopedAction action(SIGUSR1, CountDelivery, SA_RESTART);
    EXPECT_THAT(poll(nullptr, 0, -1), SyscallFailsWithErrno(EINTR));
    EXPECT_EQ(g_deliveries, 1);
  });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  child.Kill(SIGUSR1);
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST(PollTest, IgnoredSignalDoesNotInterrupt) {
  Pipe pipe;
  Child child([&] {
    ScopedAction action(SIGUSR1, SIG_IGN);
    pollfd fd = {pipe.reader, POLLIN, 0};
    EXPECT_THAT(poll(&fd, 1, -1), SyscallSucceedsWithValue(1));
  });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  child.Kill(SIGUSR1);
  ASSERT_TRUE(WriteAll(pipe.writer, "x"));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST(PpollTest, MaskLetsAPendingSignalIn) {
  EXPECT_THAT(InChild([] {
                ScopedAction action(SIGUSR1, CountDelivery);
                ScopedMask blocked(SIG_BLOCK, {SIGUSR1});
                kill(getpid(), SIGUSR1);
                sigset_t none = SignalSet({});
                EXPECT_THAT(ppoll(nullptr, 0, nullptr, &none), SyscallFailsWithErrno(EINTR));
                EXPECT_EQ(g_deliveries, 1);
                sigset_t now;
                sigprocmask(SIG_SETMASK, nullptr, &now);
                EXPECT_TRUE(sigismember(&now, SIGUSR1));
              }),
              ExitsWith(0));
}

TEST(PpollTest, BadTimeIsInvalid) {
  timespec bad = {0, 1000000000};
  EXPECT_THAT(ppoll(nullptr, 0, &bad, nullptr), SyscallFailsWithErrno(EINVAL));
}

TEST(PpollTest, WrongMaskSizeIsInvalid) {
  timespec zero = {};
  sigset_t none = SignalSet({});
  EXPECT_THAT(syscall(SYS_ppoll, nullptr, 0, &zero, &none, 4), SyscallFailsWithErrno(EINVAL));
}

TEST(SelectTest, LeavesOnlyReadyDescriptorsInTheSets) {
  Pipe pipe;
  fd_set reads, writes;
  FD_ZERO(&reads);
  FD_ZERO(&writes);
  FD_SET(pipe.reader, &reads);
  FD_SET(pipe.writer, &writes);
  timeval zero = {};
  EXPECT_THAT(select(pipe.writer + 1, &reads, &writes, nullptr, &zero),
              SyscallSucceedsWithValue(1));
  EXPECT_FALSE(FD_ISSET(pipe.reader, &reads));
  EXPECT_TRUE(FD_ISSET(pipe.writer, &writes));
}

TEST(SelectTest, CountsADescriptorOncePerSet) {
  int fd = open("/dev/null", O_RDWR);
  FdCloser closer(fd);
  fd_set reads, writes;
  FD_ZERO(&reads);
  FD_ZERO(&writes);
  FD_SET(fd, &reads);
  FD_SET(fd, &writes);
  EXPECT_THAT(select(fd + 1, &reads, &writes, nullptr, nullptr), SyscallSucceedsWithValue(2));
}

TEST(SelectTest, ClosedDescriptorIsBad) {
  // Freshly closed: Linux ignores numbers that its table has never had to hold.
  const int fd = dup(STDOUT_FILENO);
  close(fd);
  fd_set reads;
  FD_ZERO(&reads);
  FD_SET(fd, &reads);
  timeval zero = {};
  EXPECT_THAT(select(fd + 1, &reads, nullptr, nullptr, &zero), SyscallFailsWithErrno(EBADF));
}

TEST(SelectTest, NegativeCountAndTimeAreInvalid) {
  timeval zero = {}, negative = {-1, 0};
  EXPECT_THAT(select(-1, nullptr, nullptr, nullptr, &zero), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(select(0, nullptr, nullptr, nullptr, &negative), SyscallFailsWithErrno(EINVAL));
}

TEST(SelectTest, TimeoutIsLeftAtTheRemainingTime) {
  timeval time = {0, 1000};
  EXPECT_THAT(select(0, nullptr, nullptr, nullptr, &time), SyscallSucceedsWithValue(0));
  EXPECT_EQ(time.tv_sec, 0);
  EXPECT_EQ(time.tv_usec, 0);
}

TEST(SelectTest, SetIsReadOnlyUpToTheCount) {
  // A set of 64 bits at the end of a page, for 64 descriptors: nothing behind it may be touched.
  // The count is cut to what the table holds, so that has to be more than 64.
  FdCloser high(fcntl(STDOUT_FILENO, F_DUPFD, 200));
  GuardedPage page;
  char* set = page.At(8);
  memset(set, 0, 8);
  timeval zero = {};
  EXPECT_THAT(syscall(SYS_select, 64, set, nullptr, nullptr, &zero), SyscallSucceedsWithValue(0));
  EXPECT_THAT(syscall(SYS_select, 65, set, nullptr, nullptr, &zero), SyscallFailsWithErrno(EFAULT));
}

TEST(PselectTest, MaskIsAppliedAtomicallyAndRestored) {
  EXPECT_THAT(InChild([] {
                ScopedAction action(SIGUSR1, CountDelivery);
                ScopedMask blocked(SIG_BLOCK, {SIGUSR1});
                kill(getpid(), SIGUSR1);
                sigset_t none = SignalSet({});
                EXPECT_THAT(pselect(0, nullptr, nullptr, nullptr, nullptr, &none),
                            SyscallFailsWithErrno(EINTR));
                EXPECT_EQ(g_deliveries, 1);
                sigset_t now;
                sigprocmask(SIG_SETMASK, nullptr, &now);
                EXPECT_TRUE(sigismember(&now, SIGUSR1));
              }),
              ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
