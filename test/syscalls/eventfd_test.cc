// eventfd(2), signalfd(2), timerfd_create(2).
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(EventfdTest, ReadTakesTheWholeCount) {
  FdCloser fd(eventfd(3, EFD_NONBLOCK));
  uint64_t value = 4;
  ASSERT_THAT(write(fd, &value, 8), SyscallSucceedsWithValue(8));
  ASSERT_THAT(read(fd, &value, 8), SyscallSucceedsWithValue(8));
  EXPECT_EQ(value, 7u);
  EXPECT_THAT(read(fd, &value, 8), SyscallFailsWithErrno(EAGAIN));
}

TEST(EventfdTest, SemaphoreReadTakesOne) {
  FdCloser fd(eventfd(2, EFD_NONBLOCK | EFD_SEMAPHORE));
  uint64_t value = 0;
  ASSERT_THAT(read(fd, &value, 8), SyscallSucceedsWithValue(8));
  EXPECT_EQ(value, 1u);
  ASSERT_THAT(read(fd, &value, 8), SyscallSucceedsWithValue(8));
  EXPECT_THAT(read(fd, &value, 8), SyscallFailsWithErrno(EAGAIN));
}

TEST(EventfdTest, ShortBuffersAreInvalid) {
  FdCloser fd(eventfd(1, 0));
  uint64_t value = 1;
  EXPECT_THAT(read(fd, &value, 7), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(write(fd, &value, 7), SyscallFailsWithErrno(EINVAL));
}

TEST(EventfdTest, AllOnesIsInvalidAndOverflowIsEagain) {
  FdCloser fd(eventfd(0, EFD_NONBLOCK));
  uint64_t value = ~0ULL;
  EXPECT_THAT(write(fd, &value, 8), SyscallFailsWithErrno(EINVAL));
  value = ~0ULL - 1;
  EXPECT_THAT(write(fd, &value, 8), SyscallSucceedsWithValue(8));
  value = 1;
  EXPECT_THAT(write(fd, &value, 8), SyscallFailsWithErrno(EAGAIN));
  pollfd poller = {fd, POLLIN | POLLOUT, 0};
  EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(1));
  EXPECT_EQ(poller.revents, POLLIN);
}

TEST(EventfdTest, BlockedReaderWakes) {
  FdCloser fd(eventfd(0, 0));
  Child child([&] {
    uint64_t value;
    EXPECT_THAT(read(fd, &value, 8), SyscallSucceedsWithValue(8));
    EXPECT_EQ(value, 9u);
  });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  uint64_t value = 9;
  ASSERT_THAT(write(fd, &value, 8), SyscallSucceedsWithValue(8));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST(EventfdTest, UnknownFlagIsInvalid) {
  EXPECT_THAT(eventfd(0, 0x10), SyscallFailsWithErrno(EINVAL));
}

TEST(SignalfdTest, ReadsABlockedSignal) {
  EXPECT_THAT(InChild([] {
                Block({SIGUSR1});
                sigset_t set = SignalSet({SIGUSR1});
                FdCloser fd(signalfd(-1, &set, SFD_NONBLOCK));
                signalfd_siginfo info;
                EXPECT_THAT(read(fd, &info, sizeof(info)), SyscallFailsWithErrno(EAGAIN));
                kill(getpid(), SIGUSR1);
                ASSERT_THAT(read(fd, &info, sizeof(info)), SyscallSucceedsWithValue(128));
                EXPECT_EQ(info.ssi_signo, static_cast<uint32_t>(SIGUSR1));
                EXPECT_EQ(info.ssi_pid, static_cast<uint32_t>(getpid()));
                EXPECT_EQ(info.ssi_code, SI_USER);
              }),
              ExitsWith(0));
}

TEST(SignalfdTest, SeveralSignalsInOneRead) {
  EXPECT_THAT(InChild([] {
                Block({SIGUSR1, SIGUSR2});
                sigset_t set = SignalSet({SIGUSR1, SIGUSR2});
                FdCloser fd(signalfd(-1, &set, SFD_NONBLOCK));
                kill(getpid(), SIGUSR2);
                kill(getpid(), SIGUSR1);
                signalfd_siginfo info[3];
                ASSERT_THAT(read(fd, info, sizeof(info)), SyscallSucceedsWithValue(256));
                EXPECT_EQ(info[0].ssi_signo, static_cast<uint32_t>(SIGUSR1));
              }),
              ExitsWith(0));
}

TEST(SignalfdTest, PollSeesAPendingSignal) {
  EXPECT_THAT(InChild([] {
                Block({SIGUSR1});
                sigset_t set = SignalSet({SIGUSR1});
                FdCloser fd(signalfd(-1, &set, 0));
                pollfd poller = {fd, POLLIN, 0};
                EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(0));
                kill(getpid(), SIGUSR1);
                EXPECT_THAT(poll(&poller, 1, -1), SyscallSucceedsWithValue(1));
              }),
              ExitsWith(0));
}

TEST(SignalfdTest, MaskOfAnExistingOneCanChange) {
  EXPECT_THAT(InChild([] {
                Block({SIGUSR1, SIGUSR2});
                sigset_t one = SignalSet({SIGUSR1}), two = SignalSet({SIGUSR2});
                FdCloser fd(signalfd(-1, &one, SFD_NONBLOCK));
                EXPECT_THAT(signalfd(fd, &two, 0), SyscallSucceedsWithValue(int{fd}));
                kill(getpid(), SIGUSR1);
                signalfd_siginfo info;
                EXPECT_THAT(read(fd, &info, sizeof(info)), SyscallFailsWithErrno(EAGAIN));
              }),
              ExitsWith(0));
}

TEST(SignalfdTest, ShortBufferAndForeignDescriptorAreInvalid) {
  sigset_t set = SignalSet({SIGUSR1});
  FdCloser fd(signalfd(-1, &set, SFD_NONBLOCK));
  char buffer[127];
  EXPECT_THAT(read(fd, buffer, sizeof(buffer)), SyscallFailsWithErrno(EINVAL));
  Pipe pipe;
  EXPECT_THAT(signalfd(pipe.reader, &set, 0), SyscallFailsWithErrno(EINVAL));
}

TEST(TimerfdTest, ExpiresOnceAndCounts) {
  FdCloser fd(timerfd_create(CLOCK_MONOTONIC, 0));
  itimerspec when = {{0, 0}, {0, 1000}};
  ASSERT_THAT(timerfd_settime(fd, 0, &when, nullptr), SyscallSucceeds());
  uint64_t count = 0;
  EXPECT_THAT(read(fd, &count, 8), SyscallSucceedsWithValue(8));
  EXPECT_EQ(count, 1u);
}

TEST(TimerfdTest, DisarmedIsNotReadable) {
  FdCloser fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  uint64_t count;
  EXPECT_THAT(read(fd, &count, 8), SyscallFailsWithErrno(EAGAIN));
  EXPECT_THAT(read(fd, &count, 4), SyscallFailsWithErrno(EINVAL));
}

TEST(TimerfdTest, IntervalExpirationsAddUp) {
  FdCloser fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  itimerspec when = {{0, 100000}, {0, 100000}};
  ASSERT_THAT(timerfd_settime(fd, 0, &when, nullptr), SyscallSucceeds());
  uint64_t total = 0, rounds = 0;
  EXPECT_TRUE(WaitUntil([&] {
    uint64_t count = 0;
    if (read(fd, &count, 8) == 8) {
      total += count;
      rounds++;
    }
    return total >= 10;
  }));
  EXPECT_LE(rounds, total);
}

TEST(TimerfdTest, AbsoluteTimeInThePastExpiresAtOnce) {
  FdCloser fd(timerfd_create(CLOCK_REALTIME, 0));
  itimerspec when = {{0, 0}, {1, 0}};
  ASSERT_THAT(timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, nullptr), SyscallSucceeds());
  uint64_t count = 0;
  EXPECT_THAT(read(fd, &count, 8), SyscallSucceedsWithValue(8));
  EXPECT_EQ(count, 1u);
}

TEST(TimerfdTest, GettimeShowsRemainderAndInterval) {
  FdCloser fd(timerfd_create(CLOCK_MONOTONIC, 0));
  itimerspec when = {{7, 0}, {1000, 0}}, now, old;
  ASSERT_THAT(timerfd_settime(fd, 0, &when, nullptr), SyscallSucceeds());
  ASSERT_THAT(timerfd_gettime(fd, &now), SyscallSucceeds());
  EXPECT_EQ(now.it_interval.tv_sec, 7);
  EXPECT_GT(now.it_value.tv_sec, 0);
  EXPECT_LE(now.it_value.tv_sec, 1000);
  itimerspec disarm = {};
  ASSERT_THAT(timerfd_settime(fd, 0, &disarm, &old), SyscallSucceeds());
  EXPECT_EQ(old.it_interval.tv_sec, 7);
  ASSERT_THAT(timerfd_gettime(fd, &now), SyscallSucceeds());
  EXPECT_EQ(now.it_value.tv_sec, 0);
}

TEST(TimerfdTest, BadArgumentsAreInvalid) {
  EXPECT_THAT(timerfd_create(CLOCK_THREAD_CPUTIME_ID, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(timerfd_create(CLOCK_MONOTONIC, 1), SyscallFailsWithErrno(EINVAL));
  FdCloser fd(timerfd_create(CLOCK_MONOTONIC, 0));
  itimerspec bad = {{0, 0}, {0, 1000000000}};
  EXPECT_THAT(timerfd_settime(fd, 0, &bad, nullptr), SyscallFailsWithErrno(EINVAL));
  Pipe pipe;
  EXPECT_THAT(timerfd_gettime(pipe.reader, &bad), SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
