// Guests that write to their slot and jump into the blob, on platform trap. They lose their own stub.
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
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
    const trap::ThreadBlob blob = trap::GenerateThreadBlob(notify_, 3);
    doorbell_ = blob.doorbells;
    host_calls_ = blob.host_calls;
    gate_ = blob.gate;
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
  std::vector<uint64_t> doorbell_, host_calls_;
  uint64_t gate_ = 0;
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

// Where the sentry has threads make calls, a guest may make them by itself only if they cannot harm
// anybody else; the others are its calls as any.
TEST_F(HostileTest, HostCallsOfItsOwn) {
  if (!notify_) GTEST_SKIP() << "threads make no host calls";
  struct {
    uint32_t number;
    uint64_t args[6];
    bool made;
  } calls[] = {
      {SYS_munmap, {kData.value, 0x1000}, true},
      {SYS_mmap, {kData.value, 0x1000, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED}, true},
      {SYS_madvise, {kData.value, 0x1000, MADV_DONTNEED}, true},
      {SYS_mprotect, {kData.value, 0x1000, PROT_READ}, true},
      {SYS_close_range, {trap::kHostCallFd, trap::kHostCallFd, 0}, true},
      {SYS_mprotect, {kData.value, 0x1000, PROT_READ | PROT_WRITE}, true},
      {SYS_mmap, {kData.value, 0x1000, PROT_READ, MAP_PRIVATE | MAP_FIXED, trap::kHostCallFd}, true},
      {SYS_mprotect, {kData.value, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC}, false},
      {SYS_mprotect, {kData.value, 0x1000, 0x1000000 | PROT_READ}, false},
      {SYS_mprotect, {kData.value, 0x1000, PROT_EXEC}, false},
      {SYS_mmap, {kData.value, 0x1000, PROT_READ, MAP_SHARED | MAP_FIXED, trap::kHostCallFd}, false},
      {SYS_mmap, {kData.value, 0x1000, PROT_READ, MAP_PRIVATE | MAP_FIXED, 0}, false},
      {SYS_mmap, {kData.value, 0x1000, PROT_EXEC, MAP_PRIVATE | MAP_FIXED, trap::kHostCallFd}, false},
      {SYS_mmap, {0, 0x1000, PROT_READ, MAP_PRIVATE, trap::kHostCallFd}, false},
      {SYS_mmap, {kData.value, 0x1000, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED}, false},
      {SYS_mmap, {0, 0x1000, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS}, false},
      {SYS_mmap, {stub::kControlAddr, 0x1000, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED}, false},
      {SYS_mmap, {stub::kControlAddr - 0x1000, 0x2000, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED}, false},
      {SYS_mmap, {0, 0x20000, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED}, false},
      {SYS_munmap, {stub::kBlobAddr, 0x1000}, false},
      {SYS_munmap, {kData.value, ~uint64_t{0xfff}}, false},
      {SYS_mprotect, {stub::kThreadPageAddr, 0x1000, PROT_READ}, false},
      {SYS_madvise, {kData.value, 0x1000, MADV_REMOVE}, false},
      {SYS_madvise, {trap::SlotAddress(0), 0x1000, MADV_DONTNEED}, false},
      {SYS_mremap, {kData.value, 0x1000, 0x1000, 3, stub::kControlAddr}, false},
      {SYS_close_range, {0, 63, 0}, false},
      {SYS_close_range, {63, 63, 2}, false},
  };
  std::vector<uint64_t> places = host_calls_;
  places.push_back(gate_);
  for (uint64_t at : places) {
    for (const auto& call : calls) {
      const bool made = call.made && at == gate_;
      auto space = NewSpace();
      auto context = TestPlatform().NewContext();
      Registers regs = Load(*space, [&](Code& c) {
        c.mov(c.rdi, call.args[0]);
        c.mov(c.rsi, call.args[1]);
        c.mov(c.rdx, call.args[2]);
        c.mov(c.r10, call.args[3]);
        c.mov(c.r8, call.args[4]);
        c.mov(c.r9, call.args[5]);
        // What follows there stores the result and faults, since rbx is no slot.
        c.xor_(c.ebx, c.ebx);
        c.xor_(c.ebp, c.ebp);
        c.xor_(c.r14d, c.r14d);  // Where the gate goes on.
        c.mov(c.eax, call.number);
        c.mov(c.rcx, at - 2);
        c.jmp(c.rcx);
      });
      const Event event = RunGuest(*context, *space, regs);
      EXPECT_EQ(event.kind, made ? Kind::kFault : Kind::kSyscall)
          << call.number << " " << std::hex << call.args[0] << " " << call.args[2];
      if (!made) {
        EXPECT_EQ(regs.orig_rax, call.number);
      }
      // Whatever it has done to its memory is for the sentry to change again.
      EXPECT_TRUE(space->Apply({MapAnonymous(kData, 0x1000, kReadWrite)}).ok());
      EXPECT_EQ(space->CopyOut(kData, absl::string_view("x")), 1u);
    }
  }
  BystanderWorks();
}

// While the sentry has one thread make host calls, another writes to its slot: the stub may end, the
// sentry goes on, and no call is made that it has not asked for.
TEST_F(HostileTest, AnotherThreadWritesToTheSlotDuringHostCalls) {
  if (!notify_) GTEST_SKIP() << "threads make no host calls";
  const std::vector<uint32_t> states = {trap::kGuest, trap::kCall, trap::kTrap, trap::kHost,
                                        trap::kHost | trap::kParked, trap::kTrap | trap::kSleeping, 7};
  const size_t offsets[] = {offsetof(trap::Slot, state), offsetof(trap::Slot, host_result),
                            offsetof(trap::Slot, host_left), offsetof(trap::Slot, ucontext)};
  UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 0x1000), 0);
  for (size_t offset : offsets) {
    for (uint32_t value : states) {
      auto space = NewSpace();
      auto victim = TestPlatform().NewContext(), writer = TestPlatform().NewContext();
      Registers regs = Load(*space, [](Code& c) { CallForEver(c, SYS_brk); });
      const std::string code = Assemble([&](Code& c) {
        Xbyak::Label again;
        c.L(again);
        for (size_t slot : {0, 1}) {
          c.mov(c.rdi, trap::SlotAddress(slot) + offset);
          c.mov(c.dword[c.rdi], value);
        }
        c.jmp(again);
      });
      ASSERT_TRUE(space->Apply({MapAnonymous(kCode + 0x1000, 0x1000, kReadWrite | kProtExec)}).ok());
      ASSERT_EQ(space->CopyOut(kCode + 0x1000, code), code.size());
      ASSERT_EQ(RunGuest(*victim, *space, regs).kind, Kind::kSyscall);
      std::atomic<bool> stop{false};
      std::thread other([&] {
        Registers its = regs;
        its.rip = kCode.value + 0x1000;
        while (!stop && writer->Switch(*space, its).kind != Kind::kKilled) {
        }
      });
      // Who makes its own thread hang, hangs until it is killed.
      std::thread killer([&] {
        for (int i = 0; i < 500 && !stop; ++i) usleep(1000);
        kill(space->host_pid(), SIGKILL);
      });
      for (int i = 0; i < 100; ++i) {
        bool ok = space->Apply({MapAnonymous(kData, 0x2000, kReadWrite)}).ok();
        ok = ok && space->Apply({Simple(MapOp::Kind::kProtect, kData, 0x1000, kProtRead)}).ok();
        ok = ok && space->Apply({Simple(MapOp::Kind::kProtect, kData, 0x1000, kReadWrite | kProtExec)}).ok();
        ok = ok && space->Apply({MapFile(kData, 0x1000, kProtRead, file.get(), false)}).ok();
        if (!ok || RunGuest(*victim, *space, regs).kind == Kind::kKilled) break;
      }
      stop = true;
      writer->Interrupt();
      killer.join();
      other.join();
    }
  }
  BystanderWorks();
}

// Whatever another thread says in the slot: a mapping whose end must be proven is gone when Apply() says so.
TEST_F(HostileTest, TheEndOfASharedMappingIsNotTheGuestsWord) {
  constexpr GuestAddr kShared = kData + 0x4000;
  UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 0x1000), 0);
  constexpr int kMappings = 50;
  // The thread that does not do as it is asked is killed at the first one: so again and again.
  for (int round = 0; round < 40; ++round) {
    const uint32_t value = round % 2 == 0 ? trap::kCall : trap::kTrap;
    auto space = NewSpace();
    auto victim = TestPlatform().NewContext(), writer = TestPlatform().NewContext();
    Registers regs = Load(*space, [](Code& c) { CallForEver(c, SYS_brk); });
    // "It is done", as soon as it is asked for.
    const std::string code = Assemble([value](Code& c) {
      Xbyak::Label again;
      c.mov(c.ecx, value);
      c.mov(c.rdi, trap::SlotAddress(0) + offsetof(trap::Slot, state));
      c.L(again);
      for (uint32_t asked : {trap::kHost, trap::kHost | trap::kParked}) {
        c.mov(c.eax, asked);
        c.lock();
        c.cmpxchg(c.dword[c.rdi], c.ecx);
      }
      c.jmp(again);
    });
    ASSERT_TRUE(space->Apply({MapAnonymous(kCode + 0x1000, 0x1000, kReadWrite | kProtExec)}).ok());
    ASSERT_EQ(space->CopyOut(kCode + 0x1000, code), code.size());
    for (int i = 0; i < kMappings; ++i)
      ASSERT_TRUE(space->Apply({MapFile(kShared + i * 0x1000, 0x1000, kReadWrite, file.get(), true)}).ok());
    ASSERT_EQ(RunGuest(*victim, *space, regs).kind, Kind::kSyscall);
    std::atomic<bool> stop{false}, runs{false};
    std::thread other([&] {
      Registers its = regs;
      its.rip = kCode.value + 0x1000;
      runs = true;
      while (!stop && writer->Switch(*space, its).kind != Kind::kKilled) {
      }
    });
    while (!runs) sched_yield();
    usleep(200);
    int believed = 0;
    for (int i = 0; i < kMappings; ++i) {
      MapOp unmap = Simple(MapOp::Kind::kUnmap, kShared + i * 0x1000, 0x1000);
      unmap.proven = true;
      if (!space->Apply({unmap}).ok()) break;
      char byte;
      believed += space->CopyIn(unmap.addr, absl::MakeSpan(&byte, 1)) != 0;
      if (RunGuest(*victim, *space, regs).kind == Kind::kKilled) break;
    }
    stop = true;
    writer->Interrupt();
    kill(space->host_pid(), SIGKILL);
    other.join();
    ASSERT_EQ(believed, 0) << "round " << round;
  }
  BystanderWorks();
}

}  // namespace
}  // namespace caisson::platform
