// setsid(2), setpgid(2), getpgid(2), getsid(2), kill(2) of groups.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(SetsidTest, MakesALeaderOfSessionAndGroup) {
  EXPECT_THAT(InChild([] {
                EXPECT_THAT(setsid(), SyscallSucceedsWithValue(getpid()));
                EXPECT_EQ(getsid(0), getpid());
                EXPECT_EQ(getpgrp(), getpid());
              }),
              ExitsWith(0));
}

TEST(SetsidTest, GroupLeaderIsEperm) {
  EXPECT_THAT(InChild([] {
                ASSERT_THAT(setpgid(0, 0), SyscallSucceeds());
                EXPECT_THAT(setsid(), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

TEST(SetpgidTest, ChildMayJoinAnExistingGroup) {
  Child leader([] { pause(); });
  Child member([] { pause(); });
  ASSERT_THAT(setpgid(leader.pid(), leader.pid()), SyscallSucceeds());
  EXPECT_THAT(setpgid(member.pid(), leader.pid()), SyscallSucceeds());
  EXPECT_THAT(getpgid(member.pid()), SyscallSucceedsWithValue(leader.pid()));
}

TEST(SetpgidTest, MissingGroupIsEperm) {
  Child child([] { pause(); });
  Child gone([] {});
  const pid_t pid = gone.pid();
  gone.Wait();
  EXPECT_THAT(setpgid(child.pid(), pid), SyscallFailsWithErrno(EPERM));
}

TEST(SetpgidTest, NegativeIsInvalidAndStrangerEsrch) {
  EXPECT_THAT(setpgid(0, -1), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(setpgid(getppid() == 0 ? 1 << 22 : getppid(), 0), SyscallFailsWithErrno(ESRCH));
}

TEST(SetpgidTest, SessionLeaderIsEperm) {
  EXPECT_THAT(InChild([] {
                ASSERT_THAT(setsid(), SyscallSucceeds());
                EXPECT_THAT(setpgid(0, 0), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

GUEST_PROGRAM(block) {
  WriteAll(1, "x");
  return pause();
}
TEST(SetpgidTest, ChildThatHasExecutedIsEacces) {
  Pipe pipe;
  Child child([&] {
    dup2(pipe.writer, 1);
    execl(SelfPath().c_str(), "x", "--program=block", nullptr);
  });
  ASSERT_EQ(ReadOnce(pipe.reader, 1), "x");
  EXPECT_THAT(setpgid(child.pid(), child.pid()), SyscallFailsWithErrno(EACCES));
}

TEST(SetpgidTest, ChildInAnotherSessionIsEperm) {
  Pipe pipe;
  Child child([&] {
    setsid();
    WriteAll(pipe.writer, "x");
    pause();
  });
  ASSERT_EQ(ReadOnce(pipe.reader, 1), "x");
  EXPECT_THAT(setpgid(child.pid(), getpgrp()), SyscallFailsWithErrno(EPERM));
}

TEST(GetpgidTest, UnknownProcessIsEsrch) {
  EXPECT_THAT(getpgid(1 << 22), SyscallFailsWithErrno(ESRCH));
  EXPECT_THAT(getsid(1 << 22), SyscallFailsWithErrno(ESRCH));
}

TEST(KillTest, NegativePidReachesTheWholeGroup) {
  Child leader([] { pause(); });
  Child member([] { pause(); });
  ASSERT_THAT(setpgid(leader.pid(), leader.pid()), SyscallSucceeds());
  ASSERT_THAT(setpgid(member.pid(), leader.pid()), SyscallSucceeds());
  ASSERT_THAT(kill(-leader.pid(), SIGTERM), SyscallSucceeds());
  EXPECT_THAT(leader.Wait(), DiesOf(SIGTERM));
  EXPECT_THAT(member.Wait(), DiesOf(SIGTERM));
}

TEST(KillTest, ZeroReachesTheOwnGroup) {
  EXPECT_THAT(InChild([] {
                setpgid(0, 0);
                signal(SIGUSR1, CountDelivery);
                kill(0, SIGUSR1);
                EXPECT_EQ(g_deliveries, 1);
              }),
              ExitsWith(0));
}

TEST(KillTest, EmptyGroupIsEsrch) {
  EXPECT_THAT(kill(-(1 << 22), SIGTERM), SyscallFailsWithErrno(ESRCH));
}

TEST(KillTest, OrphanedStoppedGroupGetsHupAndCont) {
  // setpgid(2): a group that becomes orphaned with a stopped member is hung up and continued.
  EXPECT_THAT(InChild([] {
                setsid();  // The new parent, init, is then of another session.
                Pipe report;
                pid_t parent = fork();
                if (parent == 0) {
                  pid_t stopped = fork();
                  if (stopped == 0) {
                    setpgid(0, 0);
                    signal(SIGHUP, [](int) {});
                    signal(SIGCONT, CountDelivery);
                    raise(SIGSTOP);
                    WaitUntil([] { return g_deliveries == 1; });
                    WriteAll(report.writer, "continued");
                    _exit(0);
                  }
                  int status;
                  waitpid(stopped, &status, WUNTRACED);
                  _exit(0);
                }
                report.writer.Close();
                EXPECT_EQ(ReadAll(report.reader), "continued");
                waitpid(parent, nullptr, 0);
              }),
              ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
