// Call sites of files, which platform trap patches once they are used often: every call arrives once,
// with all registers, whatever comes in between. On other platforms the same must hold.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "platform/testing/patched_call.h"

namespace caisson::platform {
namespace {

TEST_F(PatchedCallTest, CallsArriveOnceAndInOrder) {
  Start(Loop);
  const uint64_t before = Count("patched");
  CallsArrive(5000);
  context_->Detach();
  if (TestPlatformName() != "ptrace") {
    EXPECT_GT(Count("patched") - before, 4900u);
  }
}

TEST_F(PatchedCallTest, AnswersInTheStubAreCounted) {
  if (TestPlatformName() == "ptrace") GTEST_SKIP() << "nothing is answered in the stub";
  constexpr uint32_t kPid = 4711;
  Start([](Code& c) {
    Xbyak::Label again, inner;
    c.L(again);
    c.mov(c.r13d, 1000);
    c.xor_(c.rbx, c.rbx);
    c.L(inner);
    c.mov(c.eax, SYS_getpid);
    c.syscall();
    c.add(c.rbx, c.rax);
    c.dec(c.r13d);
    c.jnz(inner);
    c.mov(c.eax, kNumber);
    c.syscall();
    c.jmp(again);
  });
  context_->SetAnswers({.pid = kPid});
  const uint64_t before = Count("in_stub");
  uint64_t asked = 0;
  for (int round = 0; round < 5;) {
    ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
    if (regs_.orig_rax == SYS_getpid) {
      ++asked;  // Not patched yet.
      regs_.rax = kPid;
      continue;
    }
    ASSERT_EQ(regs_.orig_rax, kNumber);
    context_->FullRegisters(regs_);
    ASSERT_EQ(regs_.rbx, 1000u * kPid);
    ++round;
  }
  context_->Detach();
  EXPECT_LT(asked, 100u);
  EXPECT_EQ(Count("in_stub") - before, 5000 - asked);
}

// Wherever an interrupt meets the trampoline: at both kinds of sites.
TEST_F(PatchedCallTest, InterruptedAnswersAreCountedOnce) {
  if (TestPlatformName() == "ptrace") GTEST_SKIP() << "nothing is answered in the stub";
  constexpr uint32_t kPid = 42, kInner = 2000;
  Start([](Code& c) {
    Xbyak::Label again, inner;
    c.L(again);
    c.mov(c.r13d, kInner);
    c.L(inner);
    c.mov(c.eax, SYS_getpid);
    c.syscall();
    c.mov(c.eax, SYS_getpid);
    c.test(c.r13d, c.r13d);
    c.syscall();
    c.dec(c.r13d);
    c.jnz(inner);
    c.mov(c.eax, kNumber);
    c.syscall();
    c.jmp(again);
    for (uint8_t byte : {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}) c.db(byte);  // For the hop.
  });
  context_->SetAnswers({.pid = kPid});
  const uint64_t before = Count("in_stub");
  uint64_t asked = 0, rounds = 0, interrupts = 0;
  {
    const Interrupter interrupter(*context_);
    const time_t deadline = time(nullptr) + 10;
    while ((interrupts < 5000 && time(nullptr) < deadline) || regs_.orig_rax != kNumber) {
      const Event event = context_->Switch(*space_, regs_);
      interrupts += event.kind == Kind::kInterrupted;
      if (event.kind == Kind::kInterrupted) continue;
      ASSERT_EQ(event.kind, Kind::kSyscall);
      rounds += regs_.orig_rax == kNumber;
      asked += regs_.orig_rax == SYS_getpid;
      regs_.rax = kPid;
    }
  }
  context_->Detach();
  EXPECT_LT(asked, rounds * kInner);
  EXPECT_EQ(Count("in_stub") - before + asked, 2 * kInner * rounds);
}

// However busy the machine is: now and then some calls in a row are quick, and a pair may begin.
TEST_F(PatchedCallTest, BothSidesWaitAwakeWhereThereIsRoom) {
  if (TestPlatformName() == "ptrace") GTEST_SKIP() << "ptrace never spins";
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2) GTEST_SKIP() << "spinning needs two CPUs";
  Start(Loop);
  const uint64_t before = Count("patched_spin");
  for (int i = 0; i < 100 && Count("patched_spin") == before; ++i) {
    CallsArrive(20'000);
    context_->Detach();
  }
  EXPECT_GT(Count("patched_spin"), before);
}

TEST_F(PatchedCallTest, AllRegistersMakeTheRoundTrip) {
  Start([](Code& c) {
    Xbyak::Label again;
    c.L(again);
    c.mov(c.eax, kNumber);
    c.syscall();
    c.mov(c.rbx, c.rax);
    c.jmp(again);
  });
  Registers want = regs_;
  for (int i = 0; i < kOften; ++i) {
    ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
    context_->FullRegisters(regs_);
    if (i > 0) {
      ASSERT_EQ(regs_.rbx, static_cast<uint64_t>(i - 1));
      for (auto field : {&Registers::rdi, &Registers::rsi, &Registers::rdx, &Registers::r8,
                         &Registers::r9, &Registers::r10, &Registers::r12, &Registers::r13,
                         &Registers::r14, &Registers::r15, &Registers::rbp, &Registers::rsp,
                         &Registers::fs_base})
        ASSERT_EQ(regs_.*field, want.*field);
      ASSERT_EQ(regs_.gs_base, 0u);
      ASSERT_EQ(regs_.eflags & 0xcd5, want.eflags & 0xcd5);
    }
    // Some at every call, all at some: by answer and by frame.
    uint64_t v = 0x1000 * static_cast<uint64_t>(i);
    for (auto field : {&Registers::rdi, &Registers::rsi, &Registers::rdx, &Registers::r8,
                       &Registers::r9, &Registers::r10, &Registers::r12, &Registers::r13,
                       &Registers::r14, &Registers::r15, &Registers::rbp})
      regs_.*field = ++v;
    if (i % 16 == 5) regs_.fs_base = 0x7000 + v;
    regs_.eflags = 0x202 | (i % 2 ? 0x8d5 : 0) | (i % 3 ? 0x400 : 0);
    regs_.rax = static_cast<uint64_t>(i);
    want = regs_;
  }
}

// As a return from a handler does.
// Instructions between the `mov` of the number and the call, as in glibc's futex calls, run once a call,
// wherever an interrupt finds the thread.
TEST_F(PatchedCallTest, WhatStandsBeforeTheCallRunsOnce) {
  Start([](Code& c) {
    Xbyak::Label again;
    c.L(again);
    c.inc(c.rdi);
    c.mov(c.eax, kNumber);
    c.add(c.r10, 5);
    c.xor_(c.esi, 0x81);
    c.syscall();
    c.jmp(again);
  });
  regs_.r10 = regs_.rsi = 0;
  const uint64_t before = Count("patched");
  {
    const Interrupter interrupter(*context_);
    const time_t deadline = time(nullptr) + 2;
    while (time(nullptr) < deadline && !HasFatalFailure()) {
      ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
      ASSERT_EQ(regs_.orig_rax, kNumber);
      ASSERT_EQ(regs_.rdi, ++calls_);
      ASSERT_EQ(regs_.r10, 5 * calls_);
      ASSERT_EQ(regs_.rsi, calls_ % 2 * 0x81);
      regs_.rax = calls_;
    }
  }
  context_->Detach();
  EXPECT_GT(calls_, 1000u);
  EXPECT_TRUE(TestPlatformName() == "ptrace" || Count("patched") - before > calls_ / 2);
}

TEST_F(PatchedCallTest, AnAnswerCanReplaceRcxAndR11) {
  Start([](Code& c) {
    Xbyak::Label again;
    c.L(again);
    c.mov(c.eax, kNumber);
    c.syscall();
    c.mov(c.rbx, c.rcx);
    c.mov(c.rbp, c.r11);
    c.mov(c.r12, c.rax);
    c.jmp(again);
  });
  const uint64_t traps = Count("trap");
  for (uint64_t i = 0; i < 10 * kOften; ++i) {
    ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
    context_->GeneralRegisters(regs_);
    if (i > 0 && i % 3 != 1) {
      ASSERT_EQ(regs_.rbx, 0x1000 + i);
      ASSERT_EQ(regs_.rbp, 0x200000 + i);
    } else if (i > 0) {
      ASSERT_EQ(regs_.rbx, kCode.value + 7);
      ASSERT_EQ(regs_.rbp & 0xcd5, 0x41u);
    }
    if (i > 0) {
      ASSERT_EQ(regs_.r12, i - 1);
    }
    if (i % 5 == 0) context_->FullRegisters(regs_);
    regs_.eflags = 0x202 | (i % 2 ? 0x8d5 : 0x41);
    if (i % 3 != 0) {
      regs_.rcx = 0x1001 + i;
      regs_.r11 = 0x200001 + i;
    } else {
      regs_.eflags = 0x243;
      regs_.rcx = regs_.rip;
      regs_.r11 = regs_.eflags;
    }
    regs_.rax = i;
  }
  context_.reset();
  if (TestPlatformName() == "trap") {
    EXPECT_LT(Count("trap") - traps, 4 * kOften);
  }
}

// A step set by a return from a handler is one of the guest's instructions, never of ours.
TEST_F(PatchedCallTest, AnAnswerCanBeginAStep) {
  Start(Loop);
  CallsArrive(kOften);
  for (int i = 0; i < 50; ++i) {
    regs_.eflags |= 0x100;
    const Event event = RunGuest(*context_, *space_, regs_);
    ASSERT_EQ(event.kind, Kind::kException);
    ASSERT_EQ(event.signo, SIGTRAP);
    ASSERT_EQ(regs_.rip, kCode.value);  // Behind the jump.
    regs_.eflags &= ~uint64_t{0x100};
    CallsArrive(1);
  }
}

TEST_F(PatchedCallTest, InterruptsLoseAndRepeatNothing) {
  Start(Loop);
  const Interrupter interrupter(*context_);
  const time_t deadline = time(nullptr) + 5;
  while (calls_ < 20000 && time(nullptr) < deadline && !HasFatalFailure()) {
    const Event event = context_->Switch(*space_, regs_);
    if (event.kind == Kind::kInterrupted) continue;
    EXPECT_EQ(event.kind, Kind::kSyscall);
    EXPECT_EQ(regs_.orig_rax, kNumber);
    EXPECT_EQ(regs_.rdi, ++calls_);
    if (calls_ != regs_.rdi) break;
    regs_.rax = 0;
  }
}

TEST_F(PatchedCallTest, TheGuestSeesItsOwnText) {
  Start(Loop);
  CallsArrive(kOften);
  std::string seen(0x40, '\0');
  ASSERT_EQ(space_->CopyIn(kCode, absl::MakeSpan(&seen[0], seen.size())), seen.size());
  EXPECT_EQ(seen, code_.substr(0, 0x40));
}

TEST_F(PatchedCallTest, AWriteToTheTextIsKept) {
  Start(Loop);
  CallsArrive(kOften);
  const std::string other = Assemble([](Code& c) { c.mov(c.eax, kNumber + 1); });
  ASSERT_EQ(space_->CopyOutForced(kCode + 3, other), other.size());
  ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
  EXPECT_EQ(regs_.orig_rax, kNumber + 1);
}

TEST_F(PatchedCallTest, ProtectAndUnmapOfPatchedPages) {
  Start(Loop);
  CallsArrive(kOften);
  ASSERT_TRUE(space_->Apply({Simple(MapOp::Kind::kProtect, kCode, 0x2000, kReadWrite | kProtExec)}).ok());
  std::string seen(0x40, '\0');
  ASSERT_EQ(space_->CopyIn(kCode, absl::MakeSpan(&seen[0], seen.size())), seen.size());
  EXPECT_EQ(seen, code_.substr(0, 0x40));
  CallsArrive(kOften);
  ASSERT_TRUE(space_->Apply({Simple(MapOp::Kind::kUnmap, kCode, 0x2000)}).ok());
  EXPECT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kFault);
}

TEST_F(PatchedCallTest, ForkCarriesPatchesAlong) {
  Start(Loop);
  CallsArrive(kOften);
  Result<std::unique_ptr<AddressSpace>> child = space_->Fork();
  ASSERT_TRUE(child.ok());
  context_->FullRegisters(regs_);
  auto other = TestPlatform().NewContext();
  Registers regs = regs_;
  for (uint64_t i = 1; i <= kOften; ++i) {
    ASSERT_EQ(RunGuest(*other, **child, regs).kind, Kind::kSyscall);
    ASSERT_EQ(regs.rdi, calls_ + i);
  }
  other->Detach();
  CallsArrive(kOften);
}

// Its number says nothing of what its caller wants to see: +5 is a plain `syscall`.
TEST_F(PatchedCallTest, AJumpBehindTheNumberMakesThatCall) {
  Start(Loop);
  CallsArrive(kOften);
  context_->FullRegisters(regs_);
  regs_.rip = kCode.value + 8;
  regs_.rax = 321;
  ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
  EXPECT_EQ(regs_.orig_rax, 321u);
  EXPECT_EQ(regs_.rip, kCode.value + 10);
}

TEST_F(PatchedCallTest, AGuestWithAGsBaseOfItsOwn) {
  Start(Loop);
  CallsArrive(kOften);
  for (uint64_t base : {kData.value, uint64_t{0x123456000}, uint64_t{0}}) {
    regs_.gs_base = base;
    CallsArrive(3);
    context_->FullRegisters(regs_);
    EXPECT_EQ(regs_.gs_base, base);
  }
}

TEST_F(PatchedCallTest, SteppingOverASite) {
  Start(Loop);
  CallsArrive(kOften);
  context_->FullRegisters(regs_);
  regs_.eflags |= 0x100;  // TF
  int steps = 0;
  for (; steps < 100; ++steps) {
    const Event event = RunGuest(*context_, *space_, regs_);
    if (event.kind == Kind::kSyscall) break;
    ASSERT_EQ(event.kind, Kind::kException);
    ASSERT_EQ(event.signo, SIGTRAP);
    ASSERT_LT(regs_.rip, kCode.value + 0x40);
  }
  EXPECT_LE(steps, 5);
  EXPECT_EQ(regs_.rdi, calls_ + 1);
}

TEST_F(PatchedCallTest, ManyThreadsRaceThroughASite) {
  Start(Loop);
  context_.reset();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      auto context = TestPlatform().NewContext();
      Registers regs = regs_;
      for (uint64_t i = 1; i <= 2000; ++i) {
        const Event event = RunGuest(*context, *space_, regs);
        if (event.kind != Kind::kSyscall || regs.rdi != i || regs.orig_rax != kNumber) return;
      }
      good.fetch_add(1);
      context->Detach();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good.load(), 4);
}

}  // namespace
}  // namespace caisson::platform
