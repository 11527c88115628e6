// For tests of what may happen at any instruction of a patched call: who plays the sentry's part at a trap.
#ifndef CAISSON_PLATFORM_TRAP_PATCH_RACE_TESTING_H_
#define CAISSON_PLATFORM_TRAP_PATCH_RACE_TESTING_H_

#include <gtest/gtest.h>
#include <signal.h>
#include <ucontext.h>

#include <utility>
#include <vector>

#include "platform/trap/patch_testing.h"

namespace caisson::platform::trap {

using Function = uint64_t(uint64_t);

inline constexpr uint32_t kPersonality = 135;
inline constexpr uint64_t kAsk = 0xffffffff;  // personality(2) that changes nothing.

// Plays the sentry's part at a trap, in a signal handler of the guest's thread.
struct Trap {
  PatchSet* set = nullptr;
  Slot* slot = nullptr;
  std::atomic<uint64_t> elsewhere{0}, before{0}, answered{0}, committed{0};
  // Nothing is changed, only looked at.
  bool look = false;
  uint64_t function = 0, site = 0, number = 0;
  uint64_t carried = 0;  // Bytes of `not r10` before the site.
  Registers at_start{};
  uint64_t wrong = 0;
  std::atomic<uint64_t> saved{0}, replaced{0}, landed{0};
  uint64_t land = 0;  // Where an answer with all registers goes on.
};
inline Trap g_trap;

inline constexpr uint64_t kTrapFlag = 0x100, kNotSize = 3;

inline constexpr std::pair<int, uint64_t Registers::*> kFields[] = {
    {REG_RAX, &Registers::rax}, {REG_RDI, &Registers::rdi}, {REG_RSI, &Registers::rsi},
    {REG_RDX, &Registers::rdx}, {REG_R10, &Registers::r10}, {REG_R8, &Registers::r8},
    {REG_R9, &Registers::r9},   {REG_RBX, &Registers::rbx}, {REG_RBP, &Registers::rbp},
    {REG_R12, &Registers::r12}, {REG_R13, &Registers::r13}, {REG_R14, &Registers::r14},
    {REG_R15, &Registers::r15}, {REG_RSP, &Registers::rsp}, {REG_RIP, &Registers::rip},
    {REG_RCX, &Registers::rcx}, {REG_R11, &Registers::r11}, {REG_EFL, &Registers::eflags},
};

inline Registers OfSlot(const CallRegisters& r) {
  Registers regs{};
  regs.rax = r.rax, regs.rdi = r.rdi, regs.rsi = r.rsi, regs.rdx = r.rdx, regs.r10 = r.r10;
  regs.r8 = r.r8, regs.r9 = r.r9, regs.rbx = r.rbx, regs.rbp = r.rbp, regs.rsp = r.rsp;
  regs.r12 = r.r12, regs.r13 = r.r13, regs.r14 = r.r14, regs.r15 = r.r15;
  regs.rip = regs.rcx = r.rip;
  regs.eflags = regs.r11 = r.rflags;
  return regs;
}

// What Locate() makes of the registers must be those before or after the call.
inline void Look(Registers regs) {
  Trap& t = g_trap;
  if (regs.rip == t.function) t.at_start = regs;
  if (t.land != 0 && regs.rip == t.land) ++t.landed;
  uint64_t escape;
  PatchSet::Place place = t.set->Locate(regs, t.slot->registers, &escape);
  if (place == PatchSet::Place::kElsewhere) return;
  const bool saved = place == PatchSet::Place::kSaved, committed = place == PatchSet::Place::kCommitted;
  if (saved || committed) {
    regs = OfSlot(t.slot->registers);
    if (committed) place = t.set->Locate(regs, t.slot->registers, &escape);
  }
  if (committed && t.slot->copies == kAllRegisters) {
    // It has the answer: these are its registers, with two more.
    ++t.replaced;
    if (regs.rip != t.land || regs.rax != 100 || regs.r15 != 115 || t.slot->rcx != 101 || t.slot->r11 != 111) ++t.wrong;
    return;
  }
  const bool before = saved || place == PatchSet::Place::kBefore;
  ++(saved ? t.saved : before ? t.before : committed ? t.committed : t.answered);
  const uint64_t ahead = t.site - regs.rip;
  if (place == PatchSet::Place::kBefore && ahead <= t.carried && ahead % kNotSize == 0) {
    regs.rip = t.site;
    if (ahead / kNotSize % 2 != t.carried / kNotSize % 2) regs.r10 = ~regs.r10;
  } else if (t.carried / kNotSize % 2 != 0) {
    regs.r10 = ~regs.r10;
  }
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

inline void OnSignal(int signo, siginfo_t*, void* context) {
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
inline constexpr uint64_t kPlain = PatchTest::kBase, kPid = kPlain + 64, kHop = kPlain + 128,
                   kHopPid = kPlain + 192, kHopAny = kPlain + 256;
inline constexpr uint64_t kBehind = 7, kBehindHop = 9, kBehindAny = 4;

// With all flags that a call keeps as they are, and the trap flag.
inline uint64_t Step(uint64_t function, uint64_t first, uint64_t second = 0) {
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
      : "rcx", "r10", "r11", "memory", "cc");
  return result;
}

// A call of `function`, whose site is `site`, with a look at every instruction of it: returns its result.
inline uint64_t LookThrough(FakeThread& thread, uint64_t function, uint64_t site, uint64_t number, uint64_t first,
                            uint64_t second = 0) {
  g_trap.slot = &thread.slot();
  g_trap.function = function;
  g_trap.site = site;
  g_trap.number = number;
  g_trap.wrong = g_trap.saved = g_trap.before = g_trap.answered = g_trap.committed = 0;
  const GsBase gs(&thread.slot());
  g_trap.look = true;
  const uint64_t result = Step(function, first, second);
  g_trap.look = false;
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

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_PATCH_RACE_TESTING_H_
