// What may happen at any instruction of a patched call: signals, other threads' patching, forks.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#include <utility>
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
  // Nothing is changed, only looked at.
  bool look = false;
  uint64_t function = 0, site = 0, number = 0;
  Registers at_start{};
  uint64_t wrong = 0;
  std::atomic<uint64_t> saved{0};
};
Trap g_trap;

constexpr uint64_t kTrapFlag = 0x100;

constexpr std::pair<int, uint64_t Registers::*> kFields[] = {
    {REG_RAX, &Registers::rax}, {REG_RDI, &Registers::rdi}, {REG_RSI, &Registers::rsi},
    {REG_RDX, &Registers::rdx}, {REG_R10, &Registers::r10}, {REG_R8, &Registers::r8},
    {REG_R9, &Registers::r9},   {REG_RBX, &Registers::rbx}, {REG_RBP, &Registers::rbp},
    {REG_R12, &Registers::r12}, {REG_R13, &Registers::r13}, {REG_R14, &Registers::r14},
    {REG_R15, &Registers::r15}, {REG_RSP, &Registers::rsp}, {REG_RIP, &Registers::rip},
    {REG_RCX, &Registers::rcx}, {REG_R11, &Registers::r11}, {REG_EFL, &Registers::eflags},
};

Registers OfSlot(const CallRegisters& r) {
  Registers regs{};
  regs.rax = r.rax, regs.rdi = r.rdi, regs.rsi = r.rsi, regs.rdx = r.rdx, regs.r10 = r.r10;
  regs.r8 = r.r8, regs.r9 = r.r9, regs.rbx = r.rbx, regs.rbp = r.rbp, regs.rsp = r.rsp;
  regs.r12 = r.r12, regs.r13 = r.r13, regs.r14 = r.r14, regs.r15 = r.r15;
  regs.rip = regs.rcx = r.rip;
  regs.eflags = regs.r11 = r.rflags;
  return regs;
}

// What Locate() makes of the registers must be those before or after the call.
void Look(Registers regs) {
  Trap& t = g_trap;
  if (regs.rip == t.function) t.at_start = regs;
  uint64_t escape;
  PatchSet::Place place = t.set->Locate(regs, t.slot->registers, &escape);
  if (place == PatchSet::Place::kElsewhere) return;
  const bool saved = place == PatchSet::Place::kSaved, committed = place == PatchSet::Place::kCommitted;
  if (saved || committed) {
    regs = OfSlot(t.slot->registers);
    if (committed) place = t.set->Locate(regs, t.slot->registers, &escape);
  }
  const bool before = saved || place == PatchSet::Place::kBefore;
  ++(saved ? t.saved : before ? t.before : committed ? t.committed : t.answered);
  bool right = regs.rip - (saved ? 2 : 0) == t.site + (before ? 0 : 2);
  if (before) right = right && regs.rax == t.number;
  right = right && ((regs.eflags ^ t.at_start.eflags) & 0xdd5 & ~kTrapFlag) == 0;
  for (const auto& [index, field] : kFields) {
    if (index == REG_RAX || index == REG_RCX || index == REG_R11 || index == REG_RIP || index == REG_EFL)
      continue;
    right = right && regs.*field == t.at_start.*field;
  }
  if (!right) ++t.wrong;
}

void OnSignal(int signo, siginfo_t*, void* context) {
  greg_t* g = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Registers regs{};
  for (const auto& [index, field] : kFields) regs.*field = static_cast<uint64_t>(g[index]);
  if (g_trap.look) return Look(regs);
  Slot& slot = *g_trap.slot;
  uint64_t escape;
  const PatchSet::Place place = g_trap.set->Locate(regs, slot.registers, &escape);
  switch (place) {
    case PatchSet::Place::kElsewhere:
      ++g_trap.elsewhere;
      return;
    case PatchSet::Place::kBefore:
      ++g_trap.before;
      // Else it would come here again and again.
      if (escape != 0 && signo != SIGUSR1) regs.rip = escape;
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
      regs = OfSlot(slot.registers);
      if (saved) regs.rip -= 2;
      if (g_trap.set->Locate(regs, slot.registers, &escape) == PatchSet::Place::kBefore &&
          signo != SIGUSR1)
        regs.rip = escape;
      break;
    }
  }
  for (const auto& [index, field] : kFields) g[index] = static_cast<greg_t>(regs.*field);
}

// Functions in the file, and behind their sites.
constexpr uint64_t kPlain = PatchTest::kBase, kPid = kPlain + 64, kHop = kPlain + 128,
                   kHopPid = kPlain + 192, kHopAny = kPlain + 256;
constexpr uint64_t kBehind = 7, kBehindHop = 9, kBehindAny = 4;

// With all flags that a call keeps as they are, and the trap flag.
uint64_t Step(uint64_t function, uint64_t first, uint64_t second = 0) {
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
      : "r"(function), "D"(first), "S"(second)
      : "rcx", "r11", "memory", "cc");
  return result;
}

class PatchRaceTest : public PatchTest {
 protected:
  PatchRaceTest() {
    for (const auto& [at, number] : {std::pair{kPlain, kPersonality}, {kPid, 39u}}) {
      Write([number = number](Xbyak::CodeGenerator& c) {
        c.mov(c.eax, number);
        c.syscall();
        c.ret();
      }, at - kBase);
    }
    for (const auto& [at, number] : {std::pair{kHop, kPersonality}, {kHopPid, 39u}}) {
      Write([number = number](Xbyak::CodeGenerator& c) {
        c.mov(c.eax, number);
        c.mov(c.ecx, c.eax);
        c.syscall();
        c.ret();
        if (number != 39) Nop(c);
        else for (int i = 0; i < 6; ++i) c.int3();  // Up to an aligned address.
      }, at - kBase);
    }
    Write([](Xbyak::CodeGenerator& c) {
      c.mov(c.eax, c.esi);
      c.syscall();
      c.ret();
      Nop(c);
    }, kHopAny - kBase);
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

  void PatchAll() {
    MapFile(*set_);
    set_->OnTrap(kPlain + kBehind, kPersonality);
    set_->OnTrap(kPid + kBehind, 39);
    set_->OnTrap(kHop + kBehindHop, kPersonality);
    set_->OnTrap(kHopPid + kBehindHop, 39);
    set_->OnTrap(kHopAny + kBehindAny, kPersonality);
    for (uint64_t site : {kHop + kBehindHop, kHopPid + kBehindHop, kHopAny + kBehindAny})
      ASSERT_EQ(Bytes(site - 2, 1), "\xeb");
    ASSERT_EQ(Bytes(kPlain, 1), "\xe9");
  }

  std::vector<char> alternate_;
  stack_t old_stack_{};
};

// One instruction after the other, all the way through stub and trampoline: a signal after each.
TEST_F(PatchRaceTest, ASignalAfterEveryInstructionChangesNothing) {
  PatchAll();
  FakeThread thread([](CallRegisters& r) { r.rax = r.rdi * 3; });
  thread.page().pid = 4711;
  thread.page().answers = 1;
  g_trap.slot = &thread.slot();
  GsBase gs(&thread.slot());
  // A step into the stub goes back to the syscall instruction, which makes the host's call.
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(Step(kPlain, kAsk), 0u);
    EXPECT_EQ(Step(kHop, kAsk), 0u);
    EXPECT_EQ(Step(kHopAny, kAsk, kPersonality), 0u);
    EXPECT_EQ(Step(kPid, 0), static_cast<uint64_t>(getpid()));
    EXPECT_EQ(Step(kHopPid, 0), static_cast<uint64_t>(getpid()));
  }
  EXPECT_GT(g_trap.before, 0u);
  EXPECT_GT(g_trap.elsewhere, 0u);
}

// What would be seen at every instruction, if a signal came just there.
TEST_F(PatchRaceTest, EveryInstructionIsBeforeOrAfterTheCall) {
  PatchAll();
  FakeThread thread([](CallRegisters& r) { r.rax = r.rdi * 3; });
  thread.page().pid = 4711;
  g_trap.slot = &thread.slot();
  struct {
    uint64_t function, behind, number, result;
    bool answers, answered;
  } const cases[] = {
      {kPlain, kBehind, kPersonality, kAsk * 3, false, false},
      {kHop, kBehindHop, kPersonality, kAsk * 3, false, false},
      {kHopAny, kBehindAny, kPersonality, kAsk * 3, true, false},
      {kPid, kBehind, 39, kAsk * 3, false, false},
      {kPid, kBehind, 39, 4711, true, true},
      {kHopPid, kBehindHop, 39, kAsk * 3, false, false},
      {kHopPid, kBehindHop, 39, 4711, true, true},
      {kHopAny, kBehindAny, 39, 4711, true, true},
      // Not for the trampoline: the host's.
      {kHopAny, kBehindAny, 1000, static_cast<uint64_t>(-ENOSYS), true, true},
      {kHopAny, kBehindAny, SYS_execve, static_cast<uint64_t>(-EFAULT), true, true},
  };
  for (const auto& c : cases) {
    thread.page().answers = c.answers ? 1 : 0;
    g_trap.function = c.function;
    g_trap.site = c.function + c.behind - 2;
    g_trap.number = c.number;
    g_trap.wrong = g_trap.saved = 0;
    g_trap.before = g_trap.answered = g_trap.committed = 0;
    const uint64_t calls = thread.calls();
    uint64_t result;
    {
      GsBase gs(&thread.slot());
      g_trap.look = true;
      result = Step(c.function, kAsk, c.number);
      g_trap.look = false;
    }
    EXPECT_EQ(result, c.result) << c.function << " " << c.number;
    EXPECT_EQ(g_trap.wrong, 0u) << c.function << " " << c.number;
    EXPECT_GT(g_trap.before, 5u);
    EXPECT_EQ(thread.calls() - calls, c.answered ? 0u : 1u);
    if (!c.answered) {
      EXPECT_GT(g_trap.saved, 2u);
      EXPECT_GT(g_trap.committed, 5u);
    }
  }
}

// Signals at random instructions: no call is lost, made twice, or gets another's result.
TEST_F(PatchRaceTest, SignalsAtAnyTimeLoseNoCall) {
  PatchAll();
  // Only the sentry's own calls are counted: a rolled back one is made again there, or is the host's
  // and gives 0.
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
  auto call = [&](uint64_t function, uint64_t number) {
    const uint64_t r = At<uint64_t(uint64_t, uint64_t)>(function)(kAsk, number);
    if (number == 39 ? r == 4711 : number == 1000) {
      ++answered;
      if (number == 1000 && r != static_cast<uint64_t>(-ENOSYS)) ++wrong;
    } else if (number == 39) {
      if (r != static_cast<uint64_t>(getpid())) ++wrong;
    } else if (r == kAsk * 3 + 1) {
      ++by_sentry;
    } else if (r == 0) {
      ++by_host;
    } else {
      ++wrong;
    }
  };
  {
    GsBase gs(&thread.slot());
    timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
      for (int i = 0; i < 1000; ++i) {
        call(kPlain, kPersonality);
        call(kHop, kPersonality);
        call(kPid, 39);
        call(kHopPid, 39);
        call(kHopAny, kPersonality);
        call(kHopAny, 39);
        call(kHopAny, 1000);
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
  PatchAll();
  FakeThread thread(nullptr);
  g_trap.slot = &thread.slot();
  for (uint64_t base : {uint64_t{0}, uint64_t{0x7000}, uint64_t{0x123456789000}}) {
    GsBase::Set(base);
    EXPECT_EQ(At<Function>(kPlain)(kAsk), 0u);
    EXPECT_EQ(At<Function>(kHop)(kAsk), 0u);
    EXPECT_EQ(At<Function>(kPid)(0), static_cast<uint64_t>(getpid()));
    EXPECT_EQ(At<Function>(kHopPid)(0), static_cast<uint64_t>(getpid()));
  }
  GsBase::Set(0);
  EXPECT_EQ(g_trap.before, 12u);
}

// Threads in sites that are patched and unpatched all the time: one in each kind, and one that is to be
// found between site and hop by others' time slices.
TEST_F(PatchRaceTest, ThreadsRunThroughASiteWhileItIsPatched) {
  MapFile(*set_);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0}, by_sentry{0}, by_host{0};
  std::vector<std::thread> guests;
  for (uint64_t function : {kPlain, kHop, kHop}) {
    guests.emplace_back([&, function] {
      FakeThread thread([](CallRegisters& r) { r.rax = r.rdi + 5; }, /*spin_cycles=*/2000);
      GsBase gs(&thread.slot());
      uint64_t sentry = 0, host = 0;
      while (!stop) {
        const uint64_t r = At<Function>(function)(kAsk);
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
    set_->OnTrap(kPlain + kBehind, kPersonality);
    set_->OnTrap(kHop + kBehindHop, kPersonality);
    ASSERT_EQ(Bytes(kPlain, 1), "\xe9");
    ASSERT_EQ(Bytes(kHop + kBehindHop - 2, 1), "\xeb");
    if (i % 16 == 0) usleep(100);
    // Back, and then as a new mapping: an mprotect(2) of nothing new, then the file again.
    Protect(kBase, kPageSize, PROT_READ | PROT_EXEC);
    ASSERT_EQ(Bytes(kPlain, 1), "\xb8");
    ASSERT_EQ(Bytes(kHop + kBehindHop - 2, 2), "\x0f\x05");
    if (i % 16 == 0) usleep(100);
    MapFile(*set_);
    ASSERT_EQ(Bytes(kPlain, 1), "\xe9");
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
  PatchAll();
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
        : "r"(in), "r"(out), "r"(i % 2 == 0 ? kPlain : kHop)
        : "rax", "rcx", "rdi", "r11", "memory", "cc");
    ASSERT_EQ(std::memcmp(in, out, sizeof(in)), 0);
  }
}

}  // namespace
}  // namespace caisson::platform::trap
