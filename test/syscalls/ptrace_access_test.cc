// ptrace(2): who may trace whom, namespaces, and what requests say of a stopped tracee.
#include <elf.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <linux/ptrace.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// <sys/ptrace.h> and <linux/ptrace.h> do not go together.
long Ptrace(long request, long pid, const void* addr = nullptr, const void* data = nullptr) {
  return syscall(SYS_ptrace, request, pid, addr, data);
}
const void* Number(long value) { return reinterpret_cast<const void*>(value); }

class PtraceAccessTest : public testing::Test {
 protected:
  // Stops it, and waits until it has.
  void Seize(pid_t pid) {
    ASSERT_THAT(Ptrace(PTRACE_SEIZE, pid), SyscallSucceeds());
    ASSERT_THAT(Ptrace(PTRACE_INTERRUPT, pid), SyscallSucceeds());
    int status = 0;
    ASSERT_THAT(waitpid(pid, &status, __WALL), SyscallSucceedsWithValue(pid));
    ASSERT_TRUE(WIFSTOPPED(status));
  }
};

TEST_F(PtraceAccessTest, TracemeNeedsAParentWithAllRights) {
  EXPECT_THAT(InChild([] {
    int ends[2];
    ASSERT_THAT(pipe(ends), SyscallSucceeds());
    const pid_t child = fork();
    if (child == 0) {
      char byte;
      read(ends[0], &byte, 1);  // Its parent is nobody special by now; it is root.
      _exit(Ptrace(PTRACE_TRACEME, 0) == 0 ? 1 : errno);
    }
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    ASSERT_THAT(write(ends[1], "x", 1), SyscallSucceedsWithValue(1));
    int status = 0;
    ASSERT_THAT(waitpid(child, &status, 0), SyscallSucceedsWithValue(child));
    EXPECT_THAT(status, ExitsWith(EPERM));
  }), ExitsWith(0));
}

TEST_F(PtraceAccessTest, UndumpableIsForThePrivileged) {
  SharedMapping page;
  auto* words = reinterpret_cast<volatile int*>(page.get());
  EXPECT_THAT(InChild([&] {
    ASSERT_THAT(setresgid(1000, 1000, 1000), SyscallSucceeds());
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    Child target([&] {
      prctl(PR_SET_DUMPABLE, 0);
      words[0] = 1;
      while (words[0] == 1) sched_yield();
      prctl(PR_SET_DUMPABLE, 1);
      words[0] = 3;
      pause();
    });
    ASSERT_TRUE(WaitUntil([&] { return words[0] == 1; }));
    EXPECT_THAT(Ptrace(PTRACE_SEIZE, target.pid()), SyscallFailsWithErrno(EPERM));
    words[0] = 2;
    ASSERT_TRUE(WaitUntil([&] { return words[0] == 3; }));
    EXPECT_THAT(Ptrace(PTRACE_SEIZE, target.pid()), SyscallSucceeds());
  }), ExitsWith(0));
}

TEST_F(PtraceAccessTest, OwnThreadsAndOneselfAreEperm) {
  ScopedThread thread([] { usleep(100'000); });
  EXPECT_THAT(Ptrace(PTRACE_ATTACH, thread.tid()), SyscallFailsWithErrno(EPERM));
  EXPECT_THAT(Ptrace(PTRACE_SEIZE, getpid()), SyscallFailsWithErrno(EPERM));
  EXPECT_THAT(Ptrace(PTRACE_SEIZE, 1 << 22), SyscallFailsWithErrno(ESRCH));
}

TEST_F(PtraceAccessTest, RequestsAreTheTracingThreadsAlone) {
  Child child([] {
    for (;;) pause();
  });
  Seize(child.pid());
  ScopedThread other([&] {
    unsigned long message;
    EXPECT_THAT(Ptrace(PTRACE_GETEVENTMSG, child.pid(), nullptr, &message), SyscallFailsWithErrno(ESRCH));
    EXPECT_THAT(Ptrace(PTRACE_CONT, child.pid()), SyscallFailsWithErrno(ESRCH));
    int status;
    EXPECT_THAT(waitpid(child.pid(), &status, __WALL | __WNOTHREAD | WNOHANG), SyscallFailsWithErrno(ECHILD));
  });
  other.Join();
  EXPECT_THAT(Ptrace(PTRACE_CONT, child.pid()), SyscallSucceeds());
}

TEST_F(PtraceAccessTest, SeizeChecksItsOptions) {
  Child child([] {
    for (;;) pause();
  });
  EXPECT_THAT(Ptrace(PTRACE_SEIZE, child.pid(), Number(1)), SyscallFailsWithErrno(EIO));
  EXPECT_THAT(Ptrace(PTRACE_SEIZE, child.pid(), nullptr, Number(1L << 30)), SyscallFailsWithErrno(EIO));
  EXPECT_THAT(Ptrace(PTRACE_INTERRUPT, child.pid()), SyscallFailsWithErrno(ESRCH));
  Seize(child.pid());
  EXPECT_THAT(Ptrace(PTRACE_SETOPTIONS, child.pid(), nullptr, Number(1L << 30)), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(Ptrace(PTRACE_CONT, child.pid(), nullptr, Number(65)), SyscallFailsWithErrno(EIO));
  EXPECT_THAT(Ptrace(PTRACE_CONT, child.pid()), SyscallSucceeds());
}

// The init of an inner namespace is traced from outside, by its number there; SIGSTOP and SIGKILL of
// the tracer's reach it.
TEST_F(PtraceAccessTest, InitOfAnInnerNamespace) {
  EXPECT_THAT(InChild([&] {
    ASSERT_THAT(unshare(CLONE_NEWPID), SyscallSucceeds());
    const pid_t init = fork();
    if (init == 0) {
      for (;;) {
        usleep(1000);
        const pid_t child = fork();
        if (child == 0) _exit(0);
        waitpid(child, nullptr, 0);
      }
    }
    ASSERT_THAT(Ptrace(PTRACE_ATTACH, init), SyscallSucceeds());
    int status = 0;
    ASSERT_THAT(waitpid(init, &status, __WALL), SyscallSucceedsWithValue(init));
    EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
    ASSERT_THAT(Ptrace(PTRACE_SETOPTIONS, init, nullptr, Number(PTRACE_O_TRACEFORK)), SyscallSucceeds());
    do {
      ASSERT_THAT(Ptrace(PTRACE_CONT, init), SyscallSucceeds());
      ASSERT_THAT(waitpid(init, &status, __WALL), SyscallSucceedsWithValue(init));
    } while (status >> 8 == SIGCHLD);
    EXPECT_EQ(status >> 8, SIGTRAP | PTRACE_EVENT_FORK << 8);
    unsigned long child = 0;
    ASSERT_THAT(Ptrace(PTRACE_GETEVENTMSG, init, nullptr, &child), SyscallSucceeds());
    EXPECT_GT(child, static_cast<unsigned long>(init));
    ASSERT_THAT(waitpid(static_cast<pid_t>(child), &status, __WALL), SyscallSucceedsWithValue(static_cast<pid_t>(child)));
    ASSERT_THAT(Ptrace(PTRACE_DETACH, static_cast<long>(child)), SyscallSucceeds());
    ASSERT_THAT(kill(init, SIGKILL), SyscallSucceeds());
    ASSERT_THAT(waitpid(init, &status, __WALL), SyscallSucceedsWithValue(init));
    EXPECT_THAT(status, DiesOf(SIGKILL));
  }), ExitsWith(0));
}

TEST_F(PtraceAccessTest, SyscallInfoTellsTheStop) {
  SharedMapping page;
  volatile char* running = page.get();
  Child child([&] {
    for (*running = 1;;) syscall(SYS_getpgid, 0, 2, 3, 4, 5, 6);
  });
  ASSERT_TRUE(WaitUntil([&] { return *running == 1; }));
  Seize(child.pid());
  ptrace_syscall_info info = {};
  EXPECT_THAT(Ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), Number(sizeof(info)), &info), SyscallSucceedsWithValue(24));
  EXPECT_EQ(info.op, PTRACE_SYSCALL_INFO_NONE);
  EXPECT_THAT(Ptrace(PTRACE_SETOPTIONS, child.pid(), nullptr, Number(PTRACE_O_TRACESYSGOOD)), SyscallSucceeds());
  bool entered = false, left = false;
  for (int i = 0; i < 6; i++) {
    ASSERT_THAT(Ptrace(PTRACE_SYSCALL, child.pid()), SyscallSucceeds());
    int status = 0;
    ASSERT_THAT(waitpid(child.pid(), &status, __WALL), SyscallSucceedsWithValue(child.pid()));
    ASSERT_EQ(status >> 8, SIGTRAP | 0x80);
    const long size = Ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), Number(sizeof(info)), &info);
    EXPECT_EQ(info.arch, 0xc000003eu);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
      entered = true;
      EXPECT_EQ(size, 80);
      EXPECT_EQ(info.entry.nr, static_cast<uint64_t>(SYS_getpgid));
      EXPECT_EQ(info.entry.args[1], 2u);
      EXPECT_EQ(info.entry.args[5], 6u);
    } else if (entered) {
      left = true;
      EXPECT_EQ(info.op, PTRACE_SYSCALL_INFO_EXIT);
      EXPECT_EQ(size, 33);
      EXPECT_EQ(info.exit.rval, getpgrp());
      EXPECT_EQ(info.exit.is_error, 0);
    }
  }
  EXPECT_TRUE(left);
}

TEST_F(PtraceAccessTest, ExtendedStateCanBeSet) {
  SharedMapping page;
  auto* words = reinterpret_cast<volatile uint64_t*>(page.get());
  Child child([&] {
    asm volatile(
        "mov $0x1111, %%eax\n movq %%rax, %%xmm7\n"
        "1: movq %%xmm7, %%rax\n mov %%rax, (%0)\n pause\n cmpq $0, 8(%0)\n je 1b\n"
        : : "r"(words) : "rax", "xmm7", "memory");
    _exit(0);
  });
  ASSERT_TRUE(WaitUntil([&] { return words[0] == 0x1111; }));
  Seize(child.pid());
  std::string state(16384, 0);
  iovec iov = {state.data(), state.size()};
  ASSERT_THAT(Ptrace(PTRACE_GETREGSET, child.pid(), Number(NT_X86_XSTATE), &iov), SyscallSucceeds());
  ASSERT_GT(iov.iov_len, 576u);
  uint64_t value = 0;
  constexpr size_t kXmm7 = 160 + 7 * 16;
  memcpy(&value, state.data() + kXmm7, 8);
  EXPECT_EQ(value, 0x1111u);
  value = 0x2222;
  memcpy(state.data() + kXmm7, &value, 8);
  ASSERT_THAT(Ptrace(PTRACE_SETREGSET, child.pid(), Number(NT_X86_XSTATE), &iov), SyscallSucceeds());
  ASSERT_THAT(Ptrace(PTRACE_DETACH, child.pid()), SyscallSucceeds());
  EXPECT_TRUE(WaitUntil([&] { return words[0] == 0x2222; }));
  words[1] = 1;
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(PtraceAccessTest, SignalMaskAndInfo) {
  Child child([] {
    for (;;) pause();
  });
  Seize(child.pid());
  uint64_t mask = 0;
  EXPECT_THAT(Ptrace(PTRACE_GETSIGMASK, child.pid(), Number(4), &mask), SyscallFailsWithErrno(EINVAL));
  mask = uint64_t{1} << (SIGTERM - 1) | uint64_t{1} << (SIGKILL - 1);
  ASSERT_THAT(Ptrace(PTRACE_SETSIGMASK, child.pid(), Number(8), &mask), SyscallSucceeds());
  ASSERT_THAT(Ptrace(PTRACE_GETSIGMASK, child.pid(), Number(8), &mask), SyscallSucceeds());
  EXPECT_EQ(mask, uint64_t{1} << (SIGTERM - 1));
  ASSERT_THAT(Ptrace(PTRACE_CONT, child.pid()), SyscallSucceeds());
  child.Kill(SIGTERM);  // Blocked now.
  child.Kill(SIGUSR1);
  int status = 0;
  ASSERT_THAT(waitpid(child.pid(), &status, __WALL), SyscallSucceedsWithValue(child.pid()));
  EXPECT_EQ(status >> 8, SIGUSR1);
  siginfo_t info = {};
  ASSERT_THAT(Ptrace(PTRACE_GETSIGINFO, child.pid(), nullptr, &info), SyscallSucceeds());
  EXPECT_EQ(info.si_pid, getpid());
  EXPECT_EQ(Ptrace(PTRACE_PEEKUSR, child.pid(), Number(static_cast<long>(offsetof(user, u_debugreg) + 7 * 8)), &mask), 0);
  EXPECT_EQ(mask & 0xff, 0u);
}

}  // namespace
}  // namespace caisson::test
