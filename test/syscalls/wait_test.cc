// wait4(2), waitid(2), orphans, subreapers, SIGCHLD.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(WaitTest, WithoutChildrenIsEchild) {
  EXPECT_THAT(InChild([] {
                EXPECT_THAT(wait(nullptr), SyscallFailsWithErrno(ECHILD));
                EXPECT_THAT(waitpid(1, nullptr, 0), SyscallFailsWithErrno(ECHILD));
              }),
              ExitsWith(0));
}

TEST(WaitTest, NohangReturnsZeroWhileRunning) {
  Child child([] { pause(); });
  int status;
  EXPECT_THAT(waitpid(child.pid(), &status, WNOHANG), SyscallSucceedsWithValue(0));
  child.Kill(SIGKILL);
  EXPECT_THAT(child.Wait(), DiesOf(SIGKILL));
}

TEST(WaitTest, BlockedWaitWakesAtExit) {
  Pipe pipe;
  Child child([&] { ReadOnce(pipe.reader, 1); });
  ScopedThread releaser([&, main = gettid()] {
    WaitUntilThreadSleeping(main);
    WriteAll(pipe.writer, "x");
  });
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST(WaitTest, ZombieStaysUntilReaped) {
  Child child([] {});
  EXPECT_TRUE(WaitUntil([&] { return ProcessState(child.pid()) == 'Z'; }));
  EXPECT_THAT(child.Kill(0), SyscallSucceeds());
  const pid_t pid = child.pid();
  child.Wait();
  EXPECT_THAT(kill(pid, 0), SyscallFailsWithErrno(ESRCH));
}

TEST(WaitTest, SelectsByProcessGroup) {
  Child other([] { pause(); });
  Child child([] {
    setpgid(0, 0);
    _exit(8);
  });
  setpgid(child.pid(), child.pid());
  int status = 0;
  EXPECT_THAT(waitpid(-child.pid(), &status, 0), SyscallSucceedsWithValue(child.pid()));
  EXPECT_THAT(status, ExitsWith(8));
  child.Reaped();
}

TEST(WaitTest, RusageIsFilled) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  rusage usage;
  memset(&usage, 0xff, sizeof(usage));
  EXPECT_THAT(wait4(pid, nullptr, 0, &usage), SyscallSucceedsWithValue(pid));
  EXPECT_GE(usage.ru_utime.tv_sec, 0);
  EXPECT_LT(usage.ru_utime.tv_sec, 100);
}

constexpr long kTouched = 512;  // Pages.

void TouchPages() {
  const size_t length = kTouched * 4096;
  auto* memory = static_cast<volatile char*>(
      mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  madvise(const_cast<char*>(memory), length, MADV_NOHUGEPAGE);
  for (long i = 0; i < kTouched; ++i) memory[i * 4096] = 1;
}

TEST(WaitTest, RusageHasTheMemoryOfTheEnd) {
  for (int i = 0; i < 50; ++i) {
    Child child(TouchPages);
    rusage usage = {};
    ASSERT_THAT(wait4(child.pid(), nullptr, 0, &usage), SyscallSucceedsWithValue(child.pid()));
    child.Reaped();
    EXPECT_GE(usage.ru_minflt, kTouched);
    EXPECT_GE(usage.ru_maxrss, kTouched * 4);
  }
}

// Known when wait(2) returns, of those as well whom the child has waited for.
TEST(WaitTest, UsageOfChildrenIsComplete) {
  for (int i = 0; i < 50; ++i) {
    rusage before = {}, after = {};
    ASSERT_THAT(getrusage(RUSAGE_CHILDREN, &before), SyscallSucceeds());
    ASSERT_THAT(InChild([] { ASSERT_THAT(InChild(TouchPages), ExitsWith(0)); }), ExitsWith(0));
    ASSERT_THAT(getrusage(RUSAGE_CHILDREN, &after), SyscallSucceeds());
    EXPECT_GE(after.ru_minflt - before.ru_minflt, kTouched);
  }
}

// POSIX leaves it open; Linux counts those only that have been waited for.
TEST(WaitTest, UsageOfChildrenThatNobodyWaitsForIsNotCounted) {
  EXPECT_THAT(InChild([] {
                signal(SIGCHLD, SIG_IGN);
                const pid_t pid = fork();
                if (pid == 0) {
                  TouchPages();
                  _exit(0);
                }
                EXPECT_THAT(waitpid(pid, nullptr, 0), SyscallFailsWithErrno(ECHILD));
                rusage usage = {};
                ASSERT_THAT(getrusage(RUSAGE_CHILDREN, &usage), SyscallSucceeds());
                EXPECT_EQ(usage.ru_minflt, 0);
              }),
              ExitsWith(0));
}

TEST(WaitTest, UnknownOptionIsInvalid) {
  EXPECT_THAT(waitpid(-1, nullptr, 0x100), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(waitpid(-1, nullptr, WEXITED), SyscallFailsWithErrno(EINVAL));
}

TEST(WaitTest, StoppedAndContinuedAreReported) {
  Child child([] {
    for (;;) pause();
  });
  int status = 0;
  child.Kill(SIGSTOP);
  ASSERT_THAT(waitpid(child.pid(), &status, WUNTRACED), SyscallSucceedsWithValue(child.pid()));
  EXPECT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
  EXPECT_EQ(ProcessState(child.pid()), 'T');
  child.Kill(SIGCONT);
  ASSERT_THAT(waitpid(child.pid(), &status, WCONTINUED), SyscallSucceedsWithValue(child.pid()));
  EXPECT_TRUE(WIFCONTINUED(status));
}

TEST(WaitTest, StopIsReportedOnce) {
  Child child([] {
    for (;;) pause();
  });
  child.Kill(SIGSTOP);
  ASSERT_THAT(waitpid(child.pid(), nullptr, WUNTRACED), SyscallSucceedsWithValue(child.pid()));
  EXPECT_THAT(waitpid(child.pid(), nullptr, WUNTRACED | WNOHANG), SyscallSucceedsWithValue(0));
}

TEST(WaitTest, KillEndsAStoppedProcess) {
  Child child([] { raise(SIGSTOP); });
  ASSERT_THAT(waitpid(child.pid(), nullptr, WUNTRACED), SyscallSucceedsWithValue(child.pid()));
  child.Kill(SIGKILL);
  EXPECT_THAT(child.Wait(), DiesOf(SIGKILL));
}

TEST(WaitidTest, NowaitLeavesTheZombie) {
  Child child([] { _exit(5); });
  siginfo_t info = {};
  ASSERT_THAT(waitid(P_PID, child.pid(), &info, WEXITED | WNOWAIT), SyscallSucceeds());
  EXPECT_EQ(info.si_signo, SIGCHLD);
  EXPECT_EQ(info.si_code, CLD_EXITED);
  EXPECT_EQ(info.si_status, 5);
  EXPECT_EQ(info.si_pid, child.pid());
  EXPECT_THAT(child.Wait(), ExitsWith(5));
}

TEST(WaitidTest, KilledHasItsSignal) {
  Child child([] { pause(); });
  child.Kill(SIGTERM);
  siginfo_t info = {};
  ASSERT_THAT(waitid(P_PID, child.pid(), &info, WEXITED | WNOWAIT), SyscallSucceeds());
  EXPECT_EQ(info.si_code, CLD_KILLED);
  EXPECT_EQ(info.si_status, SIGTERM);
}

TEST(WaitidTest, NohangWithNothingZeroesTheInfo) {
  Child child([] { pause(); });
  siginfo_t info;
  memset(&info, 0xff, sizeof(info));
  ASSERT_THAT(waitid(P_PID, child.pid(), &info, WEXITED | WNOHANG), SyscallSucceedsWithValue(0));
  EXPECT_EQ(info.si_pid, 0);
  EXPECT_EQ(info.si_signo, 0);
}

TEST(WaitidTest, NoEventAskedForIsInvalid) {
  siginfo_t info;
  EXPECT_THAT(waitid(P_ALL, 0, &info, WNOHANG), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(waitid(static_cast<idtype_t>(99), 0, &info, WEXITED), SyscallFailsWithErrno(EINVAL));
}

TEST(SigchldTest, CarriesPidAndStatus) {
  EXPECT_THAT(InChild([] {
                Block({SIGCHLD});
                pid_t pid = fork();
                if (pid == 0) _exit(33);
                sigset_t set = SignalSet({SIGCHLD});
                siginfo_t info = {};
                ASSERT_THAT(sigwaitinfo(&set, &info), SyscallSucceedsWithValue(SIGCHLD));
                EXPECT_EQ(info.si_pid, pid);
                EXPECT_EQ(info.si_code, CLD_EXITED);
                EXPECT_EQ(info.si_status, 33);
              }),
              ExitsWith(0));
}

TEST(SigchldTest, IgnoredMeansChildrenReapThemselves) {
  EXPECT_THAT(InChild([] {
                signal(SIGCHLD, SIG_IGN);
                pid_t pid = fork();
                if (pid == 0) _exit(0);
                EXPECT_THAT(waitpid(pid, nullptr, 0), SyscallFailsWithErrno(ECHILD));
              }),
              ExitsWith(0));
}

TEST(SigchldTest, NocldstopHidesStops) {
  EXPECT_THAT(InChild([] {
                ScopedAction action(SIGCHLD, CountDelivery, SA_NOCLDSTOP);
                Child child([] { raise(SIGSTOP); });
                int status;
                while (waitpid(child.pid(), &status, WUNTRACED) < 0) {
                }
                EXPECT_EQ(g_deliveries, 0);
              }),
              ExitsWith(0));
}

TEST(OrphanTest, GoesToTheNearestSubreaper) {
  EXPECT_THAT(InChild([] {
                ASSERT_THAT(prctl(PR_SET_CHILD_SUBREAPER, 1), SyscallSucceeds());
                Pipe go, report;
                pid_t middle = fork();
                if (middle == 0) {
                  pid_t orphan = fork();
                  if (orphan == 0) {
                    ReadOnce(go.reader, 1);
                    _exit(getppid() == 1 ? 1 : 44);
                  }
                  write(report.writer, &orphan, sizeof(orphan));
                  _exit(0);
                }
                pid_t orphan = 0;
                ASSERT_EQ(read(report.reader, &orphan, sizeof(orphan)), 4);
                ASSERT_THAT(waitpid(middle, nullptr, 0), SyscallSucceedsWithValue(middle));
                ASSERT_TRUE(WriteAll(go.writer, "x"));
                int status = 0;
                EXPECT_THAT(waitpid(orphan, &status, 0), SyscallSucceedsWithValue(orphan));
                EXPECT_THAT(status, ExitsWith(44));
              }),
              ExitsWith(0));
}

TEST(OrphanTest, ParentDeathSignalArrives) {
  EXPECT_THAT(InChild([] {
                ASSERT_THAT(prctl(PR_SET_CHILD_SUBREAPER, 1), SyscallSucceeds());
                pid_t middle = fork();
                if (middle == 0) {
                  Pipe ready;
                  if (fork() == 0) {
                    prctl(PR_SET_PDEATHSIG, SIGTERM);
                    WriteAll(ready.writer, "x");
                    for (;;) pause();
                  }
                  ReadOnce(ready.reader, 1);
                  _exit(0);
                }
                ASSERT_THAT(waitpid(middle, nullptr, 0), SyscallSucceedsWithValue(middle));
                int status = 0;
                ASSERT_THAT(wait(&status), SyscallSucceeds());
                EXPECT_THAT(status, DiesOf(SIGTERM));
              }),
              ExitsWith(0));
}

TEST(PidfdTest, SignalsAndPolls) {
  Child child([] { pause(); });
  FdCloser pidfd(syscall(SYS_pidfd_open, child.pid(), 0));
  ASSERT_THAT(int{pidfd}, SyscallSucceeds());
  EXPECT_THAT(syscall(SYS_pidfd_send_signal, int{pidfd}, SIGKILL, nullptr, 0), SyscallSucceeds());
  EXPECT_THAT(child.Wait(), DiesOf(SIGKILL));
  EXPECT_THAT(syscall(SYS_pidfd_send_signal, int{pidfd}, 0, nullptr, 0),
              SyscallFailsWithErrno(ESRCH));
}

}  // namespace
}  // namespace caisson::test
