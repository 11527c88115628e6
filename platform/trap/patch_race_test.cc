// What may happen at any instruction of a patched call: signals, other threads' patching, forks.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "platform/trap/patch_race_testing.h"

namespace caisson::platform::trap {
namespace {

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
    const uint64_t calls = thread.calls();
    EXPECT_EQ(LookThrough(thread, c.function, c.function + c.behind - 2, c.number, kAsk, c.number), c.result)
        << c.function << " " << c.number;
    EXPECT_EQ(g_trap.wrong, 0u) << c.function << " " << c.number;
    EXPECT_GT(g_trap.before, 5u);
    EXPECT_EQ(thread.calls() - calls, c.answered ? 0u : 1u);
    if (!c.answered) {
      EXPECT_GT(g_trap.saved, 2u);
      EXPECT_GT(g_trap.committed, 5u);
    }
  }
}

// So with a wake-up of nobody, answered in the stub, and one that is not.
TEST_F(PatchRaceTest, AWakeUpIsBeforeOrAfterTheCall) {
  constexpr uint64_t kWake = kBase + 320, kWord = 0x7f0000001230, kPrivateWake = 129;
  Write([](Xbyak::CodeGenerator& c) {
    c.mov(c.eax, SYS_futex);
    c.syscall();
    c.ret();
  }, kWake - kBase);
  MapFile(*set_);
  set_->OnTrap(kWake + kBehind, SYS_futex);
  FakeThread thread([](CallRegisters& r) { r.rax = 4711; });
  std::vector<uint32_t> cells(kWaiterCells);
  thread.page().answers = 1;
  thread.page().waiters = reinterpret_cast<uint64_t>(cells.data());
  for (const bool waited_for : {false, true}) {
    cells[WaiterCell(kWord)] = waited_for;
    EXPECT_EQ(LookThrough(thread, kWake, kWake + kBehind - 2, SYS_futex, kWord, kPrivateWake), waited_for ? 4711u : 0u);
    EXPECT_EQ(g_trap.wrong, 0u);
    EXPECT_GT(g_trap.saved, 10u);
    EXPECT_GT(g_trap.committed, 5u);
    EXPECT_EQ(thread.calls(), waited_for ? 1u : 0u);
  }
}

// The answer to a return from a handler replaces all registers. At every instruction on the way there the
// slot has them, and what is below either stack pointer stays as it is.
TEST_F(PatchRaceTest, AnAnswerReplacesEveryRegister) {
  constexpr uint64_t kEnter = kBase + 512, kLand = kBase + 1024, kRed = 0x1234567;
  static uint64_t block[96], back;
  // kEnter(function, flags): to the function with these flags. Back from kLand, which pushes all registers.
  Write([](Xbyak::CodeGenerator& c) {
    for (const Xbyak::Reg64& r : {c.rbx, c.rbp, c.r12, c.r13, c.r14, c.r15}) c.push(r);
    c.mov(c.rax, reinterpret_cast<uint64_t>(&back));
    c.mov(c.ptr[c.rax], c.rsp);
    c.mov(c.qword[c.rsp - 128], static_cast<uint32_t>(kRed));
    c.mov(c.rax, c.rdi);
    c.sub(c.rsp, 256);
    c.pushfq();
    c.or_(c.qword[c.rsp], c.rsi);
    c.popfq();
    c.lea(c.rsp, c.ptr[c.rsp + 256]);
    c.jmp(c.rax);
  }, kEnter - kBase);
  Write([](Xbyak::CodeGenerator& c) {
    c.pushfq();
    for (int r = 15; r >= 0; --r) c.push(Xbyak::Reg64(r));
    c.mov(c.rax, reinterpret_cast<uint64_t>(&back));
    c.mov(c.rsp, c.ptr[c.rax]);
    c.mov(c.rax, c.ptr[c.rsp - 128]);
    c.sub(c.rsp, 256);
    c.push(2);
    c.popfq();
    c.add(c.rsp, 256);
    for (const Xbyak::Reg64& r : {c.r15, c.r14, c.r13, c.r12, c.rbp, c.rbx}) c.pop(r);
    c.ret();
  }, kLand - kBase);
  PatchAll();
  constexpr uint64_t kFlags = 0x893;  // OF, SF, AF, CF.
  Slot* slot = nullptr;
  FakeThread thread([&](CallRegisters& r) {
    // By number: rax 100, rcx 101, ...
    r.rax = 100, slot->rcx = 101, r.rdx = 102, r.rbx = 103, r.rbp = 105, r.rsi = 106, r.rdi = 107;
    r.r8 = 108, r.r9 = 109, r.r10 = 110, slot->r11 = 111;
    r.r12 = 112, r.r13 = 113, r.r14 = 114, r.r15 = 115;
    r.rsp = reinterpret_cast<uint64_t>(&block[90]);
    r.rip = kLand;
    r.rflags = 0x202 | kFlags | (r.rflags & kTrapFlag);
    slot->copies = kAllRegisters;
  });
  slot = &thread.slot();
  g_trap.slot = slot;
  for (const uint64_t function : {kPlain, kHop}) {
    g_trap.function = function;
    g_trap.site = function == kHop ? kHop + kBehindHop - 2 : kPlain + kBehind - 2;
    g_trap.number = kPersonality;
    g_trap.land = kLand;
    for (const bool stepping : {false, true}) {
      std::fill(std::begin(block), std::end(block), 77);
      slot->copies = 0;
      g_trap.wrong = g_trap.replaced = g_trap.landed = g_trap.committed = 0;
      uint64_t red;
      {
        GsBase gs(slot);
        g_trap.look = stepping;
        red = At<uint64_t(uint64_t, uint64_t)>(kEnter)(function, stepping ? kTrapFlag : 0);
        g_trap.look = false;
      }
      EXPECT_EQ(red, kRed);
      EXPECT_EQ(block[89] & 0xdd5 & ~kTrapFlag, kFlags & 0xdd5);
      for (uint64_t r = 0; r < 16; ++r) {
        const uint64_t want = r == 4 ? reinterpret_cast<uint64_t>(&block[74 + r]) : 100 + r;
        EXPECT_EQ(block[73 + r], want) << r;
      }
      for (int i = 0; i < 73; ++i) EXPECT_EQ(block[i], 77u);
      if (!stepping) continue;
      EXPECT_EQ(g_trap.wrong, 0u);
      EXPECT_EQ(g_trap.landed, 1u);
      EXPECT_GT(g_trap.replaced, 15u);
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
