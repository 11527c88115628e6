// What may happen at any instruction of a patched call: signals, other threads' patching, forks.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#include <vector>

#include "platform/trap/patch_testing.h"

namespace caisson::platform::trap {
namespace {

using Function = uint64_t(uint64_t);

constexpr uint32_t kPersonality = 135;
constexpr uint64_t kAsk = 0xffffffff;  // personality(2) that changes nothing.

// Plays the sentry's part at a trap, in a signal handler of the guest's thread.
struct Trap {
  PatchSet* set = nullptr;
  Slot* slot = nullptr;
  std::atomic<uint64_t> elsewhere{0}, before{0}, answered{0}, committed{0};
};
Trap g_trap;

void OnSignal(int, siginfo_t*, void* context) {
  auto* uc = static_cast<ucontext_t*>(context);
  greg_t* g = uc->uc_mcontext.gregs;
  Registers regs{};
  regs.rip = static_cast<uint64_t>(g[REG_RIP]);
  regs.rsp = static_cast<uint64_t>(g[REG_RSP]);
  regs.rcx = static_cast<uint64_t>(g[REG_RCX]);
  regs.r11 = static_cast<uint64_t>(g[REG_R11]);
  regs.rax = static_cast<uint64_t>(g[REG_RAX]);
  regs.eflags = static_cast<uint64_t>(g[REG_EFL]);
  Slot& slot = *g_trap.slot;
  const PatchSet::Place place = g_trap.set->Locate(regs, slot.registers.rsp);
  switch (place) {
    case PatchSet::Place::kElsewhere:
      ++g_trap.elsewhere;
      return;
    case PatchSet::Place::kBefore:
      ++g_trap.before;
      break;
    case PatchSet::Place::kAnswered:
      ++g_trap.answered;
      break;
    case PatchSet::Place::kSaved:
    case PatchSet::Place::kCommitted: {
      const bool saved = place == PatchSet::Place::kSaved;
      ++(saved ? g_trap.before : g_trap.committed);
      auto& state = *reinterpret_cast<std::atomic<uint32_t>*>(&slot.state);
      while ((state.load() & kTurnMask) != kGuest) sched_yield();
      const CallRegisters& r = slot.registers;
      g[REG_RDI] = static_cast<greg_t>(r.rdi);
      g[REG_RSI] = static_cast<greg_t>(r.rsi);
      g[REG_RDX] = static_cast<greg_t>(r.rdx);
      g[REG_R10] = static_cast<greg_t>(r.r10);
      g[REG_R8] = static_cast<greg_t>(r.r8);
      g[REG_R9] = static_cast<greg_t>(r.r9);
      g[REG_RBX] = static_cast<greg_t>(r.rbx);
      g[REG_RBP] = static_cast<greg_t>(r.rbp);
      g[REG_R12] = static_cast<greg_t>(r.r12);
      g[REG_R13] = static_cast<greg_t>(r.r13);
      g[REG_R14] = static_cast<greg_t>(r.r14);
      g[REG_R15] = static_cast<greg_t>(r.r15);
      regs.rip = regs.rcx = r.rip;
      if (saved) regs.rip -= 2;
      regs.rsp = r.rsp;
      regs.rax = r.rax;
      regs.eflags = regs.r11 = r.rflags;
      break;
    }
  }
  g[REG_RIP] = static_cast<greg_t>(regs.rip);
  g[REG_RSP] = static_cast<greg_t>(regs.rsp);
  g[REG_RCX] = static_cast<greg_t>(regs.rcx);
  g[REG_R11] = static_cast<greg_t>(regs.r11);
  g[REG_RAX] = static_cast<greg_t>(regs.rax);
  g[REG_EFL] = static_cast<greg_t>(regs.eflags);
}

class PatchRaceTest : public PatchTest {
 protected:
  PatchRaceTest() {
    Write([](Xbyak::CodeGenerator& c) {
      c.mov(c.eax, kPersonality);
      c.syscall();
      c.ret();
    });
    // getpid, answered in the stub.
    Write([](Xbyak::CodeGenerator& c) {
      c.mov(c.eax, 39);
      c.syscall();
      c.ret();
    }, 64);
    // On a stack of its own, as the slot has one: the interrupted rsp may be in the slot.
    alternate_.resize(256 << 10);
    stack_t stack{};
    stack.ss_sp = alternate_.data();
    stack.ss_size = alternate_.size();
    sigaltstack(&stack, &old_stack_);
    for (int signo : {SIGUSR1, SIGTRAP, SIGSEGV}) {
      struct sigaction action {};
      action.sa_sigaction = OnSignal;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK;
      sigfillset(&action.sa_mask);
      sigaction(signo, &action, nullptr);
    }
    g_trap.set = set_.get();
    g_trap.elsewhere = g_trap.before = g_trap.answered = g_trap.committed = 0;
  }
  ~PatchRaceTest() override {
    for (int signo : {SIGUSR1, SIGTRAP, SIGSEGV}) signal(signo, SIG_DFL);
    sigaltstack(&old_stack_, nullptr);
  }

  std::vector<char> alternate_;
  stack_t old_stack_{};
};

// One instruction after the other, all the way through stub and trampoline: a signal after each.
TEST_F(PatchRaceTest, ASignalAfterEveryInstructionChangesNothing) {
  MapFile(*set_);
  set_->OnTrap(kBase + 7, kPersonality);
  set_->OnTrap(kBase + 64 + 7, 39);
  FakeThread thread([](CallRegisters& r) { r.rax = r.rdi * 3; });
  thread.page().pid = 4711;
  thread.page().answers = 1;
  g_trap.slot = &thread.slot();
  GsBase gs(&thread.slot());
  auto step = [](uint64_t function, uint64_t argument) {
    uint64_t result;
    // The flag is part of what the call saves and brings back, so it is on in the trampoline too.
    asm volatile(
        "pushfq\n\t"
        "orq $0x100, (%%rsp)\n\t"
        "popfq\n\t"
        "call *%1\n\t"
        "pushfq\n\t"
        "andq $~0x100, (%%rsp)\n\t"
        "popfq\n\t"
        : "=a"(result)
        : "r"(function), "D"(argument)
        : "rcx", "r11", "memory", "cc");
    return result;
  };
  // A step into the stub goes back to the syscall instruction, which makes the host's call.
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(step(kBase, kAsk), 0u);
    EXPECT_EQ(step(kBase + 64, 0), static_cast<uint64_t>(getpid()));
  }
  EXPECT_GT(g_trap.before, 0u);
  EXPECT_GT(g_trap.elsewhere, 0u);
}

// Signals at random instructions: no call is lost, made twice, or gets another's result.
TEST_F(PatchRaceTest, SignalsAtAnyTimeLoseNoCall) {
  MapFile(*set_);
  set_->OnTrap(kBase + 7, kPersonality);
  set_->OnTrap(kBase + 64 + 7, 39);
  // Only the sentry's own calls are counted: a rolled back one is the host's, and gives 0.
  FakeThread thread([](CallRegisters& r) { r.rax = r.rdi * 3 + 1; });
  thread.page().pid = 4711;
  thread.page().answers = 1;
  g_trap.slot = &thread.slot();
  const pthread_t guest = pthread_self();
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> sent{0};
  std::thread sender([&] {
    while (!stop) {
      pthread_kill(guest, SIGUSR1);
      ++sent;
      for (unsigned i = 0, n = static_cast<unsigned>(sent * 7919 % 3000); i < n; ++i) asm volatile("");
    }
  });
  uint64_t by_sentry = 0, by_host = 0, answered = 0, wrong = 0;
  {
    GsBase gs(&thread.slot());
    timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
      for (uint64_t i = 0; i < 1000; ++i) {
        const uint64_t r = At<Function>(kBase)(kAsk);
        if (r == kAsk * 3 + 1) ++by_sentry;
        else if (r == 0) ++by_host;
        else ++wrong;
        const uint64_t pid = At<Function>(kBase + 64)(i);
        if (pid == 4711) ++answered;
        else if (pid != static_cast<uint64_t>(getpid())) ++wrong;
      }
      clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < 3 ||
             (g_trap.before == 0 && now.tv_sec - start.tv_sec < 30));
  }
  stop = true;
  sender.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(thread.calls(), by_sentry);
  EXPECT_GT(answered, 0u);
  EXPECT_GT(g_trap.before, 0u);
  EXPECT_GT(g_trap.committed, 0u);
  printf("%lu signals: %lu before, %lu answered, %lu committed; calls: %lu sentry, %lu host, %lu stub\n",
         sent.load(), g_trap.before.load(), g_trap.answered.load(), g_trap.committed.load(),
         by_sentry, by_host, answered);
}

// gs of the guest's own, or none: the call goes on where it stands.
TEST_F(PatchRaceTest, AFaultOnGsGoesBackToTheCall) {
  MapFile(*set_);
  set_->OnTrap(kBase + 7, kPersonality);
  set_->OnTrap(kBase + 64 + 7, 39);
  FakeThread thread(nullptr);
  g_trap.slot = &thread.slot();
  for (uint64_t base : {uint64_t{0}, uint64_t{0x7000}, uint64_t{0x123456789000}}) {
    GsBase::Set(base);
    EXPECT_EQ(At<Function>(kBase)(kAsk), 0u);
    EXPECT_EQ(At<Function>(kBase + 64)(0), static_cast<uint64_t>(getpid()));
  }
  GsBase::Set(0);
  EXPECT_EQ(g_trap.before, 6u);
}

// Two threads in a site that is patched and unpatched all the time.
TEST_F(PatchRaceTest, ThreadsRunThroughASiteWhileItIsPatched) {
  MapFile(*set_);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0}, by_sentry{0}, by_host{0};
  std::vector<std::thread> guests;
  for (int i = 0; i < 2; ++i) {
    guests.emplace_back([&] {
      FakeThread thread([](CallRegisters& r) { r.rax = r.rdi + 5; }, /*spin_cycles=*/2000);
      GsBase gs(&thread.slot());
      uint64_t sentry = 0, host = 0;
      while (!stop) {
        const uint64_t r = At<Function>(kBase)(kAsk);
        if (r == kAsk + 5) ++sentry;
        else if (r == 0) ++host;
        else ++wrong;
      }
      if (thread.calls() != sentry) ++wrong;
      by_sentry += sentry;
      by_host += host;
    });
  }
  for (int i = 0; i < 2000; ++i) {
    set_->OnTrap(kBase + 7, kPersonality);
    ASSERT_EQ(Bytes(kBase, 1), "\xe9");
    if (i % 16 == 0) usleep(100);
    // Back, and then as a new mapping: an mprotect(2) of nothing new, then the file again.
    Protect(kBase, kPageSize, PROT_READ | PROT_EXEC);
    ASSERT_EQ(Bytes(kBase, 1), "\xb8");
    if (i % 16 == 0) usleep(100);
    MapFile(*set_);
    ASSERT_EQ(Bytes(kBase, 1), "\xe9");
    Protect(kBase, kPageSize, PROT_READ | PROT_EXEC);
    MapFile(*set_);
  }
  stop = true;
  for (std::thread& guest : guests) guest.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(by_sentry, 0u);
  EXPECT_GT(by_host, 0u);
}

// Extended state is not the trampoline's business: it stays in the thread.
TEST_F(PatchRaceTest, VectorRegistersStayAsTheyAre) {
  if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "no AVX-512 here";
  MapFile(*set_);
  set_->OnTrap(kBase + 7, kPersonality);
  FakeThread thread([](CallRegisters& r) { r.rax = 1; });
  g_trap.slot = &thread.slot();
  GsBase gs(&thread.slot());
  alignas(64) uint64_t in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8] = {};
  for (int i = 0; i < 1000; ++i) {
    ++in[i % 8];
    if (i % 10 == 0) pthread_kill(pthread_self(), SIGUSR1);
    asm volatile(
        "vmovdqa64 (%0), %%zmm31\n\t"
        "kmovw %k0, %%k5\n\t"
        "mov $0xffffffff, %%edi\n\t"
        "call *%2\n\t"
        "vmovdqa64 %%zmm31, (%1)\n\t"
        :
        : "r"(in), "r"(out), "r"(kBase)
        : "rax", "rcx", "rdi", "r11", "memory", "cc");
    ASSERT_EQ(std::memcmp(in, out, sizeof(in)), 0);
  }
}

}  // namespace
}  // namespace caisson::platform::trap
