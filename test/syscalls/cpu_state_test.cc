// Processor state across calls and signals, odd ways into the kernel, and tables that are full.
#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <immintrin.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

constexpr int kOften = 300;  // A call site that is used so often may be handled in another way.

// One call site, with a register that the caller has filled and gets back.
#define CALL_OFTEN(...)                        \
  for (int call = 0; call < kOften; ++call) { \
    __VA_ARGS__                                \
  }

__attribute__((target("avx512f"))) void FillZmm(const uint64_t* from) {
  asm volatile("vmovdqu64 (%0), %%zmm5\n vmovdqu64 64(%0), %%zmm31\n kmovw %1, %%k3" ::"r"(from),
               "r"(0x5aa5) : "xmm5");
}
__attribute__((target("avx512f"))) bool ZmmIs(const uint64_t* wanted) {
  uint64_t now[16];
  int mask;
  asm volatile("vmovdqu64 %%zmm5, (%1)\n vmovdqu64 %%zmm31, 64(%1)\n kmovw %%k3, %0"
               : "=r"(mask) : "r"(now) : "memory");
  return mask == 0x5aa5 && memcmp(now, wanted, sizeof(now)) == 0;
}

class Avx512Test : public testing::Test {
 protected:
  void SetUp() override {
    if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "no AVX-512";
    for (int i = 0; i < 16; ++i) {
      values_[i] = 0x0123456789abcdef * static_cast<uint64_t>(i + 1);
      others_[i] = ~values_[i];
    }
  }
  alignas(64) static inline uint64_t values_[16], others_[16];
};

TEST_F(Avx512Test, SurvivesCalls) {
  int wrong = 0;
  CALL_OFTEN({
    long result = SYS_getppid;
    FillZmm(values_);
    asm volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
    wrong += !ZmmIs(values_);
  })
  EXPECT_EQ(wrong, 0);
}

TEST_F(Avx512Test, SurvivesAHandlerThatChangesIt) {
  ScopedAction action(SIGUSR1, +[](int) { FillZmm(others_); });
  int wrong = 0;
  const long pid = getpid(), tid = gettid();
  CALL_OFTEN({
    long result = SYS_tgkill;
    FillZmm(values_);
    asm volatile("syscall" : "+a"(result) : "D"(pid), "S"(tid), "d"(SIGUSR1)
                 : "rcx", "r11", "memory");
    wrong += result != 0 || !ZmmIs(values_);
  })
  EXPECT_EQ(wrong, 0);
}

// At any instruction, not at a call.
TEST_F(Avx512Test, SurvivesAHandlerOfATimer) {
  static volatile int handled;
  handled = 0;
  ScopedAction action(SIGALRM, +[](int) {
    FillZmm(others_);
    handled = handled + 1;
  });
  itimerval timer = {{0, 2000}, {0, 2000}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &timer, nullptr), 0);
  FillZmm(values_);
  bool same = true;
  while (same && handled < 20) same = ZmmIs(values_);
  timer = {};
  setitimer(ITIMER_REAL, &timer, nullptr);
  EXPECT_TRUE(same);
}

// A stack at every distance from 64 bytes: calls, a handler on it, and what lies below the pointer.
TEST(StackTest, MisalignedStacksWorkInCallsAndHandlers) {
  alignas(64) static char stack[32768];
  static uintptr_t seen;
  ScopedAction action(SIGUSR2, +[](int) { seen = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)); });
  const long pid = getpid(), tid = gettid();
  int wrong = 0;
  for (int off = 1; off <= 130; ++off) {
    char* top = stack + sizeof(stack) - 512 - off;
    memset(top - 128, off, 128);  // The red zone.
    seen = 0;
    long result = SYS_tgkill;
    asm volatile("mov %%rsp, %%r12\n mov %1, %%rsp\n syscall\n mov %%r12, %%rsp"
                 : "+a"(result) : "r"(top), "D"(pid), "S"(tid), "d"(SIGUSR2)
                 : "rcx", "r11", "r12", "memory");
    const bool zone = std::all_of(top - 128, top, [off](char c) { return c == static_cast<char>(off); });
    const bool on_it = seen > reinterpret_cast<uintptr_t>(stack) &&
                       seen < reinterpret_cast<uintptr_t>(top);
    wrong += result != 0 || !zone || !on_it;
  }
  EXPECT_EQ(wrong, 0);
}

// The guest's own gs base, set by arch_prctl and by the instruction, survives calls and handlers.
TEST(GsTest, IsTheGuestsOwn) {
  alignas(64) static uint64_t block[8] = {0x1111, 0x2222};
  uint64_t before = 1;
  ASSERT_EQ(syscall(SYS_arch_prctl, ARCH_GET_GS, &before), 0);
  EXPECT_EQ(before, 0u);
  ScopedAction action(SIGUSR1, +[](int) {});
  int wrong = 0;
  ASSERT_EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, block), 0);
  CALL_OFTEN({
    uint64_t value = 0;
    const long result = call % 3 == 0 ? raise(SIGUSR1) : getppid() < 0;
    asm volatile("mov %%gs:8, %0" : "=r"(value) : : "memory");
    wrong += result != 0 || value != 0x2222;
  })
  uint64_t now = 0;
  syscall(SYS_arch_prctl, ARCH_GET_GS, &now);
  EXPECT_EQ(now, reinterpret_cast<uint64_t>(block));
  ASSERT_EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, 0), 0);
  EXPECT_EQ(wrong, 0);
}

TEST(TscTest, IsAllowedAndGrows) {
  int mode = 0;
  ASSERT_THAT(prctl(PR_GET_TSC, &mode), SyscallSucceeds());
  EXPECT_EQ(mode, PR_TSC_ENABLE);
  uint64_t last = __rdtsc();
  CALL_OFTEN({
    getppid();
    _mm_lfence();
    const uint64_t now = __rdtsc();
    EXPECT_GE(now, last);
    last = now;
  })
}

TEST(OldWaysTest, VsyscallTimeIsTheTime) {
  std::ifstream maps("/proc/self/maps");
  bool there = false;
  for (std::string line; std::getline(maps, line);) there |= line.find("[vsyscall]") != line.npos;
  int status = InChild([] {
    auto* old_time = reinterpret_cast<time_t (*)(time_t*)>(0xffffffffff600400);
    time_t stored = 0;
    const time_t before = time(nullptr), now = old_time(&stored);
    EXPECT_GE(now, before - 1);
    EXPECT_LE(now, before + 5);
    EXPECT_EQ(stored, now);
  });
  if (!there && WIFSIGNALED(status)) GTEST_SKIP() << "no vsyscall page";
  EXPECT_THAT(status, ExitsWith(0));
}

TEST(OldWaysTest, X32NumbersFailOrWork) {
  errno = 0;
  const long pid = syscall(0x40000000 | SYS_getpid);
  if (pid == -1) EXPECT_EQ(errno, ENOSYS);
  else EXPECT_EQ(pid, getpid());
}

// getpid(2) has number 20 there, which is writev(2) here.
TEST(OldWaysTest, Int80IsThe32BitTableOrRefused) {
  int status = InChild([] {
    long result = 20;
    asm volatile("int $0x80" : "+a"(result) : "b"(0), "c"(0), "d"(0) : "r8", "r9", "r10", "r11", "memory");
    EXPECT_TRUE(result == getpid() || static_cast<int>(result) == -ENOSYS) << result;
  });
  if (WIFSIGNALED(status)) EXPECT_EQ(WTERMSIG(status), SIGSEGV);
  else EXPECT_THAT(status, ExitsWith(0));
}

// All access to key 0 taken away: calls still work, since the kernel needs none of the guest's memory.
TEST(ProtectionKeyTest, CallsWorkWithEverythingDenied) {
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (c & 1u << 4) == 0)
    GTEST_SKIP() << "no protection keys on this machine";
  const long parent = getppid();
  int status = InChild([&] {
    // The kernel writes there when the thread is preempted, with the thread's rights, and ends who has none.
    if (__rseq_size != 0) {
      constexpr int kUnregister = 1, kSize = 32;
      EXPECT_THAT(syscall(SYS_rseq, static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset, kSize, kUnregister,
                          RSEQ_SIG), SyscallSucceeds());
    }
    const long me = getppid();
    int wrong = 0;
    CALL_OFTEN({
      long result = SYS_getppid;
      asm volatile(
          "mov %%rax, %%r8\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n mov $3, %%eax\n wrpkru\n"
          "mov %%r8, %%rax\n syscall\n mov %%rax, %%r8\n"
          "xor %%ecx, %%ecx\n xor %%edx, %%edx\n xor %%eax, %%eax\n wrpkru\n mov %%r8, %%rax"
          : "+a"(result) : : "rcx", "rdx", "r8", "r11", "memory");
      wrong += result != me;
    })
    EXPECT_EQ(wrong, 0);
  });
  EXPECT_THAT(status, ExitsWith(0));
  EXPECT_EQ(getppid(), parent);
}

// Protection keys: PKRU belongs to the thread, and the kernel does not need what it forbids the thread.
class ProtectionKeyRightsTest : public testing::Test {
 protected:
  static constexpr uint32_t kInitial = 0x55555554;  // Linux arch/x86/mm/pkeys.c: only key 0.

  void SetUp() override {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    constexpr uint32_t kOspke = 1 << 4;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (c & kOspke) == 0)
      GTEST_SKIP() << "no protection keys";
  }
  static uint32_t Rights() {
    uint32_t low, high;
    asm volatile("rdpkru" : "=a"(low), "=d"(high) : "c"(0));
    return low;
  }
  static void SetRights(uint32_t rights) {
    asm volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
  }
};

TEST_F(ProtectionKeyRightsTest, RightsSurviveCallsAndHandlers) {
  constexpr uint32_t kMine = 0x55555354;  // Some of key 4 and 5 allowed.
  static uint32_t in_handler;
  static int handled;
  handled = 0;
  ScopedAction action(SIGUSR1, +[](int) {
    in_handler = Rights();
    SetRights(kInitial ^ 0x30);
    handled = handled + 1;
  });
  int wrong = 0;
  SetRights(kMine);
  CALL_OFTEN({
    const long result = call % 3 == 0 ? raise(SIGUSR1) : getppid() < 0;
    wrong += result != 0 || Rights() != kMine || in_handler != kInitial;
  })
  SetRights(kInitial);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(handled, kOften / 3);
}

TEST(ProtectionKeyTest, AKeyWorksOrIsRefused) {
  const long key = syscall(SYS_pkey_alloc, 0, 0);
  if (key < 0) {
    EXPECT_TRUE(errno == ENOSPC || errno == ENOSYS || errno == EINVAL) << errno;
    return;
  }
  EXPECT_THAT(syscall(SYS_pkey_free, key), SyscallSucceeds());
}

// The table of mappings is full: what needs more is refused, all else works, and room can be made.
TEST(FullTest, OfMappings) {
  EXPECT_THAT(InChild([] {
    constexpr size_t kPages = 140'000, kPage = 4096;
    char* area = static_cast<char*>(mmap(nullptr, kPages * kPage, PROT_NONE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ASSERT_NE(area, MAP_FAILED);
    size_t i = 1;
    while (i < kPages && mprotect(area + i * kPage, kPage, PROT_READ | PROT_WRITE) == 0) i += 2;
    ASSERT_LT(i, kPages);
    ASSERT_EQ(errno, ENOMEM);
    EXPECT_GT(i, 60'000u);
    EXPECT_LT(i, 66'000u);
    // What is there can be used and signals arrive.
    area[kPage] = 1;
    area[(i - 2) * kPage] = 2;
    static volatile int handled;
    handled = 0;
    ScopedAction action(SIGUSR1, +[](int) { handled = handled + 1; });
    CALL_OFTEN({ raise(SIGUSR1); })
    EXPECT_EQ(handled, kOften);
    EXPECT_THAT(munmap(area + 10'000 * kPage, 20'000 * kPage), SyscallSucceeds());
    EXPECT_THAT(mprotect(area + i * kPage, kPage, PROT_READ | PROT_WRITE), SyscallSucceeds());
    area[i * kPage] = 3;
    EXPECT_EQ(area[kPage], 1);
    EXPECT_THAT(munmap(area, kPages * kPage), SyscallSucceeds());
  }), ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
