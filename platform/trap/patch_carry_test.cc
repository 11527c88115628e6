// Sites with instructions between the `mov` of the number and the `syscall`, which their stubs have too.
#include <gtest/gtest.h>

#include <vector>

#include "platform/trap/patch_race_testing.h"

namespace caisson::platform::trap {
namespace {

using Code = Xbyak::CodeGenerator;

constexpr uint64_t kFlip = PatchTest::kBase + 2048, kTwice = kFlip + 64, kFutex = kFlip + 128, kAnswered = kFlip + 192;

void Nots(Code& c, uint32_t number, int count) {
  c.mov(c.eax, number);
  for (int i = 0; i < count; ++i) c.not_(c.r10);
  c.syscall();
  c.ret();
}

class PatchCarryTest : public PatchRaceTest {
 protected:
  PatchCarryTest() {
    Write([](Code& c) { Nots(c, kPersonality, 1); }, kFlip - kBase);
    Write([](Code& c) { Nots(c, kPersonality, 2); }, kTwice - kBase);
    Write([](Code& c) {
      c.mov(c.eax, kPersonality);
      c.and_(c.esi, 0x80);
      c.xor_(c.sil, 0x81);
      c.syscall();
      c.ret();
    }, kFutex - kBase);
    Write([](Code& c) { Nots(c, 39, 1); }, kAnswered - kBase);
    MapFile(*set_);
    set_->OnTrap(kFlip + 5 + 3 + 2, kPersonality);
    set_->OnTrap(kTwice + 5 + 6 + 2, kPersonality);
    set_->OnTrap(kFutex + 5 + 6 + 4 + 2, kPersonality);
    set_->OnTrap(kAnswered + 5 + 3 + 2, 39);
  }
};

TEST_F(PatchCarryTest, TheCallHasWhatTheyLeft) {
  for (uint64_t site : {kFlip, kTwice, kFutex, kAnswered}) ASSERT_EQ(Bytes(site, 1), "\xe9") << site;
  uint64_t flags = 0, rip = 0;
  FakeThread thread([&](CallRegisters& r) {
    flags = r.rflags;
    rip = r.rip;
    r.rax = r.rsi;
  });
  GsBase gs(&thread.slot());
  EXPECT_EQ(At<uint64_t(uint64_t, uint64_t)>(kFutex)(0, 0x180), 0x01u);
  EXPECT_EQ(flags & 0x8c5, 0x000u);
  EXPECT_EQ(rip, kFutex + 17);
  EXPECT_EQ(At<uint64_t(uint64_t, uint64_t)>(kFutex)(0, 0x7f), 0x81u);
  EXPECT_EQ(flags & 0x8c5, 0x084u);  // Sign, parity.
  EXPECT_EQ(thread.calls(), 2u);
}

// Whoever comes to them by a jump makes the call by a trap, as before: they are where they were.
TEST_F(PatchCarryTest, TheyAreAtTheirPlaceToo) {
  FakeThread thread([](CallRegisters& r) { r.rax = 1; });
  GsBase gs(&thread.slot());
  uint64_t rax;
  for (uint64_t skip : {uint64_t{5}, uint64_t{11}, uint64_t{15}}) {
    uint64_t rsi = 0;
    asm volatile("call *%3" : "=a"(rax), "+S"(rsi) : "0"(uint64_t{39}), "r"(kFutex + skip) : "rcx", "r11", "memory", "cc");
    EXPECT_EQ(rax, static_cast<uint64_t>(getpid())) << skip;
  }
  EXPECT_EQ(thread.calls(), 0u);
}

TEST_F(PatchCarryTest, AGsBaseOfTheGuestsOwnMakesTheCallAtItsSite) {
  const std::vector<char> memory(4096, 1);
  GsBase gs(memory.data());
  EXPECT_EQ(At<uint64_t(uint64_t)>(kAnswered)(0), static_cast<uint64_t>(getpid()));
}

// As the same test of patch_race_test.cc.
TEST_F(PatchCarryTest, EveryInstructionIsBeforeOrAfterTheCall) {
  FakeThread thread([](CallRegisters& r) { r.rax = r.rdi * 3; });
  thread.page().pid = 4711;
  struct {
    uint64_t function, carried, number, result;
    bool answered;
  } const cases[] = {{kFlip, 3, kPersonality, kAsk * 3, false},
                     {kTwice, 6, kPersonality, kAsk * 3, false},
                     {kAnswered, 3, 39, 4711, true}};
  for (const auto& c : cases) {
    thread.page().answers = c.answered ? 1 : 0;
    g_trap.carried = c.carried;
    const uint64_t calls = thread.calls();
    EXPECT_EQ(LookThrough(thread, c.function, c.function + 5 + c.carried, c.number, kAsk), c.result) << c.function;
    g_trap.carried = 0;
    EXPECT_EQ(g_trap.wrong, 0u) << c.function;
    EXPECT_GT(g_trap.before, 5u);
    EXPECT_EQ(thread.calls() - calls, c.answered ? 0u : 1u);
  }
}

// Put back by a signal after each instruction, the thread still has run each of them once.
TEST_F(PatchCarryTest, ASignalAfterEveryInstructionChangesNothing) {
  std::atomic<uint64_t> flipped{0};
  FakeThread thread([&](CallRegisters& r) {
    flipped = r.r10;
    r.rax = 5;
  });
  g_trap.slot = &thread.slot();
  GsBase gs(&thread.slot());
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(Step(kFlip, kAsk), 0u);
    EXPECT_EQ(Step(kTwice, kAsk), 0u);
    EXPECT_EQ(Step(kFutex, kAsk), 0u);
  }
  EXPECT_GT(g_trap.before, 100u);
  uint64_t r10 = 77;
  asm volatile(
      "mov %1, %%r10\n\t"
      "pushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\t"
      "call *%2\n\t"
      "pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\t"
      "mov %%r10, %0\n\t"
      : "=r"(r10)
      : "r"(r10), "r"(kFlip), "D"(kAsk)
      : "rax", "rcx", "r10", "r11", "memory", "cc");
  EXPECT_EQ(r10, ~uint64_t{77});
}

}  // namespace
}  // namespace caisson::platform::trap
