// clock_gettime(2), nanosleep(2), clock_nanosleep(2), setitimer(2), alarm(2), timer_create(2).
#include <elf.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

int64_t Now(clockid_t clock) {
  timespec time = {};
  EXPECT_THAT(clock_gettime(clock, &time), SyscallSucceeds());
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

TEST(ClockTest, MonotonicNeverGoesBack) {
  int64_t last = Now(CLOCK_MONOTONIC);
  for (int i = 0; i < 10000; i++) {
    const int64_t now = Now(CLOCK_MONOTONIC);
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(ClockTest, VdsoAndKernelAgree) {
  for (clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME}) {
    timespec kernel;
    const int64_t before = Now(clock);
    ASSERT_THAT(syscall(SYS_clock_gettime, clock, &kernel), SyscallSucceeds());
    const int64_t after = Now(clock), between = kernel.tv_sec * 1000000000LL + kernel.tv_nsec;
    EXPECT_LE(before, between);
    EXPECT_LE(between, after);
  }
}

// ld.so prints the name that it finds in there.
TEST(ClockTest, VdsoCanBeWritten) {
  const auto* image = reinterpret_cast<const char*>(getauxval(AT_SYSINFO_EHDR));
  ASSERT_NE(image, nullptr);
  Pipe pipe;
  ASSERT_THAT(write(pipe.writer, image, 4), SyscallSucceedsWithValue(4));
  char start[4];
  ASSERT_THAT(read(pipe.reader, start, 4), SyscallSucceedsWithValue(4));
  EXPECT_EQ(memcmp(start, ELFMAG, SELFMAG), 0);
  // Not written to, nor read behind its end.
  ASSERT_THAT(write(pipe.writer, "abcd", 4), SyscallSucceedsWithValue(4));
  EXPECT_THAT(read(pipe.reader, const_cast<char*>(image), 4), SyscallFailsWithErrno(EFAULT));
}

TEST(ClockTest, TimeAndGettimeofdayAgreeWithRealtime) {
  timespec before, after;
  timeval between;
  clock_gettime(CLOCK_REALTIME, &before);
  ASSERT_THAT(gettimeofday(&between, nullptr), SyscallSucceeds());
  clock_gettime(CLOCK_REALTIME, &after);
  EXPECT_LE(before.tv_sec, between.tv_sec);
  EXPECT_LE(between.tv_sec, after.tv_sec);
  EXPECT_GE(time(nullptr), before.tv_sec - 1);
}

TEST(ClockTest, CpuTimeAdvancesWithWork) {
  const int64_t start = Now(CLOCK_PROCESS_CPUTIME_ID), thread = Now(CLOCK_THREAD_CPUTIME_ID);
  while (Now(CLOCK_PROCESS_CPUTIME_ID) < start + 5000000) {
  }
  EXPECT_GT(Now(CLOCK_THREAD_CPUTIME_ID), thread);
}

TEST(ClockTest, CpuTimeOfAChildIsAccounted) {
  EXPECT_THAT(InChild([] {
                InChild([] {
                  while (Now(CLOCK_PROCESS_CPUTIME_ID) < 50000000) {
                  }
                });
                tms usage;
                ASSERT_THAT(times(&usage), SyscallSucceeds());
                EXPECT_GT(usage.tms_cutime + usage.tms_cstime, 0);
              }),
              ExitsWith(0));
}

TEST(ClockTest, ResolutionIsReported) {
  timespec resolution = {};
  ASSERT_THAT(clock_getres(CLOCK_MONOTONIC, &resolution), SyscallSucceeds());
  EXPECT_EQ(resolution.tv_sec, 0);
  EXPECT_GT(resolution.tv_nsec, 0);
}

TEST(ClockTest, UnknownClockIsInvalid) {
  timespec time;
  EXPECT_THAT(clock_gettime(99, &time), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(clock_getres(99, &time), SyscallFailsWithErrno(EINVAL));
}

TEST(ClockTest, SettingNeedsPrivilege) {
  EXPECT_THAT(InChild([] {
                setresuid(1000, 1000, 1000);
                timespec time = {1, 0};
                EXPECT_THAT(clock_settime(CLOCK_REALTIME, &time), SyscallFailsWithErrno(EPERM));
                EXPECT_THAT(clock_settime(CLOCK_MONOTONIC, &time), SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

TEST(SleepTest, LastsAtLeastAsLongAsAsked) {
  const int64_t start = Now(CLOCK_MONOTONIC);
  timespec time = {0, 20000000};
  ASSERT_THAT(nanosleep(&time, nullptr), SyscallSucceeds());
  EXPECT_GE(Now(CLOCK_MONOTONIC) - start, 20000000);
}

TEST(SleepTest, AbsoluteInstantInThePastReturnsAtOnce) {
  timespec time = {1, 0};
  EXPECT_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr), 0);
}

TEST(SleepTest, AbsoluteSleepEndsAtTheInstant) {
  const int64_t end = Now(CLOCK_REALTIME) + 10000000;
  timespec time = {static_cast<time_t>(end / 1000000000), static_cast<long>(end % 1000000000)};
  EXPECT_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, nullptr), 0);
  EXPECT_GE(Now(CLOCK_REALTIME), end);
}

TEST(SleepTest, BadTimesAndClocks) {
  timespec bad = {0, 1000000000}, negative = {-1, 0}, good = {0, 0};
  EXPECT_THAT(nanosleep(&bad, nullptr), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(nanosleep(&negative, nullptr), SyscallFailsWithErrno(EINVAL));
  EXPECT_EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &good, nullptr), EINVAL);
}

TEST(ItimerTest, RealTimerSendsAlarmRepeatedly) {
  EXPECT_THAT(InChild([] {
                ScopedAction action(SIGALRM, CountDelivery);
                itimerval timer = {{0, 2000}, {0, 1000}};
                ASSERT_THAT(setitimer(ITIMER_REAL, &timer, nullptr), SyscallSucceeds());
                EXPECT_TRUE(WaitUntil([] { return g_deliveries >= 3; }));
                timer = {};  // Before the handler goes.
                ASSERT_THAT(setitimer(ITIMER_REAL, &timer, nullptr), SyscallSucceeds());
              }),
              ExitsWith(0));
}

TEST(ItimerTest, VirtualAndProfilingTimersCountCpuTime) {
  EXPECT_THAT(InChild([] {
                Block({SIGVTALRM, SIGPROF});
                itimerval timer = {{0, 0}, {0, 10000}};
                ASSERT_THAT(setitimer(ITIMER_VIRTUAL, &timer, nullptr), SyscallSucceeds());
                ASSERT_THAT(setitimer(ITIMER_PROF, &timer, nullptr), SyscallSucceeds());
                sigset_t pending;
                const int64_t end = Now(CLOCK_MONOTONIC) + 30000000000;
                do {
                  for (int i = 0; i < 1000000; i++) asm volatile("");
                  sigpending(&pending);
                } while ((!sigismember(&pending, SIGVTALRM) || !sigismember(&pending, SIGPROF)) &&
                         Now(CLOCK_MONOTONIC) < end);
                EXPECT_TRUE(sigismember(&pending, SIGVTALRM));
                EXPECT_TRUE(sigismember(&pending, SIGPROF));
              }),
              ExitsWith(0));
}

TEST(ItimerTest, AlarmReturnsTheRestAndZeroCancels) {
  EXPECT_THAT(InChild([] {
                EXPECT_EQ(alarm(1000), 0u);
                EXPECT_GT(alarm(0), 990u);
                EXPECT_EQ(alarm(0), 0u);
              }),
              ExitsWith(0));
}

TEST(ItimerTest, IsNotInheritedByFork) {
  EXPECT_THAT(InChild([] {
                alarm(1000);
                EXPECT_THAT(InChild([] { EXPECT_EQ(alarm(0), 0u); }), ExitsWith(0));
              }),
              ExitsWith(0));
}

TEST(ItimerTest, BadArgumentsAreInvalid) {
  itimerval timer = {{0, 0}, {0, 1000000}};
  EXPECT_THAT(setitimer(ITIMER_REAL, &timer, nullptr), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_getitimer, 9, &timer), SyscallFailsWithErrno(EINVAL));
}

TEST(PosixTimerTest, DeliversItsValue) {
  EXPECT_THAT(InChild([] {
                Block({SIGRTMIN});
                sigevent event = {};
                event.sigev_notify = SIGEV_SIGNAL;
                event.sigev_signo = SIGRTMIN;
                event.sigev_value.sival_int = 99;
                timer_t timer;
                ASSERT_THAT(timer_create(CLOCK_MONOTONIC, &event, &timer), SyscallSucceeds());
                itimerspec when = {{0, 0}, {0, 1000000}};
                ASSERT_THAT(timer_settime(timer, 0, &when, nullptr), SyscallSucceeds());
                sigset_t set = SignalSet({SIGRTMIN});
                siginfo_t info;
                ASSERT_THAT(sigwaitinfo(&set, &info), SyscallSucceedsWithValue(SIGRTMIN));
                EXPECT_EQ(info.si_code, SI_TIMER);
                EXPECT_EQ(info.si_value.sival_int, 99);
                EXPECT_THAT(timer_delete(timer), SyscallSucceeds());
              }),
              ExitsWith(0));
}

TEST(PosixTimerTest, OverrunsAreCounted) {
  EXPECT_THAT(InChild([] {
                Block({SIGUSR1});
                sigevent event = {};
                event.sigev_notify = SIGEV_SIGNAL;
                event.sigev_signo = SIGUSR1;
                timer_t timer;
                ASSERT_THAT(timer_create(CLOCK_MONOTONIC, &event, &timer), SyscallSucceeds());
                itimerspec when = {{0, 1000000}, {0, 1000000}};
                ASSERT_THAT(timer_settime(timer, 0, &when, nullptr), SyscallSucceeds());
                timespec sleep = {0, 20000000};
                nanosleep(&sleep, nullptr);
                sigset_t set = SignalSet({SIGUSR1});
                siginfo_t info;
                ASSERT_THAT(sigwaitinfo(&set, &info), SyscallSucceeds());
                EXPECT_GE(info.si_overrun, 5);
                EXPECT_THAT(timer_getoverrun(timer), SyscallSucceedsWithValue(testing::Ge(5)));
              }),
              ExitsWith(0));
}

TEST(PosixTimerTest, ThreadTargetGetsTheSignal) {
  EXPECT_THAT(InChild([] {
                Block({SIGUSR1});
                sigevent event = {};
                event.sigev_notify = SIGEV_THREAD_ID;
                event.sigev_signo = SIGUSR1;
                event._sigev_un._tid = gettid();
                timer_t timer;
                ASSERT_THAT(timer_create(CLOCK_REALTIME, &event, &timer), SyscallSucceeds());
                itimerspec when = {{0, 0}, {0, 1}};
                ASSERT_THAT(timer_settime(timer, 0, &when, nullptr), SyscallSucceeds());
                sigset_t set = SignalSet({SIGUSR1});
                EXPECT_THAT(sigwaitinfo(&set, nullptr), SyscallSucceedsWithValue(SIGUSR1));
              }),
              ExitsWith(0));
}

TEST(PosixTimerTest, DeletedOneIsInvalidAndOthersAreNotInherited) {
  timer_t timer;
  sigevent event = {};
  event.sigev_notify = SIGEV_NONE;
  ASSERT_THAT(timer_create(CLOCK_MONOTONIC, &event, &timer), SyscallSucceeds());
  itimerspec now;
  EXPECT_THAT(
      InChild([&] { EXPECT_THAT(timer_gettime(timer, &now), SyscallFailsWithErrno(EINVAL)); }),
      ExitsWith(0));
  EXPECT_THAT(timer_gettime(timer, &now), SyscallSucceeds());
  EXPECT_THAT(timer_delete(timer), SyscallSucceeds());
  EXPECT_THAT(timer_gettime(timer, &now), SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
