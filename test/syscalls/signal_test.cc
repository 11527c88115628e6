// Actions, masks, delivery, queues: sigaction(2), sigprocmask(2), kill(2), sigqueue(3), signal(7).
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

bool Blocked(int signal) {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  return sigismember(&mask, signal) == 1;
}
bool Pending(int signal) {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, signal) == 1;
}

class SignalTest : public testing::Test {
 protected:
  SignalTest() { g_deliveries = 0; }
};

TEST_F(SignalTest, HandlerRunsBeforeKillReturns) {
  ScopedAction action(SIGUSR1, CountDelivery);
  ASSERT_THAT(kill(getpid(), SIGUSR1), SyscallSucceeds());
  EXPECT_EQ(g_deliveries, 1);
}

TEST_F(SignalTest, ActionIsReadBack) {
  ScopedAction action(SIGUSR1, CountDelivery, SA_RESTART | SA_NODEFER);
  struct sigaction old;
  ASSERT_THAT(sigaction(SIGUSR1, nullptr, &old), SyscallSucceeds());
  EXPECT_EQ(old.sa_handler, CountDelivery);
  EXPECT_EQ(old.sa_flags & (SA_RESTART | SA_NODEFER | SA_SIGINFO), SA_RESTART | SA_NODEFER);
}

TEST_F(SignalTest, KillAndStopCannotBeHandled) {
  struct sigaction action = {};
  action.sa_handler = SIG_IGN;
  EXPECT_THAT(sigaction(SIGKILL, &action, nullptr), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(sigaction(SIGSTOP, &action, nullptr), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(sigaction(65, &action, nullptr), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(sigaction(0, &action, nullptr), SyscallFailsWithErrno(EINVAL));
}

TEST_F(SignalTest, KillAndStopCannotBeBlocked) {
  ScopedMask mask(SIG_BLOCK, {SIGKILL, SIGSTOP, SIGUSR1});
  EXPECT_FALSE(Blocked(SIGKILL));
  EXPECT_FALSE(Blocked(SIGSTOP));
  EXPECT_TRUE(Blocked(SIGUSR1));
}

TEST_F(SignalTest, BlockedSignalIsPendingUntilUnblocked) {
  ScopedAction action(SIGUSR1, CountDelivery);
  {
    ScopedMask mask(SIG_BLOCK, {SIGUSR1});
    kill(getpid(), SIGUSR1);
    EXPECT_TRUE(Pending(SIGUSR1));
    EXPECT_EQ(g_deliveries, 0);
  }
  EXPECT_EQ(g_deliveries, 1);
  EXPECT_FALSE(Pending(SIGUSR1));
}

TEST_F(SignalTest, OrdinarySignalsDoNotQueue) {
  ScopedAction action(SIGUSR1, CountDelivery);
  {
    ScopedMask mask(SIG_BLOCK, {SIGUSR1});
    for (int i = 0; i < 5; i++) kill(getpid(), SIGUSR1);
  }
  EXPECT_EQ(g_deliveries, 1);
}

TEST_F(SignalTest, IgnoringDiscardsAPendingSignal) {
  ScopedMask mask(SIG_BLOCK, {SIGUSR1});
  kill(getpid(), SIGUSR1);
  ScopedAction ignore(SIGUSR1, SIG_IGN);
  EXPECT_FALSE(Pending(SIGUSR1));
}

TEST_F(SignalTest, HandlerBlocksItsSignalAndMask) {
  static bool own, other;
  struct sigaction action = {};
  action.sa_handler = [](int) {
    own = Blocked(SIGUSR1);
    other = Blocked(SIGUSR2);
  };
  sigaddset(&action.sa_mask, SIGUSR2);
  ScopedAction scoped(SIGUSR1, action);
  raise(SIGUSR1);
  EXPECT_TRUE(own);
  EXPECT_TRUE(other);
  EXPECT_FALSE(Blocked(SIGUSR1));
  EXPECT_FALSE(Blocked(SIGUSR2));
}

TEST_F(SignalTest, NodeferLetsTheHandlerNest) {
  static int depth, deepest;
  depth = deepest = 0;
  ScopedAction action(
      SIGUSR1,
      +[](int) {
        deepest = std::max(deepest, ++depth);
        if (depth < 5) raise(SIGUSR1);
        depth--;
      },
      SA_NODEFER);
  raise(SIGUSR1);
  EXPECT_EQ(deepest, 5);
}

TEST_F(SignalTest, ResethandRunsOnce) {
  ScopedAction action(SIGUSR1, CountDelivery, SA_RESETHAND);
  raise(SIGUSR1);
  struct sigaction now;
  sigaction(SIGUSR1, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
  EXPECT_EQ(g_deliveries, 1);
}

TEST_F(SignalTest, HandlersOfSeveralPendingSignalsNestInOrder) {
  static std::string order;
  order = "";
  ScopedAction one(
      SIGUSR1, +[](int) { order += '1'; }),
      two(
          SIGUSR2, +[](int) { order += '2'; });
  {
    ScopedMask mask(SIG_BLOCK, {SIGUSR1, SIGUSR2});
    kill(getpid(), SIGUSR2);
    kill(getpid(), SIGUSR1);
  }
  // The frame of the lower number is built first, so the higher one runs first.
  EXPECT_EQ(order, "21");
}

TEST_F(SignalTest, UserSignalTellsTheSender) {
  ScopedAction action(SIGUSR1, RecordInfo);
  kill(getpid(), SIGUSR1);
  EXPECT_EQ(g_last_info.si_signo, SIGUSR1);
  EXPECT_EQ(g_last_info.si_code, SI_USER);
  EXPECT_EQ(g_last_info.si_pid, getpid());
  EXPECT_EQ(g_last_info.si_uid, getuid());
}

TEST_F(SignalTest, ThreadSignalHasCodeTkill) {
  ScopedAction action(SIGUSR1, RecordInfo);
  syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1);
  EXPECT_EQ(g_last_info.si_code, SI_TKILL);
}

TEST_F(SignalTest, QueueCarriesAValue) {
  ScopedAction action(SIGRTMIN, RecordInfo);
  sigval value;
  value.sival_int = 4711;
  ASSERT_THAT(sigqueue(getpid(), SIGRTMIN, value), SyscallSucceeds());
  EXPECT_EQ(g_last_info.si_code, SI_QUEUE);
  EXPECT_EQ(g_last_info.si_value.sival_int, 4711);
}

TEST_F(SignalTest, RealtimeSignalsQueueInOrder) {
  ScopedMask mask(SIG_BLOCK, {SIGRTMIN, SIGRTMIN + 1});
  sigval value;
  for (int i = 0; i < 3; i++) {
    value.sival_int = i;
    sigqueue(getpid(), SIGRTMIN + 1, value);
    sigqueue(getpid(), SIGRTMIN, value);
  }
  sigset_t set = SignalSet({SIGRTMIN, SIGRTMIN + 1});
  siginfo_t info;
  for (int signal : {SIGRTMIN, SIGRTMIN + 1}) {
    for (int i = 0; i < 3; i++) {
      ASSERT_THAT(sigwaitinfo(&set, &info), SyscallSucceedsWithValue(signal));
      EXPECT_EQ(info.si_value.sival_int, i);
    }
  }
}

TEST_F(SignalTest, OthersInfoCannotBeForged) {
  Child child([] { pause(); });
  siginfo_t info = {};
  info.si_code = SI_USER;
  EXPECT_THAT(syscall(SYS_rt_sigqueueinfo, child.pid(), SIGUSR1, &info),
              SyscallFailsWithErrno(EPERM));
}

TEST_F(SignalTest, TimedwaitTakesAPendingSignalAndTimesOut) {
  ScopedMask mask(SIG_BLOCK, {SIGUSR1});
  sigset_t set = SignalSet({SIGUSR1});
  timespec zero = {}, bad = {0, 1000000000};
  kill(getpid(), SIGUSR1);
  EXPECT_THAT(sigtimedwait(&set, nullptr, &zero), SyscallSucceedsWithValue(SIGUSR1));
  EXPECT_THAT(sigtimedwait(&set, nullptr, &zero), SyscallFailsWithErrno(EAGAIN));
  EXPECT_THAT(sigtimedwait(&set, nullptr, &bad), SyscallFailsWithErrno(EINVAL));
}

TEST_F(SignalTest, SuspendRunsTheHandlerUnderItsMaskAndRestores) {
  ScopedAction action(SIGUSR1, CountDelivery);
  ScopedMask mask(SIG_BLOCK, {SIGUSR1});
  kill(getpid(), SIGUSR1);
  sigset_t none = SignalSet({});
  EXPECT_THAT(sigsuspend(&none), SyscallFailsWithErrno(EINTR));
  EXPECT_EQ(g_deliveries, 1);
  EXPECT_TRUE(Blocked(SIGUSR1));
}

TEST_F(SignalTest, MaskBelongsToTheThread) {
  ScopedMask mask(SIG_BLOCK, {SIGUSR1});
  bool in_thread = false, after = true;
  ScopedThread([&] {
    in_thread = Blocked(SIGUSR1);  // Inherited.
    sigset_t set = SignalSet({SIGUSR1});
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    after = Blocked(SIGUSR1);
  }).Join();
  EXPECT_TRUE(in_thread);
  EXPECT_FALSE(after);
  EXPECT_TRUE(Blocked(SIGUSR1));
}

TEST_F(SignalTest, ProcessSignalGoesToAThreadThatTakesIt) {
  static volatile pid_t receiver;
  receiver = 0;
  ScopedAction action(
      SIGUSR1, +[](int) { receiver = gettid(); });
  Pipe pipe;
  ScopedThread thread([&] { ReadOnce(pipe.reader, 1); });
  ScopedMask mask(SIG_BLOCK, {SIGUSR1});
  kill(getpid(), SIGUSR1);
  EXPECT_TRUE(WaitUntil([] { return receiver != 0; }));
  EXPECT_EQ(receiver, thread.tid());
  WriteAll(pipe.writer, "x");
}

TEST_F(SignalTest, NullSignalOnlyChecks) {
  EXPECT_THAT(kill(getpid(), 0), SyscallSucceeds());
  EXPECT_THAT(kill(1 << 22, 0), SyscallFailsWithErrno(ESRCH));
  EXPECT_THAT(kill(getpid(), 65), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(kill(getpid(), -1), SyscallFailsWithErrno(EINVAL));
}

TEST_F(SignalTest, TgkillOfAForeignThreadIsEsrch) {
  EXPECT_THAT(syscall(SYS_tgkill, getpid() + 1, gettid(), 0), SyscallFailsWithErrno(ESRCH));
  EXPECT_THAT(syscall(SYS_tgkill, -1, gettid(), 0), SyscallFailsWithErrno(EINVAL));
}

TEST_F(SignalTest, OtherUsersProcessIsEperm) {
  Child victim([] { pause(); });
  EXPECT_THAT(InChild([&] {
                setresuid(1000, 1000, 1000);
                EXPECT_THAT(victim.Kill(SIGTERM), SyscallFailsWithErrno(EPERM));
                EXPECT_THAT(victim.Kill(0), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

TEST_F(SignalTest, ContinueReachesTheOwnSessionWhateverTheUser) {
  Child victim([] { pause(); });
  EXPECT_THAT(InChild([&] {
                setresuid(1000, 1000, 1000);
                EXPECT_THAT(victim.Kill(SIGCONT), SyscallSucceeds());
              }),
              ExitsWith(0));
}

TEST_F(SignalTest, DefaultActions) {
  EXPECT_THAT(InChild([] { raise(SIGTERM); }), DiesOf(SIGTERM));
  EXPECT_THAT(InChild([] { raise(SIGRTMIN); }), DiesOf(SIGRTMIN));
  EXPECT_THAT(InChild([] { raise(SIGCHLD); }), ExitsWith(0));
  EXPECT_THAT(InChild([] { raise(SIGURG); }), ExitsWith(0));
}

TEST_F(SignalTest, StopAndContinueCancelEachOther) {
  ScopedMask mask(SIG_BLOCK, {SIGCONT, SIGTSTP});
  raise(SIGTSTP);
  EXPECT_TRUE(Pending(SIGTSTP));
  raise(SIGCONT);
  EXPECT_FALSE(Pending(SIGTSTP));
  sigset_t set = SignalSet({SIGCONT});
  timespec zero = {};
  sigtimedwait(&set, nullptr, &zero);
}

TEST_F(SignalTest, WrongSetSizeIsInvalid) {
  sigset_t set = SignalSet({});
  EXPECT_THAT(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, nullptr, 16),
              SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_rt_sigprocmask, 77, &set, nullptr, 8), SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
