// flock(2); POSIX and open-file-description record locks of fcntl(2).
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

struct flock Lock(short type, off_t start = 0, off_t length = 0) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}
int Set(int fd, int command, short type, off_t start = 0, off_t length = 0) {
  struct flock lock = Lock(type, start, length);
  return fcntl(fd, command, &lock);
}

class LockTest : public testing::Test {
 protected:
  TempFile file_{"0123456789"};
  FdCloser fd_ = file_.Open(O_RDWR);
  FdCloser Another() { return file_.Open(O_RDWR); }
};
using FlockTest = LockTest;
using PosixLockTest = LockTest;
using OfdLockTest = LockTest;

TEST_F(FlockTest, ExclusiveKeepsAnotherDescriptionOut) {
  FdCloser other = Another();
  ASSERT_THAT(flock(fd_, LOCK_EX), SyscallSucceeds());
  EXPECT_THAT(flock(other, LOCK_EX | LOCK_NB), SyscallFailsWithErrno(EWOULDBLOCK));
  EXPECT_THAT(flock(other, LOCK_SH | LOCK_NB), SyscallFailsWithErrno(EWOULDBLOCK));
  ASSERT_THAT(flock(fd_, LOCK_UN), SyscallSucceeds());
  EXPECT_THAT(flock(other, LOCK_EX | LOCK_NB), SyscallSucceeds());
}

TEST_F(FlockTest, SharedLocksCoexist) {
  FdCloser other = Another();
  ASSERT_THAT(flock(fd_, LOCK_SH), SyscallSucceeds());
  EXPECT_THAT(flock(other, LOCK_SH | LOCK_NB), SyscallSucceeds());
  EXPECT_THAT(flock(other, LOCK_EX | LOCK_NB), SyscallFailsWithErrno(EWOULDBLOCK));
}

TEST_F(FlockTest, DuplicatesShareTheLock) {
  FdCloser copy(dup(fd_));
  ASSERT_THAT(flock(fd_, LOCK_EX), SyscallSucceeds());
  EXPECT_THAT(flock(copy, LOCK_EX | LOCK_NB), SyscallSucceeds());
  fd_.Close();
  FdCloser other = Another();
  EXPECT_THAT(flock(other, LOCK_EX | LOCK_NB), SyscallFailsWithErrno(EWOULDBLOCK));
  copy.Close();
  EXPECT_THAT(flock(other, LOCK_EX | LOCK_NB), SyscallSucceeds());
}

TEST_F(FlockTest, BlockedLockerGetsItWhenReleased) {
  ASSERT_THAT(flock(fd_, LOCK_EX), SyscallSucceeds());
  Child child([&] {
    FdCloser other = Another();
    EXPECT_THAT(flock(other, LOCK_EX), SyscallSucceeds());
  });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  ASSERT_THAT(flock(fd_, LOCK_UN), SyscallSucceeds());
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(FlockTest, UnknownOperationIsInvalid) {
  EXPECT_THAT(flock(fd_, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(flock(1000, LOCK_EX), SyscallFailsWithErrno(EBADF));
}

TEST_F(PosixLockTest, ConflictAcrossProcessesOnly) {
  ASSERT_THAT(Set(fd_, F_SETLK, F_WRLCK, 0, 5), SyscallSucceeds());
  FdCloser other = Another();
  EXPECT_THAT(Set(other, F_SETLK, F_WRLCK, 0, 5), SyscallSucceeds());
  EXPECT_THAT(InChild([&] {
                EXPECT_THAT(Set(fd_, F_SETLK, F_RDLCK, 4, 1), SyscallFailsWithErrno(EAGAIN));
                EXPECT_THAT(Set(fd_, F_SETLK, F_WRLCK, 5, 5), SyscallSucceeds());
              }),
              ExitsWith(0));
}

TEST_F(PosixLockTest, GetlkTellsTheHolderAndRange) {
  ASSERT_THAT(Set(fd_, F_SETLK, F_WRLCK, 2, 3), SyscallSucceeds());
  const pid_t holder = getpid();
  EXPECT_THAT(InChild([&] {
                struct flock lock = Lock(F_RDLCK);
                ASSERT_THAT(fcntl(fd_, F_GETLK, &lock), SyscallSucceeds());
                EXPECT_EQ(lock.l_type, F_WRLCK);
                EXPECT_EQ(lock.l_start, 2);
                EXPECT_EQ(lock.l_len, 3);
                EXPECT_EQ(lock.l_pid, holder);
              }),
              ExitsWith(0));
  struct flock mine = Lock(F_WRLCK);
  ASSERT_THAT(fcntl(fd_, F_GETLK, &mine), SyscallSucceeds());
  EXPECT_EQ(mine.l_type, F_UNLCK);
}

TEST_F(PosixLockTest, UnlockingTheMiddleSplits) {
  ASSERT_THAT(Set(fd_, F_SETLK, F_WRLCK, 0, 10), SyscallSucceeds());
  ASSERT_THAT(Set(fd_, F_SETLK, F_UNLCK, 4, 2), SyscallSucceeds());
  EXPECT_THAT(InChild([&] {
                EXPECT_THAT(Set(fd_, F_SETLK, F_WRLCK, 4, 2), SyscallSucceeds());
                EXPECT_THAT(Set(fd_, F_SETLK, F_WRLCK, 3, 1), SyscallFailsWithErrno(EAGAIN));
                EXPECT_THAT(Set(fd_, F_SETLK, F_WRLCK, 6, 1), SyscallFailsWithErrno(EAGAIN));
              }),
              ExitsWith(0));
}

TEST_F(PosixLockTest, ClosingAnyDescriptorDropsThemAll) {
  ASSERT_THAT(Set(fd_, F_SETLK, F_WRLCK), SyscallSucceeds());
  Another().Close();
  EXPECT_THAT(InChild([&] { EXPECT_THAT(Set(fd_, F_SETLK, F_WRLCK), SyscallSucceeds()); }),
              ExitsWith(0));
}

TEST_F(PosixLockTest, ReadLockNeedsReadAccessAndWriteLockWrite) {
  FdCloser reader = file_.Open(O_RDONLY), writer = file_.Open(O_WRONLY);
  EXPECT_THAT(Set(reader, F_SETLK, F_WRLCK), SyscallFailsWithErrno(EBADF));
  EXPECT_THAT(Set(writer, F_SETLK, F_RDLCK), SyscallFailsWithErrno(EBADF));
}

TEST_F(PosixLockTest, DeadlockIsDetected) {
  Pipe ready;
  ASSERT_THAT(Set(fd_, F_SETLK, F_WRLCK, 0, 1), SyscallSucceeds());
  Child child([&] {
    ASSERT_THAT(Set(fd_, F_SETLK, F_WRLCK, 1, 1), SyscallSucceeds());
    ASSERT_TRUE(WriteAll(ready.writer, "x"));
    EXPECT_THAT(Set(fd_, F_SETLKW, F_WRLCK, 0, 1), SyscallSucceeds());
  });
  ASSERT_EQ(ReadOnce(ready.reader, 1), "x");
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  EXPECT_THAT(Set(fd_, F_SETLKW, F_WRLCK, 1, 1), SyscallFailsWithErrno(EDEADLK));
  ASSERT_THAT(Set(fd_, F_SETLK, F_UNLCK), SyscallSucceeds());
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(PosixLockTest, SignalInterruptsTheWait) {
  ASSERT_THAT(Set(fd_, F_SETLK, F_WRLCK), SyscallSucceeds());
  Child child([&] {
    ScopedAction action(SIGUSR1, CountDelivery);
    EXPECT_THAT(Set(fd_, F_SETLKW, F_WRLCK), SyscallFailsWithErrno(EINTR));
  });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  child.Kill(SIGUSR1);
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(PosixLockTest, NegativeRangesAndTypes) {
  EXPECT_THAT(Set(fd_, F_SETLK, F_WRLCK, 5, -3), SyscallSucceeds());  // Bytes 2 to 4.
  EXPECT_THAT(Set(fd_, F_SETLK, F_WRLCK, 2, -3), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(Set(fd_, F_SETLK, 77), SyscallFailsWithErrno(EINVAL));
}

TEST_F(OfdLockTest, ConflictBetweenDescriptionsOfOneProcess) {
  FdCloser other = Another();
  ASSERT_THAT(Set(fd_, F_OFD_SETLK, F_WRLCK, 0, 5), SyscallSucceeds());
  EXPECT_THAT(Set(other, F_OFD_SETLK, F_WRLCK, 4, 1), SyscallFailsWithErrno(EAGAIN));
  EXPECT_THAT(Set(other, F_OFD_SETLK, F_WRLCK, 5, 1), SyscallSucceeds());
}

TEST_F(OfdLockTest, SurvivesClosingAnotherDescription) {
  ASSERT_THAT(Set(fd_, F_OFD_SETLK, F_WRLCK), SyscallSucceeds());
  Another().Close();
  FdCloser other = Another();
  EXPECT_THAT(Set(other, F_OFD_SETLK, F_WRLCK), SyscallFailsWithErrno(EAGAIN));
}

TEST_F(OfdLockTest, PidMustBeZero) {
  struct flock lock = Lock(F_WRLCK);
  lock.l_pid = 1;
  EXPECT_THAT(fcntl(fd_, F_OFD_SETLK, &lock), SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
