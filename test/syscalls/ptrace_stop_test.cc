// ptrace(2): stops of each kind, how they follow each other, and how they end.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/ptrace_util.h"
#include "test/util/signal_util.h"

#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif

namespace caisson::test {
namespace {

class PtraceStopTest : public PtraceFixture {};

volatile long* Words(SharedMapping& page) { return reinterpret_cast<volatile long*>(page.get()); }

// The kinds of stops that the tests below end in different ways.
enum class Kind { kSignal, kEntry, kExit, kFork, kInterrupt, kGroup, kListening };

// A child of the caller, traced by it and in a stop of this kind. It adds to *counter for ever when
// it runs; counter[kGo] is ours.
pid_t StopAt(Kind kind, volatile long* counter, int options = 0) {
  constexpr int kGo = 7;
  counter[kGo] = 0;
  const pid_t pid = fork();
  if (pid == 0) {
    // A ready-made stop of each kind comes soon, and again and again.
    for (;;) {
      *counter = *counter + 1;
      if (kind == Kind::kEntry || kind == Kind::kExit) syscall(SYS_getpgid, 0);
      // Once, and not before it is traced.
      const bool go = counter[kGo] == 1;
      if (go) counter[kGo] = 2;
      if (kind == Kind::kFork && go) {
        const pid_t child = fork();
        if (child == 0) _exit(0);
        waitpid(child, nullptr, 0);
      }
      if (kind == Kind::kGroup || kind == Kind::kListening || kind == Kind::kSignal)
        if (go) raise(kind == Kind::kSignal ? SIGURG : SIGSTOP);
      sched_yield();
    }
  }
  if (kind == Kind::kFork) options |= PTRACE_O_TRACEFORK;
  int status = 0;
  EXPECT_THAT(ptrace(PTRACE_SEIZE, pid, 0, options), SyscallSucceeds());
  counter[kGo] = 1;
  if (kind == Kind::kInterrupt || kind == Kind::kEntry || kind == Kind::kExit) {
    EXPECT_THAT(ptrace(PTRACE_INTERRUPT, pid, 0, 0), SyscallSucceeds());
  }
  EXPECT_THAT(waitpid(pid, &status, __WALL), SyscallSucceedsWithValue(pid));
  EXPECT_TRUE(WIFSTOPPED(status)) << status;
  for (int more = kind == Kind::kEntry ? 1 : kind == Kind::kExit ? 2 : 0; more > 0; more--) {
    EXPECT_THAT(ptrace(PTRACE_SYSCALL, pid, 0, 0), SyscallSucceeds());
    EXPECT_THAT(waitpid(pid, &status, __WALL), SyscallSucceedsWithValue(pid));
    EXPECT_EQ(status >> 8, SIGTRAP);
  }
  if (kind == Kind::kGroup || kind == Kind::kListening) {
    EXPECT_EQ(status >> 8, SIGSTOP);  // The signal itself, before it stops the group.
    EXPECT_THAT(ptrace(PTRACE_CONT, pid, 0, SIGSTOP), SyscallSucceeds());
    EXPECT_THAT(waitpid(pid, &status, __WALL), SyscallSucceedsWithValue(pid));
    EXPECT_EQ(status >> 8, EventStop(PTRACE_EVENT_STOP, SIGSTOP));
  }
  if (kind == Kind::kListening) {
    EXPECT_THAT(ptrace(PTRACE_LISTEN, pid, 0, 0), SyscallSucceeds());
  }
  return pid;
}

constexpr Kind kKinds[] = {Kind::kSignal, Kind::kEntry, Kind::kExit, Kind::kFork,
                           Kind::kInterrupt, Kind::kGroup, Kind::kListening};

TEST_F(PtraceStopTest, SigkillEndsEachStop) {
  SharedMapping page;
  for (Kind kind : kKinds) {
    const pid_t pid = StopAt(kind, Words(page));
    EXPECT_THAT(kill(pid, SIGKILL), SyscallSucceeds());
    int status = 0;
    EXPECT_THAT(waitpid(pid, &status, __WALL), SyscallSucceedsWithValue(pid));
    EXPECT_THAT(status, DiesOf(SIGKILL)) << static_cast<int>(kind);
    Words(page)[0] = 0;
  }
}

// The tracer ends by itself or by SIGKILL; the tracee goes on, or stays in its group's stop.
TEST_F(PtraceStopTest, EndOfTheTracerLetsGo) {
  SharedMapping page;
  volatile long* words = Words(page);
  for (Kind kind : kKinds) {
    for (bool killed : {false, true}) {
      words[0] = 0;
      words[1] = 0;
      ASSERT_THAT(prctl(PR_SET_CHILD_SUBREAPER, 1), SyscallSucceeds());
      Child tracer([&] {
        words[1] = StopAt(kind, &words[0]);
        if (killed) raise(SIGKILL);
        _exit(7);
      });
      const int status = tracer.Wait();
      if (killed) {
        EXPECT_THAT(status, DiesOf(SIGKILL));
      } else {
        EXPECT_THAT(status, ExitsWith(7));
      }
      const auto pid = static_cast<pid_t>(words[1]);
      ASSERT_GT(pid, 0);
      if (kind == Kind::kGroup || kind == Kind::kListening) {
        EXPECT_TRUE(WaitUntil([&] { return ProcessState(pid) == 'T'; }));
        EXPECT_THAT(kill(pid, SIGCONT), SyscallSucceeds());
      }
      const long before = words[0];
      EXPECT_TRUE(WaitUntil([&] { return words[0] > before + 10; })) << static_cast<int>(kind);
      EXPECT_EQ(StatusField(std::to_string(pid), "TracerPid"), "0");
      kill(pid, SIGKILL);
      int ended = 0;
      EXPECT_THAT(waitpid(pid, &ended, __WALL), SyscallSucceedsWithValue(pid));
      EXPECT_THAT(ended, DiesOf(SIGKILL));
    }
  }
}

TEST_F(PtraceStopTest, ExitKillTakesTheTraceeAlong) {
  SharedMapping page;
  volatile long* words = Words(page);
  for (Kind kind : kKinds) {
    words[0] = 0;
      words[1] = 0;
    ASSERT_THAT(prctl(PR_SET_CHILD_SUBREAPER, 1), SyscallSucceeds());
    Child tracer([&] {
      words[1] = StopAt(kind, &words[0], PTRACE_O_EXITKILL);
      _exit(0);
    });
    EXPECT_THAT(tracer.Wait(), ExitsWith(0));
    const auto pid = static_cast<pid_t>(words[1]);
    int status = 0;
    EXPECT_THAT(waitpid(pid, &status, __WALL), SyscallSucceedsWithValue(pid));
    EXPECT_THAT(status, DiesOf(SIGKILL)) << static_cast<int>(kind);
  }
}

TEST_F(PtraceStopTest, StopBeforeTheEndAnswersAndGoesOn) {
  const pid_t pid = Start([] { _exit(5); }, PTRACE_O_TRACEEXIT);
  EXPECT_EQ(Go() >> 8, EventStop(PTRACE_EVENT_EXIT));
  unsigned long message = 0;
  ASSERT_THAT(ptrace(PTRACE_GETEVENTMSG, pid, 0, &message), SyscallSucceeds());
  EXPECT_EQ(message, 5u << 8);
  EXPECT_EQ(Registers().orig_rax, static_cast<unsigned long>(SYS_exit_group));
  EXPECT_EQ(ProcessState(pid), 't');
  EXPECT_THAT(Go(), ExitsWith(5));
}

TEST_F(PtraceStopTest, KilledTraceeStopsBeforeItsEnd) {
  const pid_t pid = Start([] { pause(); }, PTRACE_O_TRACEEXIT);
  EXPECT_EQ(Go(PTRACE_CONT, SIGTERM) >> 8, EventStop(PTRACE_EVENT_EXIT));
  unsigned long message = 0;
  ASSERT_THAT(ptrace(PTRACE_GETEVENTMSG, pid, 0, &message), SyscallSucceeds());
  EXPECT_EQ(message, static_cast<unsigned long>(SIGTERM));
  EXPECT_THAT(ptrace(PTRACE_DETACH, pid, 0, 0), SyscallSucceeds());
  EXPECT_THAT(WaitStop(), DiesOf(SIGTERM));
}

// Two who trace each other.
TEST_F(PtraceStopTest, MutualTracersEndTogether) {
  SharedMapping page;
  volatile long* words = Words(page);
  Child a([&] {
    while (words[1] == 0) sched_yield();
    if (ptrace(PTRACE_SEIZE, words[1], 0, 0) == 0) words[2] = 1;
    pause();
  });
  Child b([&] {
    words[1] = getpid();
    while (words[2] == 0) sched_yield();
    if (ptrace(PTRACE_SEIZE, words[0], 0, 0) == 0) words[3] = 1;
    pause();
  });
  words[0] = a.pid();
  ASSERT_TRUE(WaitUntil([&] { return words[3] == 1; }));
  kill(a.pid(), SIGKILL);
  kill(b.pid(), SIGKILL);
  EXPECT_THAT(a.Wait(), DiesOf(SIGKILL));
  EXPECT_THAT(b.Wait(), DiesOf(SIGKILL));
}

TEST_F(PtraceStopTest, BlockedCallIsEnteredOnce) {
  int ends[2];
  ASSERT_THAT(pipe(ends), SyscallSucceeds());
  const pid_t pid = Start([&] {
    char byte;
    _exit(read(ends[0], &byte, 1) == 1 ? 0 : 1);
  }, PTRACE_O_TRACESYSGOOD);
  RunToEntry(pid, SYS_read);
  ASSERT_THAT(ptrace(PTRACE_SYSCALL, pid, 0, 0), SyscallSucceeds());
  ASSERT_TRUE(WaitUntilSleeping(pid));
  usleep(20'000);
  EXPECT_EQ(ProcessState(pid), 'S');  // No stop came.
  ASSERT_THAT(write(ends[1], "x", 1), SyscallSucceedsWithValue(1));
  EXPECT_EQ(WaitStop() >> 8, SIGTRAP | 0x80);
  EXPECT_EQ(Registers().rax, 1u);
  EXPECT_THAT(Go(), ExitsWith(0));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(PtraceStopTest, InterruptedCallIsRestarted) {
  int ends[2];
  ASSERT_THAT(pipe(ends), SyscallSucceeds());
  const pid_t pid = Run([&] {
    char byte;
    _exit(read(ends[0], &byte, 1) == 1 ? 3 : 1);
  });
  ASSERT_TRUE(WaitUntilSleeping(pid));
  ASSERT_THAT(ptrace(PTRACE_SEIZE, pid, 0, 0), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_INTERRUPT, pid, 0, 0), SyscallSucceeds());
  EXPECT_EQ(WaitStop() >> 8, EventStop(PTRACE_EVENT_STOP));
  const user_regs_struct registers = Registers();
  EXPECT_EQ(registers.orig_rax, static_cast<unsigned long>(SYS_read));
  EXPECT_EQ(registers.rax, static_cast<unsigned long>(-512));  // ERESTARTSYS.
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  ASSERT_TRUE(WaitUntilSleeping(pid));
  ASSERT_THAT(write(ends[1], "x", 1), SyscallSucceedsWithValue(1));
  EXPECT_THAT(WaitStop(), ExitsWith(3));
  close(ends[0]);
  close(ends[1]);
}

// What strace(1) does with the command that it starts.
TEST_F(PtraceStopTest, SeizedWhileStopped) {
  const pid_t pid = Run([] {
    raise(SIGSTOP);
    _exit(6);
  });
  int status = 0;
  ASSERT_THAT(waitpid(pid, &status, WUNTRACED), SyscallSucceedsWithValue(pid));
  ASSERT_THAT(ptrace(PTRACE_SEIZE, pid, 0, 0), SyscallSucceeds());
  EXPECT_EQ(Registers().orig_rax, Registers().orig_rax);  // It is the tracer's at once.
  EXPECT_EQ(WaitStop() >> 8, EventStop(PTRACE_EVENT_STOP, SIGSTOP));
  ASSERT_THAT(ptrace(PTRACE_LISTEN, pid, 0, 0), SyscallSucceeds());
  EXPECT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallFailsWithErrno(ESRCH));
  EXPECT_THAT(waitpid(pid, &status, __WALL | WNOHANG), SyscallSucceedsWithValue(0));
  ASSERT_THAT(kill(pid, SIGCONT), SyscallSucceeds());
  EXPECT_EQ(WaitStop() >> 8, EventStop(PTRACE_EVENT_STOP));
  EXPECT_EQ(Go() >> 8, SIGCONT);
  EXPECT_THAT(Go(PTRACE_CONT, SIGCONT), ExitsWith(6));
}

// The same, where SIGCONT comes while the stop changes hands.
TEST_F(PtraceStopTest, SeizedAndContinuedAtOnce) {
  for (int i = 0; i < 300; i++) {
    const pid_t pid = Run([] {
      raise(SIGSTOP);
      _exit(6);
    });
    int status = 0;
    ASSERT_THAT(waitpid(pid, &status, WUNTRACED), SyscallSucceedsWithValue(pid));
    ASSERT_THAT(ptrace(PTRACE_SEIZE, pid, 0, 0), SyscallSucceeds());
    ASSERT_THAT(ptrace(PTRACE_INTERRUPT, pid, 0, 0), SyscallSucceeds());
    ASSERT_THAT(kill(pid, SIGCONT), SyscallSucceeds());
    for (status = WaitStop(); WIFSTOPPED(status); status = WaitStop()) {
      const bool group_stop = status >> 8 == EventStop(PTRACE_EVENT_STOP, SIGSTOP);
      const int signo = status >> 16 == 0 ? status >> 8 : 0;
      ASSERT_THAT(ptrace(group_stop ? PTRACE_LISTEN : PTRACE_CONT, pid, 0, signo), SyscallSucceeds());
    }
    ASSERT_THAT(status, ExitsWith(6));
  }
}

TEST_F(PtraceStopTest, AttachedWhileStoppedIsStoppedAtOnce) {
  const pid_t pid = Run([] {
    raise(SIGSTOP);
    _exit(6);
  });
  int status = 0;
  ASSERT_THAT(waitpid(pid, &status, WUNTRACED), SyscallSucceedsWithValue(pid));
  for (int i = 0; i < 50; i++) {
    ASSERT_THAT(ptrace(PTRACE_ATTACH, pid, 0, 0), SyscallSucceeds());
    user_regs_struct registers;
    ASSERT_THAT(ptrace(PTRACE_GETREGS, pid, 0, &registers), SyscallSucceeds()) << i;
    ASSERT_THAT(ptrace(PTRACE_DETACH, pid, 0, 0), SyscallSucceeds());
    ASSERT_TRUE(WaitUntil([&] { return ProcessState(pid) == 'T'; }));
  }
  ASSERT_THAT(kill(pid, SIGCONT), SyscallSucceeds());
  ASSERT_THAT(kill(pid, SIGKILL), SyscallSucceeds());
  ASSERT_TRUE(WaitUntil([&] { return ProcessState(pid) == 'Z'; }));
}

TEST_F(PtraceStopTest, InterruptOfAStoppedOneStopsItAgain) {
  const pid_t pid = Run([] {
    for (;;) sched_yield();
  });
  ASSERT_THAT(ptrace(PTRACE_SEIZE, pid, 0, 0), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_INTERRUPT, pid, 0, 0), SyscallSucceeds());
  EXPECT_EQ(WaitStop() >> 8, EventStop(PTRACE_EVENT_STOP));
  ASSERT_THAT(ptrace(PTRACE_INTERRUPT, pid, 0, 0), SyscallSucceeds());
  EXPECT_EQ(Go() >> 8, EventStop(PTRACE_EVENT_STOP));
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  ASSERT_THAT(kill(pid, SIGUSR1), SyscallSucceeds());
  EXPECT_EQ(WaitStop() >> 8, SIGUSR1);
  EXPECT_THAT(Go(PTRACE_CONT, SIGUSR1), DiesOf(SIGUSR1));
}

TEST_F(PtraceStopTest, SeveralTracersRaceAndOneWins) {
  Child target([] {
    for (;;) pause();
  });
  SharedMapping page;
  volatile long* words = Words(page);
  auto body = [&](int i) {
    while (words[0] == 0) sched_yield();
    words[1 + i] = ptrace(PTRACE_SEIZE, target.pid(), 0, 0) == 0 ? 1 : -errno;
    pause();
  };
  Child a([&] { body(0); }), b([&] { body(1); }), c([&] { body(2); });
  words[0] = 1;
  ASSERT_TRUE(WaitUntil([&] { return words[1] != 0 && words[2] != 0 && words[3] != 0; }));
  EXPECT_EQ(words[1] + words[2] + words[3], 1 - 2 * EPERM);
}

TEST_F(PtraceStopTest, VforkTellsOfBothEnds) {
  const pid_t pid = Start([] {
    const pid_t child = vfork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
    _exit(2);
  }, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE);
  EXPECT_EQ(Go() >> 8, EventStop(PTRACE_EVENT_VFORK));
  unsigned long child = 0, again = 0;
  ASSERT_THAT(ptrace(PTRACE_GETEVENTMSG, pid, 0, &child), SyscallSucceeds());
  int status = 0;
  ASSERT_THAT(waitpid(child, &status, __WALL), SyscallSucceedsWithValue(child));
  EXPECT_EQ(status >> 8, SIGSTOP);
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_DETACH, child, 0, 0), SyscallSucceeds());
  EXPECT_EQ(WaitStop() >> 8, EventStop(PTRACE_EVENT_VFORK_DONE));
  ASSERT_THAT(ptrace(PTRACE_GETEVENTMSG, pid, 0, &again), SyscallSucceeds());
  EXPECT_EQ(again, child);
  int last = Go();
  while (WIFSTOPPED(last) && last >> 8 == SIGCHLD) last = Go();
  EXPECT_THAT(last, ExitsWith(2));
}

TEST_F(PtraceStopTest, NewThreadIsTracedAndItsEndIsSeen) {
  const pid_t pid = Start([] {
    ScopedThread thread([] {});
    thread.Join();
    _exit(0);
  }, PTRACE_O_TRACECLONE);
  EXPECT_EQ(Go() >> 8, EventStop(PTRACE_EVENT_CLONE));
  unsigned long tid = 0;
  ASSERT_THAT(ptrace(PTRACE_GETEVENTMSG, pid, 0, &tid), SyscallSucceeds());
  int status = 0;
  ASSERT_THAT(waitpid(tid, &status, __WALL), SyscallSucceedsWithValue(tid));
  EXPECT_EQ(status >> 8, SIGSTOP);
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_CONT, tid, 0, 0), SyscallSucceeds());
  ASSERT_THAT(waitpid(tid, &status, __WALL), SyscallSucceedsWithValue(tid));
  EXPECT_THAT(status, ExitsWith(0));
  EXPECT_THAT(WaitStop(), ExitsWith(0));
}

TEST_F(PtraceStopTest, SeccompStopLetsTheTracerAnswer) {
  const pid_t pid = Start([] {
    sock_filter code[] = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
                          {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_getpgid},
                          {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRACE | 77},
                          {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
    sock_fprog program = {4, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(1);
    _exit(syscall(SYS_getpgid, 0) == 4242 ? 0 : 2);
  }, PTRACE_O_TRACESECCOMP);
  EXPECT_EQ(Go() >> 8, EventStop(PTRACE_EVENT_SECCOMP));
  unsigned long data = 0;
  ASSERT_THAT(ptrace(PTRACE_GETEVENTMSG, pid, 0, &data), SyscallSucceeds());
  EXPECT_EQ(data, 77u);
  user_regs_struct registers = Registers();
  EXPECT_EQ(registers.orig_rax, static_cast<unsigned long>(SYS_getpgid));
  registers.orig_rax = -1;
  registers.rax = 4242;
  ASSERT_THAT(ptrace(PTRACE_SETREGS, pid, 0, &registers), SyscallSucceeds());
  EXPECT_THAT(Go(), ExitsWith(0));
}

TEST_F(PtraceStopTest, SysemuCallsAreTheTracers) {
  const pid_t pid = Start([] { _exit(syscall(SYS_getpgid, 0) == 99 ? 0 : 1); });
  user_regs_struct registers = {};
  for (int i = 0; i < 100 && registers.orig_rax != SYS_getpgid; i++) {
    ASSERT_TRUE(WIFSTOPPED(Go(PTRACE_SYSEMU)));
    registers = Registers();
  }
  ASSERT_EQ(registers.orig_rax, static_cast<unsigned long>(SYS_getpgid));
  registers.rax = 99;
  ASSERT_THAT(ptrace(PTRACE_SETREGS, pid, 0, &registers), SyscallSucceeds());
  EXPECT_THAT(Go(), ExitsWith(0));  // No exit stop between.
}

}  // namespace
}  // namespace caisson::test
