// ptrace(2): what strace and gdb use; process_vm_readv(2).
#include <elf.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/ptrace_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

volatile long g_word = 0x1122334455667788;

class PtraceTest : public PtraceFixture {};

TEST_F(PtraceTest, PeekAndPoke) {
  const pid_t pid = Start([] { _exit(g_word == 42 ? 0 : 1); });
  errno = 0;
  EXPECT_EQ(ptrace(PTRACE_PEEKDATA, pid, &g_word, 0), 0x1122334455667788);
  ASSERT_THAT(ptrace(PTRACE_POKEDATA, pid, &g_word, 42L), SyscallSucceeds());
  EXPECT_THAT(ptrace(PTRACE_PEEKDATA, pid, 8L, 0), SyscallFailsWithErrno(EIO));
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  EXPECT_THAT(WaitStop(), ExitsWith(0));
}

TEST_F(PtraceTest, PokeWritesCodeToo) {
  const pid_t pid = Start([] {});
  user_regs_struct registers;
  ASSERT_THAT(ptrace(PTRACE_GETREGS, pid, 0, &registers), SyscallSucceeds());
  // ud2 where it stands.
  const long word = ptrace(PTRACE_PEEKTEXT, pid, registers.rip, 0);
  ASSERT_THAT(ptrace(PTRACE_POKETEXT, pid, registers.rip, (word & ~0xffffL) | 0x0b0f),
              SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  const int status = WaitStop();
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGILL);
}

TEST_F(PtraceTest, SyscallStopsShowEntryAndExit) {
  const pid_t pid = Start([] { syscall(SYS_getpgid, 0); });
  user_regs_struct registers = RunToEntry(pid, SYS_getpgid);
  EXPECT_EQ(registers.rax, static_cast<unsigned long long>(-ENOSYS));
  EXPECT_EQ(registers.rdi, 0u);
  ASSERT_THAT(ptrace(PTRACE_SYSCALL, pid, 0, 0), SyscallSucceeds());
  ASSERT_TRUE(WIFSTOPPED(WaitStop()));
  ASSERT_THAT(ptrace(PTRACE_GETREGS, pid, 0, &registers), SyscallSucceeds());
  EXPECT_EQ(registers.rax, static_cast<unsigned long long>(getpgrp()));
}

TEST_F(PtraceTest, SysgoodMarksCallStops) {
  const pid_t pid = Start([] { syscall(SYS_getpgid, 0); });
  ASSERT_THAT(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_SYSCALL, pid, 0, 0), SyscallSucceeds());
  EXPECT_EQ(WSTOPSIG(WaitStop()), SIGTRAP | 0x80);
}

TEST_F(PtraceTest, CallNumberAndResultCanBeChanged) {
  const pid_t pid = Start([] { _exit(syscall(SYS_getpgid, 0) == 777 ? 0 : 1); });
  user_regs_struct registers = RunToEntry(pid, SYS_getpgid);
  registers.orig_rax = -1;
  ASSERT_THAT(ptrace(PTRACE_SETREGS, pid, 0, &registers), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_SYSCALL, pid, 0, 0), SyscallSucceeds());
  ASSERT_TRUE(WIFSTOPPED(WaitStop()));
  registers.rax = 777;
  ASSERT_THAT(ptrace(PTRACE_SETREGS, pid, 0, &registers), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  EXPECT_THAT(WaitStop(), ExitsWith(0));
}

TEST_F(PtraceTest, SingleStepAdvancesOneInstruction) {
  const pid_t pid = Start([] {});
  user_regs_struct before, after;
  ptrace(PTRACE_GETREGS, pid, 0, &before);
  ASSERT_THAT(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), SyscallSucceeds());
  const int status = WaitStop();
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGTRAP);
  ptrace(PTRACE_GETREGS, pid, 0, &after);
  EXPECT_NE(after.rip, before.rip);
  EXPECT_LT(after.rip - before.rip, 16u);
}

TEST_F(PtraceTest, SignalStopsBeforeDeliveryAndCanBeSuppressed) {
  const pid_t pid = Start([] {
    raise(SIGTERM);
    _exit(3);
  });
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  const int status = WaitStop();
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGTERM);
  siginfo_t info;
  ASSERT_THAT(ptrace(PTRACE_GETSIGINFO, pid, 0, &info), SyscallSucceeds());
  EXPECT_EQ(info.si_signo, SIGTERM);
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  EXPECT_THAT(WaitStop(), ExitsWith(3));
}

TEST_F(PtraceTest, SignalCanBeDelivered) {
  const pid_t pid = Start([] { pause(); });
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, SIGTERM), SyscallSucceeds());
  EXPECT_THAT(WaitStop(), DiesOf(SIGTERM));
}

TEST_F(PtraceTest, ExecStops) {
  const pid_t pid = Start([] { execl(SelfPath().c_str(), "x", "--program=none", nullptr); });
  ASSERT_THAT(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXEC), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  EXPECT_EQ(WaitStop() >> 8, SIGTRAP | (PTRACE_EVENT_EXEC << 8));
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  EXPECT_THAT(WaitStop(), ExitsWith(126));
}

TEST_F(PtraceTest, ForkEventTellsTheNewPid) {
  const pid_t pid = Start([] {
    pid_t grandchild = fork();
    if (grandchild == 0) _exit(0);
    waitpid(grandchild, nullptr, 0);
    _exit(4);
  });
  ASSERT_THAT(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_CONT, pid, 0, 0), SyscallSucceeds());
  EXPECT_EQ(WaitStop() >> 8, SIGTRAP | (PTRACE_EVENT_FORK << 8));
  unsigned long grandchild = 0;
  ASSERT_THAT(ptrace(PTRACE_GETEVENTMSG, pid, 0, &grandchild), SyscallSucceeds());
  int status;
  ASSERT_THAT(waitpid(grandchild, &status, __WALL), SyscallSucceeds());
  EXPECT_TRUE(WIFSTOPPED(status));
  ASSERT_THAT(ptrace(PTRACE_DETACH, grandchild, 0, 0), SyscallSucceeds());
  ASSERT_THAT(ptrace(PTRACE_DETACH, pid, 0, 0), SyscallSucceeds());
  EXPECT_THAT(WaitStop(), ExitsWith(4));
}

TEST_F(PtraceTest, SeizedProcessIsInterruptedAndDetached) {
  Child child([] { pause(); });
  ASSERT_THAT(ptrace(PTRACE_SEIZE, child.pid(), 0, 0), SyscallSucceeds());
  EXPECT_EQ(StatusField(std::to_string(child.pid()), "TracerPid"), std::to_string(getpid()));
  ASSERT_THAT(ptrace(PTRACE_INTERRUPT, child.pid(), 0, 0), SyscallSucceeds());
  int status = 0;
  ASSERT_THAT(waitpid(child.pid(), &status, __WALL), SyscallSucceeds());
  EXPECT_EQ(status >> 8, SIGTRAP | (PTRACE_EVENT_STOP << 8));
  ASSERT_THAT(ptrace(PTRACE_DETACH, child.pid(), 0, 0), SyscallSucceeds());
  EXPECT_TRUE(WaitUntilSleeping(child.pid()));
  child.Kill(SIGTERM);
  EXPECT_THAT(child.Wait(), DiesOf(SIGTERM));
}

TEST_F(PtraceTest, AttachStopsAStranger) {
  Child child([] { pause(); });
  ASSERT_THAT(ptrace(PTRACE_ATTACH, child.pid(), 0, 0), SyscallSucceeds());
  int status = 0;
  ASSERT_THAT(waitpid(child.pid(), &status, 0), SyscallSucceeds());
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
  EXPECT_EQ(ProcessState(child.pid()), 't');
  EXPECT_THAT(ptrace(PTRACE_ATTACH, child.pid(), 0, 0), SyscallFailsWithErrno(EPERM));
  ASSERT_THAT(ptrace(PTRACE_DETACH, child.pid(), 0, 0), SyscallSucceeds());
}

TEST_F(PtraceTest, RegisterSetsHaveTheirSizes) {
  const pid_t pid = Start([] {});
  char buffer[1024];
  iovec iov = {buffer, sizeof(buffer)};
  ASSERT_THAT(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov), SyscallSucceeds());
  EXPECT_EQ(iov.iov_len, sizeof(user_regs_struct));
  iov = {buffer, sizeof(buffer)};
  ASSERT_THAT(ptrace(PTRACE_GETREGSET, pid, NT_PRFPREG, &iov), SyscallSucceeds());
  EXPECT_EQ(iov.iov_len, 512u);
  EXPECT_THAT(ptrace(PTRACE_GETREGSET, pid, 0x9999, &iov), SyscallFailsWithErrno(EINVAL));
}

TEST_F(PtraceTest, UntracedAndMissingProcessesAreEsrch) {
  Child child([] { pause(); });
  EXPECT_THAT(ptrace(PTRACE_CONT, child.pid(), 0, 0), SyscallFailsWithErrno(ESRCH));
  EXPECT_THAT(ptrace(PTRACE_ATTACH, 1 << 22, 0, 0), SyscallFailsWithErrno(ESRCH));
}

TEST_F(PtraceTest, OthersProcessIsEperm) {
  Child child([] { pause(); });
  EXPECT_THAT(InChild([&] {
                setresuid(1000, 1000, 1000);
                EXPECT_THAT(ptrace(PTRACE_ATTACH, child.pid(), 0, 0), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

TEST(ProcessVmTest, ReadsAndWritesAnother) {
  SharedMapping shared;
  static char text[] = "original";
  Child child([&] {
    strcpy(text, "childs");
    shared[0] = 1;
    while (*static_cast<volatile char*>(text) != 'P') sched_yield();
  });
  ASSERT_TRUE(WaitUntil([&] { return shared[0] == 1; }));
  char copy[7] = {};
  iovec local = {copy, 6}, remote = {text, 6};
  EXPECT_THAT(process_vm_readv(child.pid(), &local, 1, &remote, 1, 0), SyscallSucceedsWithValue(6));
  EXPECT_STREQ(copy, "childs");
  copy[0] = 'P';
  EXPECT_THAT(process_vm_writev(child.pid(), &local, 1, &remote, 1, 0),
              SyscallSucceedsWithValue(6));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST(ProcessVmTest, PartialAndBadTransfers) {
  GuardedPage page;
  char copy[64];
  iovec local = {copy, 64}, remotes[] = {{page.At(16), 16}, {page.guard(), 16}};
  EXPECT_THAT(process_vm_readv(getpid(), &local, 1, remotes, 2, 0), SyscallSucceedsWithValue(16));
  EXPECT_THAT(process_vm_readv(getpid(), &local, 1, remotes + 1, 1, 0),
              SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(process_vm_readv(getpid(), &local, 1, remotes, 1, 1), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(process_vm_readv(1 << 22, &local, 1, remotes, 1, 0), SyscallFailsWithErrno(ESRCH));
}

}  // namespace
}  // namespace caisson::test
