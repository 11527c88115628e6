// ptrace(2) of code whose calls are made often: what a platform does to make those fast is not seen.
#include <signal.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdint>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/ptrace_util.h"

#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif

// long HotCalls(long times): that many getppid(2); in rbx the sum of what came wrong.
extern "C" long HotCalls(long times);
extern "C" char hot_begin[], hot_site[], hot_call[], hot_after[], hot_next[], hot_end[];
asm(R"(
.text
.global HotCalls, hot_begin, hot_site, hot_call, hot_after, hot_next, hot_end
HotCalls:
  push %rbx
  push %r12
  mov %rdi, %r12
  xor %ebx, %ebx
hot_begin:
  mov $0x1234567, %edx
  mov $0x7654321, %r9
hot_site:
  mov $110, %eax
hot_call:
  syscall
hot_after:
  cmp $0x1234567, %rdx
  jne 1f
  cmp $0x7654321, %r9
  je 2f
1:
  inc %rbx
2:
  dec %r12
  jnz hot_begin
hot_next:
  mov %rbx, %rax
  pop %r12
  pop %rbx
  ret
hot_end:
)");

namespace caisson::test {
namespace {

uint64_t Address(const char* label) { return reinterpret_cast<uint64_t>(label); }

class PtraceCodeTest : public PtraceFixture {
 protected:
  // Makes the site hot, says so and then calls for ever.
  pid_t RunHot() {
    counter_ = reinterpret_cast<volatile long*>(page_.get());
    const pid_t pid = Run([this] {
      for (;;) {
        if (HotCalls(500) != 0) _exit(1);
        *counter_ = *counter_ + 1;
      }
    });
    EXPECT_TRUE(WaitUntil([&] { return *counter_ > 10; }));
    return pid;
  }
  void Interrupt(pid_t pid) {
    ASSERT_THAT(ptrace(PTRACE_INTERRUPT, pid, 0, 0), SyscallSucceeds());
    const int status = WaitStop();
    ASSERT_EQ(status >> 8, EventStop(PTRACE_EVENT_STOP));
  }
  SharedMapping page_;
  volatile long* counter_ = nullptr;
};

TEST_F(PtraceCodeTest, CallStopsShowTheCallersRegisters) {
  const pid_t pid = RunHot();
  ASSERT_THAT(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD), SyscallSucceeds());
  Interrupt(pid);
  bool entry = true;
  for (int i = 0; i < 40; i++, entry = !entry) {
    ASSERT_EQ(Go(PTRACE_SYSCALL) >> 8, SIGTRAP | 0x80);
    const user_regs_struct r = Registers();
    if (i == 0) entry = r.rax == static_cast<unsigned long>(-ENOSYS);
    EXPECT_EQ(r.rip, Address(hot_after));
    EXPECT_EQ(r.orig_rax, static_cast<unsigned long>(SYS_getppid));
    EXPECT_EQ(r.rax, static_cast<unsigned long>(entry ? -ENOSYS : getpid()));
    EXPECT_EQ(r.rcx, r.rip);
    EXPECT_EQ(r.r11, r.eflags);
    EXPECT_EQ(r.rdx, 0x1234567u);
    EXPECT_EQ(r.r9, 0x7654321u);
    EXPECT_EQ(r.gs_base, 0u);
    EXPECT_EQ(ptrace(PTRACE_PEEKTEXT, pid, hot_call, 0) & 0xffff, 0x050f);
    EXPECT_EQ(ptrace(PTRACE_PEEKTEXT, pid, hot_site, 0) & 0xffffffffff, 0x6eb8);
  }
}

TEST_F(PtraceCodeTest, StepsAreTheProgramsInstructions) {
  const pid_t pid = RunHot();
  ASSERT_THAT(ptrace(PTRACE_SEIZE, pid, 0, 0), SyscallSucceeds());
  Interrupt(pid);
  int sites = 0, calls = 0;
  uint64_t last = 0;
  for (int i = 0; i < 400; i++) {
    ASSERT_EQ(Go(PTRACE_SINGLESTEP) >> 8, SIGTRAP);
    const user_regs_struct r = Registers();
    if (r.rip < Address(hot_begin) || r.rip >= Address(hot_next)) {
      last = 0;
      continue;
    }
    if (last == Address(hot_site)) {
      EXPECT_EQ(r.rip, Address(hot_call));
      EXPECT_EQ(r.rax, 110u);
      sites++;
    }
    if (last == Address(hot_call)) {
      EXPECT_EQ(r.rip, Address(hot_after));
      EXPECT_EQ(r.rax, static_cast<unsigned long>(getpid()));
      calls++;
    }
    last = r.rip;
  }
  EXPECT_GT(sites, 20);
  EXPECT_GT(calls, 20);
  EXPECT_THAT(ptrace(PTRACE_DETACH, pid, 0, 0), SyscallSucceeds());
  const long before = *counter_;
  EXPECT_TRUE(WaitUntil([&] { return *counter_ > before + 5; }));
}

TEST_F(PtraceCodeTest, BreakpointsOnACallHit) {
  const pid_t pid = RunHot();
  ASSERT_THAT(ptrace(PTRACE_SEIZE, pid, 0, 0), SyscallSucceeds());
  Interrupt(pid);
  for (const char* at : {hot_site, hot_call, hot_after}) {
    const long word = ptrace(PTRACE_PEEKTEXT, pid, at, 0);
    ASSERT_THAT(ptrace(PTRACE_POKETEXT, pid, at, (word & ~0xffL) | 0xcc), SyscallSucceeds());
    for (int i = 0; i < 30; i++) {
      ASSERT_EQ(Go() >> 8, SIGTRAP);
      user_regs_struct r = Registers();
      ASSERT_EQ(r.rip, Address(at) + 1);
      // Over it: as gdb does.
      ASSERT_THAT(ptrace(PTRACE_POKETEXT, pid, at, word), SyscallSucceeds());
      r.rip--;
      ASSERT_THAT(ptrace(PTRACE_SETREGS, pid, 0, &r), SyscallSucceeds());
      ASSERT_EQ(Go(PTRACE_SINGLESTEP) >> 8, SIGTRAP);
      ASSERT_THAT(ptrace(PTRACE_POKETEXT, pid, at, (word & ~0xffL) | 0xcc), SyscallSucceeds());
    }
    ASSERT_THAT(ptrace(PTRACE_POKETEXT, pid, at, word), SyscallSucceeds());
  }
  EXPECT_THAT(ptrace(PTRACE_DETACH, pid, 0, 0), SyscallSucceeds());
  const long before = *counter_;
  EXPECT_TRUE(WaitUntil([&] { return *counter_ > before + 5; }));
}

TEST_F(PtraceCodeTest, IdsAreAskedOfTheKernel) {
  const pid_t pid = Run([&] {
    for (;;)
      if (syscall(SYS_getpid) <= 0 || getpid() <= 0) _exit(1);
  });
  usleep(50'000);
  ASSERT_THAT(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD), SyscallSucceeds());
  Interrupt(pid);
  for (int i = 0; i < 20; i++) {
    ASSERT_EQ(Go(PTRACE_SYSCALL) >> 8, SIGTRAP | 0x80);
    user_regs_struct r = Registers();
    EXPECT_EQ(r.orig_rax, static_cast<unsigned long>(SYS_getpid));
    if (r.rax == static_cast<unsigned long>(-ENOSYS)) continue;
    r.rax = 7777;
    ASSERT_THAT(ptrace(PTRACE_SETREGS, pid, 0, &r), SyscallSucceeds());
  }
  // One that is told nonsense notices: the value arrives.
  ASSERT_EQ(Go(PTRACE_SYSCALL) >> 8, SIGTRAP | 0x80);
  user_regs_struct r = Registers();
  if (r.rax == static_cast<unsigned long>(-ENOSYS)) {
    ASSERT_EQ(Go(PTRACE_SYSCALL) >> 8, SIGTRAP | 0x80);
    r = Registers();
  }
  r.rax = -1;
  ASSERT_THAT(ptrace(PTRACE_SETREGS, pid, 0, &r), SyscallSucceeds());
  EXPECT_THAT(Go(), ExitsWith(1));
}

// Wherever it is found, it is in its own code and nothing is lost.
TEST_F(PtraceCodeTest, AttachAndDetachAtRandom) {
  const pid_t pid = RunHot();
  for (int i = 0; i < 100; i++) {
    ASSERT_THAT(ptrace(PTRACE_SEIZE, pid, 0, 0), SyscallSucceeds());
    Interrupt(pid);
    const user_regs_struct r = Registers();
    // The library's part of the loop is in the same program.
    EXPECT_LT(std::max<uint64_t>(r.rip, Address(hot_site)) - std::min<uint64_t>(r.rip, Address(hot_site)), 16u << 20);
    EXPECT_EQ(r.gs_base, 0u);
    ASSERT_THAT(ptrace(PTRACE_DETACH, pid, 0, 0), SyscallSucceeds());
    for (int spin = 0; spin < i; spin++) sched_yield();
  }
  const long before = *counter_;
  EXPECT_TRUE(WaitUntil([&] { return *counter_ > before + 5; }));
}

}  // namespace
}  // namespace caisson::test
