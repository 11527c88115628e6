// dup(2), dup2(2), dup3(2), F_DUPFD, close(2), close_range(2).
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/resource.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

constexpr int kNeverOpened = 1000;

TEST(DupTest, ReturnsTheLowestFreeDescriptor) {
  FdCloser a(open("/dev/null", O_RDONLY));
  FdCloser b(dup(a));
  ASSERT_THAT(static_cast<int>(b), SyscallSucceeds());
  const int freed = a;
  a.Close();
  FdCloser c(dup(b));
  EXPECT_EQ(c, freed);
}

TEST(DupTest, SharesTheFileOffset) {
  TempFile file("0123456789");
  FdCloser a = file.Open(O_RDONLY);
  FdCloser b(dup(a));
  EXPECT_EQ(ReadOnce(a, 4), "0123");
  EXPECT_EQ(ReadOnce(b, 4), "4567");
}

TEST(DupTest, SharesStatusFlagsButNotCloseOnExec) {
  FdCloser a(open("/dev/null", O_RDONLY | O_CLOEXEC));
  FdCloser b(dup(a));
  EXPECT_THAT(fcntl(b, F_GETFD), SyscallSucceedsWithValue(0));
  ASSERT_THAT(fcntl(b, F_SETFL, O_NONBLOCK), SyscallSucceeds());
  EXPECT_TRUE(fcntl(a, F_GETFL) & O_NONBLOCK);
}

TEST(DupTest, ClosedDescriptorIsBad) {
  EXPECT_THAT(dup(kNeverOpened), SyscallFailsWithErrno(EBADF));
  EXPECT_THAT(dup(-1), SyscallFailsWithErrno(EBADF));
}

TEST(DupTest, FullTableIsEmfile) {
  EXPECT_THAT(InChild([] {
                rlimit limit = {10, 10};
                ASSERT_THAT(setrlimit(RLIMIT_NOFILE, &limit), SyscallSucceeds());
                while (dup(0) >= 0) {
                }
                EXPECT_EQ(errno, EMFILE);
                EXPECT_THAT(dup2(0, 10), SyscallFailsWithErrno(EBADF));
              }),
              ExitsWith(0));
}

TEST(Dup2Test, ClosesTheOldTarget) {
  Pipe pipe;
  FdCloser null(open("/dev/null", O_WRONLY));
  const int writer = pipe.writer;
  EXPECT_THAT(dup2(null, writer), SyscallSucceedsWithValue(writer));
  char byte;
  EXPECT_THAT(read(pipe.reader, &byte, 1), SyscallSucceedsWithValue(0));
}

TEST(Dup2Test, EqualOpenDescriptorsSucceedAndKeepCloseOnExec) {
  FdCloser fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(dup2(fd, fd), SyscallSucceedsWithValue(static_cast<int>(fd)));
  EXPECT_THAT(fcntl(fd, F_GETFD), SyscallSucceedsWithValue(FD_CLOEXEC));
}

TEST(Dup2Test, EqualClosedDescriptorsAreBad) {
  EXPECT_THAT(dup2(kNeverOpened, kNeverOpened), SyscallFailsWithErrno(EBADF));
}

TEST(Dup2Test, NegativeTargetIsBad) {
  FdCloser fd(open("/dev/null", O_RDONLY));
  EXPECT_THAT(dup2(fd, -1), SyscallFailsWithErrno(EBADF));
}

TEST(Dup3Test, EqualDescriptorsAreInvalidEvenWhenClosed) {
  EXPECT_THAT(dup3(kNeverOpened, kNeverOpened, 0), SyscallFailsWithErrno(EINVAL));
}

TEST(Dup3Test, SetsCloseOnExec) {
  FdCloser fd(open("/dev/null", O_RDONLY));
  const int target = UnusedFd();
  FdCloser copy(dup3(fd, target, O_CLOEXEC));
  EXPECT_EQ(copy, target);
  EXPECT_THAT(fcntl(copy, F_GETFD), SyscallSucceedsWithValue(FD_CLOEXEC));
}

TEST(Dup3Test, UnknownFlagIsInvalid) {
  FdCloser fd(open("/dev/null", O_RDONLY));
  EXPECT_THAT(dup3(fd, UnusedFd(), O_NONBLOCK), SyscallFailsWithErrno(EINVAL));
}

TEST(DupFdTest, StartsAtTheMinimum) {
  FdCloser fd(open("/dev/null", O_RDONLY));
  const int minimum = UnusedFd();
  FdCloser copy(fcntl(fd, F_DUPFD, minimum));
  EXPECT_EQ(copy, minimum);
  FdCloser next(fcntl(fd, F_DUPFD_CLOEXEC, minimum));
  EXPECT_GT(next, minimum);
  EXPECT_THAT(fcntl(next, F_GETFD), SyscallSucceedsWithValue(FD_CLOEXEC));
}

TEST(DupFdTest, MinimumPastTheLimitIsInvalid) {
  FdCloser fd(open("/dev/null", O_RDONLY));
  rlimit limit;
  ASSERT_THAT(getrlimit(RLIMIT_NOFILE, &limit), SyscallSucceeds());
  EXPECT_THAT(fcntl(fd, F_DUPFD, static_cast<int>(limit.rlim_cur)), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(fcntl(fd, F_DUPFD, -1), SyscallFailsWithErrno(EINVAL));
}

TEST(CloseTest, SecondCloseIsBad) {
  int fd = open("/dev/null", O_RDONLY);
  EXPECT_THAT(close(fd), SyscallSucceeds());
  EXPECT_THAT(close(fd), SyscallFailsWithErrno(EBADF));
}

TEST(CloseRangeTest, ClosesOnlyTheRange) {
  EXPECT_THAT(InChild([] {
                for (int fd = 20; fd < 24; fd++) ASSERT_THAT(dup2(0, fd), SyscallSucceeds());
                EXPECT_THAT(syscall(SYS_close_range, 21, 22, 0), SyscallSucceeds());
                EXPECT_TRUE(FdIsOpen(20));
                EXPECT_FALSE(FdIsOpen(21));
                EXPECT_FALSE(FdIsOpen(22));
                EXPECT_TRUE(FdIsOpen(23));
              }),
              ExitsWith(0));
}

TEST(CloseRangeTest, CloexecFlagMarksInsteadOfClosing) {
  EXPECT_THAT(InChild([] {
                ASSERT_THAT(dup2(0, 20), SyscallSucceeds());
                EXPECT_THAT(syscall(SYS_close_range, 20, ~0U, CLOSE_RANGE_CLOEXEC),
                            SyscallSucceeds());
                EXPECT_THAT(fcntl(20, F_GETFD), SyscallSucceedsWithValue(FD_CLOEXEC));
              }),
              ExitsWith(0));
}

TEST(CloseRangeTest, ReversedRangeIsInvalid) {
  EXPECT_THAT(syscall(SYS_close_range, 22, 21, 0), SyscallFailsWithErrno(EINVAL));
}

TEST(FcntlTest, SetFlagsKeepsAccessModeAndCreationFlags) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY);
  ASSERT_THAT(fcntl(fd, F_SETFL, O_RDWR | O_APPEND | O_CREAT), SyscallSucceeds());
  const int flags = fcntl(fd, F_GETFL);
  EXPECT_EQ(flags & O_ACCMODE, O_RDONLY);
  EXPECT_TRUE(flags & O_APPEND);
  EXPECT_FALSE(flags & O_CREAT);
}

TEST(FcntlTest, UnknownCommandIsInvalid) {
  FdCloser fd(open("/dev/null", O_RDONLY));
  EXPECT_THAT(fcntl(fd, 9999, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(fcntl(kNeverOpened, 9999, 0), SyscallFailsWithErrno(EBADF));
}

TEST(FcntlTest, OwnerIsRememberedPerDescription) {
  Pipe pipe;
  ASSERT_THAT(fcntl(pipe.reader, F_SETOWN, getpid()), SyscallSucceeds());
  EXPECT_THAT(fcntl(pipe.reader, F_GETOWN), SyscallSucceedsWithValue(getpid()));
  EXPECT_THAT(fcntl(pipe.writer, F_GETOWN), SyscallSucceedsWithValue(0));
}

}  // namespace
}  // namespace caisson::test
