// What a handler is given: siginfo of faults, registers, alternate stacks, FP and vector state.
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// A handler that checks what it was told about a fault and ends the process: 0 if all was right.
struct Expected {
  int code;
  void* address;
};
Expected g_expected;

void CheckFault(int, siginfo_t* info, void*) {
  if (info->si_code != g_expected.code) _exit(100 + (info->si_code & 63));
  _exit(info->si_addr == g_expected.address ? 0 : 2);
}

int Fault(int signal, int code, void* address, void (*fault)(void*)) {
  return InChild([=] {
    g_expected = {code, address};
    ScopedAction action(signal, CheckFault);
    fault(address);
    _exit(3);
  });
}

void Read(void* address) { *static_cast<volatile char*>(address); }
void Write(void* address) { *static_cast<volatile char*>(address) = 1; }

TEST(FaultTest, UnmappedAddressIsMaperr) {
  EXPECT_THAT(Fault(SIGSEGV, SEGV_MAPERR, reinterpret_cast<void*>(0x1234), Read), ExitsWith(0));
}

TEST(FaultTest, ForbiddenAccessIsAccerr) {
  Mapping memory(kPage, PROT_READ);
  EXPECT_THAT(Fault(SIGSEGV, SEGV_ACCERR, memory.get() + 100, Write), ExitsWith(0));
}

TEST(FaultTest, NonCanonicalAddressHasNoAddress) {
  EXPECT_THAT(InChild([] {
                g_expected = {SI_KERNEL, nullptr};
                ScopedAction action(SIGSEGV, CheckFault);
                Read(reinterpret_cast<void*>(0x8000000000001000));
              }),
              ExitsWith(0));
}

TEST(FaultTest, KernelAddressIsASegv) {
  EXPECT_THAT(InChild([] { Read(kKernelAddress); }), DiesOf(SIGSEGV));
}

TEST(FaultTest, PrivilegedInstructionIsASegv) {
  EXPECT_THAT(InChild([] { asm volatile("hlt"); }), DiesOf(SIGSEGV));
}

TEST(FaultTest, UndefinedInstructionIsIllWithItsAddress) {
  EXPECT_THAT(InChild([] {
                ScopedAction action(
                    SIGILL, +[](int, siginfo_t* info, void* context) {
                      auto* uc = static_cast<ucontext_t*>(context);
                      const bool same =
                          info->si_addr == reinterpret_cast<void*>(uc->uc_mcontext.gregs[REG_RIP]);
                      _exit(same && info->si_code == ILL_ILLOPN ? 0 : 1);
                    });
                asm volatile("ud2");
              }),
              ExitsWith(0));
}

TEST(FaultTest, DivisionByZeroIsFpe) {
  EXPECT_THAT(InChild([] {
                ScopedAction action(
                    SIGFPE, +[](int, siginfo_t* info, void*) {
                      _exit(info->si_code == FPE_INTDIV ? 0 : 1);
                    });
                asm volatile("xor %%edx, %%edx; xor %%ecx, %%ecx; mov $1, %%eax; div %%ecx" ::
                                 : "eax", "ecx", "edx");
              }),
              ExitsWith(0));
}

TEST(FaultTest, BreakpointIsATrapAndGoesOnBehindIt) {
  ScopedAction action(SIGTRAP, RecordInfo);
  g_deliveries = 0;
  asm volatile("int3");
  EXPECT_EQ(g_deliveries, 1);
  EXPECT_EQ(g_last_info.si_code, SI_KERNEL);
}

TEST(FaultTest, PageBehindAFilesEndIsBusAdrerr) {
  FILE* file = tmpfile();
  ASSERT_EQ(ftruncate(fileno(file), 10), 0);
  Mapping map(2 * kPage, PROT_READ, MAP_SHARED, fileno(file));
  EXPECT_THAT(Fault(SIGBUS, BUS_ADRERR, map.get() + kPage + 8, Read), ExitsWith(0));
  fclose(file);
}

TEST(FaultTest, BlockedFaultKillsDespiteItsHandler) {
  EXPECT_THAT(InChild([] {
                ScopedAction action(SIGSEGV, CountDelivery);
                Block({SIGSEGV});
                Read(reinterpret_cast<void*>(8));
              }),
              DiesOf(SIGSEGV));
}

TEST(FaultTest, HandlerMayRepairAndRetry) {
  static char* page;
  Mapping memory(kPage, PROT_NONE);
  page = memory.get();
  ScopedAction action(
      SIGSEGV, +[](int) { mprotect(page, kPage, PROT_READ | PROT_WRITE); });
  Write(page);
  EXPECT_EQ(page[0], 1);
}

TEST(FaultTest, HandlerMaySkipTheInstruction) {
  ScopedAction action(
      SIGILL, +[](int, siginfo_t*, void* context) {
        static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
      });
  asm volatile("ud2");
}

TEST(FrameTest, HandlerMayChangeRegisters) {
  ScopedAction action(
      SIGILL, +[](int, siginfo_t*, void* context) {
        auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
        registers[REG_RIP] += 2;
        registers[REG_RBX] = 0x1122334455667788;
      });
  uint64_t value = 0;
  asm volatile("ud2" : "=b"(value)::"memory");
  EXPECT_EQ(value, 0x1122334455667788u);
}

TEST(FrameTest, AllGeneralRegistersSurviveAHandler) {
  ScopedAction action(
      SIGILL, +[](int, siginfo_t*, void* context) {
        static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
        asm volatile(
            "mov $-1, %%rax; mov %%rax, %%rcx; mov %%rax, %%rdx; mov %%rax, %%r8;"
            "mov %%rax, %%r9; mov %%rax, %%r10; mov %%rax, %%r11" ::
                : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11");
      });
  uint64_t sum = 0;
  asm volatile(
      "mov $1, %%rax; mov $2, %%rcx; mov $4, %%rdx; mov $8, %%rsi; mov $16, %%rdi; mov $32, %%r8;"
      "mov $64, %%r9; mov $128, %%r10; mov $256, %%r11; mov $512, %%r12; ud2;"
      "add %%rcx, %%rax; add %%rdx, %%rax; add %%rsi, %%rax; add %%rdi, %%rax; add %%r8, %%rax;"
      "add %%r9, %%rax; add %%r10, %%rax; add %%r11, %%rax; add %%r12, %%rax"
      : "=a"(sum)::"rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "memory");
  EXPECT_EQ(sum, 1023u);
}

// As often as it takes until a sandbox takes a shorter way back from a handler.
TEST(FrameTest, FrequentHandlersChangeNothingButWhatTheyMean) {
  static uint64_t wanted;
  ScopedAction action(
      SIGILL, +[](int, siginfo_t*, void* context) {
        auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
        registers[REG_RIP] += 2;
        registers[REG_RCX] += wanted;
        registers[REG_R11] -= wanted;
        registers[REG_EFL] ^= 0x801;  // OF and CF.
      });
  for (uint64_t i = 1; i <= 300; ++i) {
    wanted = i;
    uint64_t rcx = 7 * i, r11 = 9 * i, flags, red;
    asm volatile(
        "movq $77, -128(%%rsp)\n\tmov %3, %%r11\n\txor %%eax, %%eax\n\tud2\n\t"
        "mov %%r11, %3\n\tmov -128(%%rsp), %2\n\t"
        "lea -256(%%rsp), %%rsp\n\tpushfq\n\tpop %1\n\tlea 256(%%rsp), %%rsp"
        : "+c"(rcx), "=&d"(flags), "=&S"(red), "+D"(r11)
        :
        : "rax", "r11", "memory", "cc");
    ASSERT_EQ(rcx, 8 * i);
    ASSERT_EQ(r11, 8 * i);
    ASSERT_EQ(flags & 0x8d5, 0x845u);
    ASSERT_EQ(red, 77u);
  }
}

TEST(FrameTest, FrequentHandlersMayStepThroughTheCode) {
  static uint64_t steps;
  ScopedAction begin(
      SIGILL, +[](int, siginfo_t*, void* context) {
        auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
        registers[REG_RIP] += 2;
        registers[REG_EFL] |= 0x100;
      });
  ScopedAction step(
      SIGTRAP, +[](int, siginfo_t*, void* context) {
        // Three instructions of one byte, and no more.
        if (++steps % 3 == 0) static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~0x100;
      });
  for (uint64_t i = 1; i <= 100; ++i) {
    asm volatile("ud2\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop" ::: "memory");
    ASSERT_EQ(steps, 3 * i);
  }
}

TEST(FrameTest, RedZoneIsNotTouched) {
  ScopedAction action(
      SIGILL, +[](int, siginfo_t*, void* context) {
        static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
      });
  uint64_t value;
  asm volatile("movq $77, -128(%%rsp); ud2; movq -128(%%rsp), %0" : "=r"(value)::"memory");
  EXPECT_EQ(value, 77u);
}

TEST(FrameTest, SseRegistersSurviveAHandler) {
  ScopedAction action(
      SIGILL, +[](int, siginfo_t*, void* context) {
        static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
        asm volatile("pcmpeqb %%xmm7, %%xmm7; pcmpeqb %%xmm15, %%xmm15" ::: "xmm7", "xmm15");
      });
  uint64_t in = 0x0123456789abcdef, low = 0, high = 0;
  asm volatile("movq %2, %%xmm7; movq %2, %%xmm15; ud2; movq %%xmm7, %0; movq %%xmm15, %1"
               : "=&r"(low), "=&r"(high)
               : "r"(in)
               : "xmm7", "xmm15", "memory");
  EXPECT_EQ(low, in);
  EXPECT_EQ(high, in);
}

__attribute__((target("avx2"))) void AvxRoundTrip(const uint64_t* in, uint64_t* out) {
  asm volatile("vmovdqu (%0), %%ymm9; ud2; vmovdqu %%ymm9, (%1)" ::"r"(in), "r"(out)
               : "xmm9", "memory");
}

TEST(FrameTest, AvxRegistersSurviveAHandler) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "no AVX2";
  ScopedAction action(
      SIGILL, +[](int, siginfo_t*, void* context) {
        static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
        asm volatile("vzeroall" ::: "memory");
      });
  const uint64_t in[4] = {1, 2, 3, 4};
  uint64_t out[4] = {};
  AvxRoundTrip(in, out);
  EXPECT_EQ(out[0], 1u);
  EXPECT_EQ(out[3], 4u);
}

// Raises SIGUSR1 by a call site that is used often, with `in` in ymm9 and `out` what is there then.
__attribute__((target("avx2"), noinline)) void RaiseWithYmm9(const uint64_t* in, uint64_t* out) {
  long result = SYS_tgkill;
  asm volatile(
      "vmovdqu (%[in]), %%ymm9\n\t"
      "mov $234, %%eax\n\t"
      "syscall\n\t"
      "vmovdqu %%ymm9, (%[out])\n\t"
      : "+a"(result)
      : "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGUSR1), [in] "r"(in), [out] "r"(out)
      : "rcx", "r11", "xmm9", "memory");
  ASSERT_EQ(result, 0);
}

struct {
  int depth = 0, runs = 0;
  bool change = false, nested_kept = true;
} g_raised;

__attribute__((target("avx2"))) void ClobberYmm9(int, siginfo_t*, void* context) {
  ++g_raised.runs;
  asm volatile("vpcmpeqd %%ymm9, %%ymm9, %%ymm9" ::: "xmm9");
  if (g_raised.depth++ == 0) {
    const uint64_t in[4] = {5, 6, 7, static_cast<uint64_t>(g_raised.runs)};
    uint64_t out[4] = {};
    RaiseWithYmm9(in, out);
    if (memcmp(in, out, sizeof(in)) != 0) g_raised.nested_kept = false;
  }
  --g_raised.depth;
  if (g_raised.change && g_raised.depth == 0)
    static_cast<ucontext_t*>(context)->uc_mcontext.fpregs->_xmm[9].element[0] = 4711;
}

TEST(FrameTest, AvxRegistersSurviveHandlersInFrequentCalls) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "no AVX2";
  struct sigaction action {}, old{};
  action.sa_sigaction = ClobberYmm9;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old), 0);
  for (uint64_t i = 1; i <= 300; ++i) {
    const uint64_t in[4] = {i, 2 * i, 3 * i, 4 * i};
    uint64_t out[4] = {};
    g_raised.change = i % 3 == 0;
    RaiseWithYmm9(in, out);
    uint64_t want[4];
    memcpy(want, in, sizeof(want));
    if (g_raised.change) want[0] = 4711 | (in[0] >> 32 << 32);
    ASSERT_EQ(memcmp(out, want, sizeof(out)), 0) << i;
  }
  EXPECT_EQ(g_raised.runs, 600);
  EXPECT_TRUE(g_raised.nested_kept);
  sigaction(SIGUSR1, &old, nullptr);
}

TEST(FrameTest, ControlWordsSurviveAHandlerThatStartsWithDefaults) {
  static uint32_t in_handler;
  ScopedAction action(
      SIGUSR1, +[](int) { asm volatile("stmxcsr %0"
                                       : "=m"(in_handler)); });
  uint32_t before, changed, after;
  asm volatile("stmxcsr %0" : "=m"(before));
  changed = before | 0x6000;  // Round towards zero.
  asm volatile("ldmxcsr %0" ::"m"(changed));
  raise(SIGUSR1);
  asm volatile("stmxcsr %0" : "=m"(after));
  asm volatile("ldmxcsr %0" ::"m"(before));
  EXPECT_EQ(after & 0x6000, 0x6000u);
  EXPECT_EQ(in_handler, 0x1f80u);
}

TEST(AltstackTest, HandlerRunsOnIt) {
  static uintptr_t where;
  Mapping stack(64 * 1024);
  stack_t alternate = {}, old;
  alternate.ss_sp = stack.get();
  alternate.ss_size = stack.size();
  ASSERT_THAT(sigaltstack(&alternate, &old), SyscallSucceeds());
  ScopedAction action(
      SIGUSR1, +[](int) { where = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)); },
      SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_GE(where, reinterpret_cast<uintptr_t>(stack.get()));
  EXPECT_LT(where, reinterpret_cast<uintptr_t>(stack.get()) + stack.size());
  ASSERT_THAT(sigaltstack(&old, nullptr), SyscallSucceeds());
}

TEST(AltstackTest, CannotBeChangedWhileInUse) {
  static int result, error;
  Mapping stack(64 * 1024);
  stack_t alternate = {}, old;
  alternate.ss_sp = stack.get();
  alternate.ss_size = stack.size();
  ASSERT_THAT(sigaltstack(&alternate, &old), SyscallSucceeds());
  ScopedAction action(
      SIGUSR1,
      +[](int) {
        stack_t off = {};
        off.ss_flags = SS_DISABLE;
        result = sigaltstack(&off, nullptr);
        error = errno;
      },
      SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_EQ(result, -1);
  EXPECT_EQ(error, EPERM);
  ASSERT_THAT(sigaltstack(&old, nullptr), SyscallSucceeds());
}

TEST(AltstackTest, TooSmallIsEnomemAndUnknownFlagInvalid) {
  char small[512];
  stack_t alternate = {};
  alternate.ss_sp = small;
  alternate.ss_size = sizeof(small);
  EXPECT_THAT(sigaltstack(&alternate, nullptr), SyscallFailsWithErrno(ENOMEM));
  alternate.ss_flags = 0x40;
  EXPECT_THAT(sigaltstack(&alternate, nullptr), SyscallFailsWithErrno(EINVAL));
}

TEST(AltstackTest, CatchesAStackOverflow) {
  EXPECT_THAT(InChild([] {
                Mapping stack(64 * 1024);
                stack_t alternate = {};
                alternate.ss_sp = stack.get();
                alternate.ss_size = stack.size();
                sigaltstack(&alternate, nullptr);
                ScopedAction action(
                    SIGSEGV, +[](int) { _exit(55); }, SA_ONSTACK);
                struct Recursion {
                  static int Run(int depth) {
                    volatile char block[4096];
                    block[0] = static_cast<char>(depth);
                    return depth > 1000000 ? 0 : Run(depth + 1) + block[0];
                  }
                };
                _exit(Recursion::Run(0) == 0);
              }),
              ExitsWith(55));
}

TEST(FrameTest, UnusableStackKills) {
  EXPECT_THAT(InChild([] {
                ScopedAction action(SIGUSR1, CountDelivery);
                asm volatile(
                    "xor %%esp, %%esp\n mov $39, %%eax\n syscall\n mov %%eax, %%edi\n"
                    "mov $10, %%esi\n mov $62, %%eax\n syscall\n ud2" ::
                        : "rax", "rdi", "rsi", "rcx", "r11", "memory");
              }),
              DiesOf(SIGSEGV));
}

}  // namespace
}  // namespace caisson::test
