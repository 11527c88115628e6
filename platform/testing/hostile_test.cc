// Guests that write to their slot and jump into the blob, on platform trap. They lose their own stub.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "platform/stub/layout.h"
#include "platform/testing/testing.h"
#include "platform/trap/blob.h"
#include "platform/trap/slot.h"

namespace caisson::platform {
namespace {

using Code = Xbyak::CodeGenerator;
using Kind = Event::Kind;

class HostileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (TestPlatformName() == "ptrace") GTEST_SKIP() << "there are no slots";
    notify_ = TestPlatformName() == "trap";
    doorbell_ = trap::GenerateThreadBlob(notify_, 3).doorbells;
    space_ = NewSpace();
    bystander_ = NewSpace();
    context_ = TestPlatform().NewContext();
  }
  // Makes the sentry look at the slot: `syscall` of the blob that rings; or waits, where it looks
  // by itself.
  void Ring(Code& c) {
    Xbyak::Label here;
    if (notify_) {
      // Where a `syscall` is does not depend on the features that the blob was made for.
      c.mov(c.eax, trap::kDoorbell);
      c.mov(c.rcx, doorbell_.at(0) - 2);
      c.jmp(c.rcx);
      return;
    }
    // The sentry sleeps on the word it set: wake it.
    c.mov(c.rdi, trap::SlotAddress(0) + offsetof(trap::Slot, state));
    c.L(here);
    c.mov(c.dword[c.rdi], c.ebx);
    c.jmp(here);
  }
  void SetState(Code& c, uint32_t state) {
    c.mov(c.ebx, state);
    c.mov(c.rdi, trap::SlotAddress(0) + offsetof(trap::Slot, state));
    c.mov(c.dword[c.rdi], c.ebx);
  }
  // That of another guest process goes on.
  void BystanderWorks() {
    auto context = TestPlatform().NewContext();
    Registers regs = Load(*bystander_, [](Code& c) { c.syscall(); });
    EXPECT_EQ(RunGuest(*context, *bystander_, regs).kind, Kind::kSyscall);
  }

  bool notify_ = false;
  std::vector<uint64_t> doorbell_;
  std::unique_ptr<AddressSpace> space_, bystander_;
  std::unique_ptr<Context> context_;
};

TEST_F(HostileTest, AnImpossibleStateEndsTheStub) {
  Registers regs = Load(*space_, [this](Code& c) {
    SetState(c, 7);
    Ring(c);
  });
  EXPECT_EQ(RunGuest(*context_, *space_, regs).kind, Kind::kKilled);
  BystanderWorks();
}

TEST_F(HostileTest, AFrameOutsideItsStackEndsTheStub) {
  for (uint64_t frame : {uint64_t{0}, ~uint64_t{0}, kData.value, stub::kControlAddr,
                         trap::SlotAddress(1) + trap::kStackOffset, trap::SlotAddress(0),
                         trap::SlotAddress(0) + trap::kStackOffset + trap::kStackSize - 8}) {
    auto space = NewSpace();
    auto context = TestPlatform().NewContext();
    Registers regs = Load(*space, [&](Code& c) {
      c.mov(c.rax, frame);
      c.mov(c.rdi, trap::SlotAddress(0));
      c.mov(c.qword[c.rdi + offsetof(trap::Slot, ucontext)], c.rax);
      c.mov(c.qword[c.rdi + offsetof(trap::Slot, siginfo)], c.rax);
      SetState(c, trap::kTrap);
      Ring(c);
    });
    EXPECT_EQ(RunGuest(*context, *space, regs).kind, Kind::kKilled) << frame;
  }
  BystanderWorks();
}

TEST_F(HostileTest, AForgedCallIsACallOfThatGuest) {
  Registers regs = Load(*space_, [this](Code& c) {
    c.mov(c.rdi, trap::SlotAddress(0) + offsetof(trap::Slot, registers));
    c.mov(c.qword[c.rdi], 777);
    c.mov(c.rax, 0x7fffffffffffffff);
    c.mov(c.qword[c.rdi + offsetof(trap::CallRegisters, rip)], c.rax);
    SetState(c, trap::kCall);
    Ring(c);
  });
  ASSERT_EQ(RunGuest(*context_, *space_, regs).kind, Kind::kSyscall);
  EXPECT_EQ(regs.orig_rax, 777u);
  // Its return to where no code can be is its own fault, or end.
  const Kind kind = RunGuest(*context_, *space_, regs).kind;
  EXPECT_NE(kind, Kind::kInterrupted);
  BystanderWorks();
}

TEST_F(HostileTest, AFloodOfBellsCanBeInterrupted) {
  if (!notify_) GTEST_SKIP() << "there are no bells";
  Registers regs = Load(*space_, [this](Code& c) {
    // The handler's code after the bell goes round with the state kSleeping and no trap; it ends in a
    // fault or rings for ever. Either way the sentry stays the master.
    c.mov(c.rbx, trap::SlotAddress(0));
    c.mov(c.r12, c.rsp);
    SetState(c, trap::kGuest | trap::kSleeping);
    Ring(c);
  });
  std::thread interrupter([&] {
    for (int i = 0; i < 20; ++i) {
      usleep(1000);
      context_->Interrupt();
    }
  });
  int interrupts = 0;
  for (int i = 0; i < 100 && interrupts == 0; ++i) {
    const Event event = context_->Switch(*space_, regs);
    if (event.kind != Kind::kSyscall) ++interrupts;
  }
  interrupter.join();
  EXPECT_GT(interrupts, 0);
  BystanderWorks();
}

// What the blob's own threads may call, a guest thread may not.
TEST_F(HostileTest, CallsOfTheWorkerAreTheSentrysToAnswer) {
  const std::string code = TestBlobCode();
  const uint64_t syscall_at = code.find("\x0f\x05");
  for (uint32_t number : {SYS_mmap, SYS_mremap, SYS_clone, SYS_recvmsg, SYS_close_range,
                          SYS_seccomp, SYS_exit_group, SYS_dup3, SYS_process_vm_readv}) {
    Registers regs = Load(*space_, [&](Code& c) {
      c.mov(c.eax, number);
      c.mov(c.rcx, stub::kBlobAddr + syscall_at);
      c.jmp(c.rcx);
    });
    ASSERT_EQ(RunGuest(*context_, *space_, regs).kind, Kind::kSyscall) << number;
    EXPECT_EQ(regs.orig_rax, number);
  }
  BystanderWorks();
}

}  // namespace
}  // namespace caisson::platform
