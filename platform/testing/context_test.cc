// Guest threads: what Switch() reports of system calls, faults and exceptions.
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "base/unique_fd.h"
#include "platform/testing/testing.h"
#include "platform/stub/blob.h"
#include "platform/stub/layout.h"
#include "platform/stub/xstate.h"

namespace caisson::platform {
namespace {

using Code = Xbyak::CodeGenerator;
using Kind = Event::Kind;

// One guest thread with code and data.
class ContextTest : public ::testing::Test {
 protected:
  void Start(const std::function<void(Code&)>& body) {
    space_ = NewSpace();
    context_ = TestPlatform().NewContext();
    regs_ = Load(*space_, body);
  }
  // With all registers.
  Event Next() {
    const Event event = RunGuest(*context_, *space_, regs_);
    if (all_registers_) context_->FullRegisters(regs_);
    return event;
  }

  std::unique_ptr<AddressSpace> space_;
  std::unique_ptr<Context> context_;
  Registers regs_{};
  bool all_registers_ = true;
};

TEST_F(ContextTest, RegistersMakeTheRoundTripThroughASystemCall) {
  Start([](Code& c) {
    c.syscall();
    c.add(c.rax, 1);
    c.syscall();
  });
  regs_.rax = 39;
  regs_.rdi = 1;
  regs_.r15 = 0x1234567890abcdef;
  regs_.fs_base = 0x7000;
  regs_.gs_base = 0x8000;
  Event event = Next();
  ASSERT_EQ(event.kind, Kind::kSyscall);
  EXPECT_FALSE(event.compat32);
  EXPECT_EQ(regs_.rax, 39u);
  EXPECT_EQ(regs_.orig_rax, 39u);
  EXPECT_EQ(regs_.rip, kCode.value + 2);
  EXPECT_EQ(regs_.arg(0), 1u);
  EXPECT_EQ(regs_.r15, 0x1234567890abcdefu);
  EXPECT_EQ(regs_.fs_base, 0x7000u);
  EXPECT_EQ(regs_.gs_base, 0x8000u);
  regs_.rax = 99;
  event = Next();
  ASSERT_EQ(event.kind, Kind::kSyscall);
  EXPECT_EQ(regs_.rax, 100u);
}

// A value that the kernel would take for "restart the call" must reach the guest as it is, even if
// a signal comes in between.
TEST_F(ContextTest, RestartCodesAreOrdinaryValues) {
  Start([](Code& c) {
    c.syscall();
    c.mov(c.rbx, c.rax);
    c.syscall();
  });
  regs_.rax = 0;
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  regs_.rax = static_cast<uint64_t>(-512);
  context_->Interrupt();
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  EXPECT_EQ(regs_.rbx, static_cast<uint64_t>(-512));
  EXPECT_EQ(regs_.rip, kCode.value + 7);
}

TEST_F(ContextTest, X32NumbersArrive) {
  Start([](Code& c) { c.syscall(); });
  regs_.rax = 0x40000027;
  const Event event = Next();
  ASSERT_EQ(event.kind, Kind::kSyscall);
  EXPECT_FALSE(event.compat32);
  EXPECT_EQ(regs_.orig_rax, 0x40000027u);
}

TEST_F(ContextTest, Int80IsMarkedOrAnException) {
  Start([](Code& c) { c.int_(0x80); });
  regs_.rax = 20;
  const Event event = Next();
  if (event.kind == Kind::kException) {  // A host without 32-bit emulation.
    EXPECT_EQ(event.signo, SIGSEGV);
    return;
  }
  ASSERT_EQ(event.kind, Kind::kSyscall);
  EXPECT_TRUE(event.compat32);
  EXPECT_EQ(regs_.orig_rax, 20u);
}

TEST_F(ContextTest, VsyscallIsASystemCall) {
  Start([](Code& c) {
    c.mov(c.rax, 0xffffffffff600400);  // time(2)
    c.call(c.rax);
    c.mov(c.rbx, c.rax);
    c.syscall();
  });
  Event event = Next();
  if (event.kind == Kind::kFault) GTEST_SKIP() << "the host has no vsyscall page";
  ASSERT_EQ(event.kind, Kind::kSyscall);
  EXPECT_EQ(regs_.orig_rax, static_cast<uint64_t>(SYS_time));
  regs_.rax = 77;
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  EXPECT_EQ(regs_.rbx, 77u);
}

TEST_F(ContextTest, FaultsTellAddressAndAccess) {
  Start([](Code& c) {
    c.mov(c.rax, c.qword[c.rdi]);
    c.nop(13);
    c.mov(c.qword[c.rdi], c.rax);
    c.nop(13);
    c.jmp(c.rdi);
  });
  regs_.rdi = 0x800123;
  Event event = Next();
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.signo, SIGSEGV);
  EXPECT_EQ(event.code, SEGV_MAPERR);
  EXPECT_EQ(event.address, 0x800123u);
  EXPECT_EQ(event.trap_number, 14u);
  ASSERT_TRUE(event.has_error_code);
  EXPECT_EQ(event.error_code, 4u);  // User, read, not present.
  EXPECT_EQ(event.access, Access::kRead);
  EXPECT_EQ(regs_.rip, kCode.value);
  EXPECT_EQ(regs_.rsp, kStackTop.value - 64);

  regs_.rip += 16;
  event = Next();
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.error_code, 6u);
  EXPECT_EQ(event.access, Access::kWrite);

  regs_.rip += 16;
  event = Next();
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.access, Access::kExecute);
  EXPECT_EQ(event.address, 0x800123u);
}

TEST_F(ContextTest, AWriteToReadOnlyMemoryIsAnAccessError) {
  Start([](Code& c) { c.mov(c.dword[c.rdi], 1); });
  ASSERT_TRUE(space_->Apply({Simple(MapOp::Kind::kProtect, kData, 0x1000, kProtRead)}).ok());
  regs_.rdi = kData.value + 8;
  const Event event = Next();
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.code, SEGV_ACCERR);
  EXPECT_EQ(event.access, Access::kWrite);
}

// The way to the error code goes through a signal frame; nothing of it may be left.
TEST_F(ContextTest, AFaultChangesNothingAndCanBeRepaired) {
  Start([](Code& c) {
    c.mov(c.eax, c.dword[c.rdi]);
    c.syscall();
  });
  regs_.rdi = 0x800000;
  regs_.rbx = 11;
  std::vector<char> before(TestPlatform().fp_state_size()), after(before);
  Event event = context_->Switch(*space_, regs_);
  ASSERT_EQ(event.kind, Kind::kFault);
  stub::InitialXstate(absl::MakeSpan(before));
  before[160] = 42;  // xmm0
  ASSERT_TRUE(context_->SetFpState(before).ok());
  const Registers at_fault = regs_;
  ASSERT_EQ(Next().kind, Kind::kFault);
  EXPECT_EQ(std::memcmp(&at_fault, &regs_, sizeof(regs_)), 0);
  ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(after)).ok());
  EXPECT_EQ(after[160], 42);

  ASSERT_TRUE(space_->Apply({MapAnonymous(GuestAddr(0x800000), 0x1000, kReadWrite)}).ok());
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  EXPECT_EQ(regs_.rax, 0u);
}

TEST_F(ContextTest, AccessPastTheEndOfAFileIsABusError) {
  UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  Start([](Code& c) { c.mov(c.eax, c.dword[c.rdi]); });
  ASSERT_TRUE(
      space_->Apply({MapFile(GuestAddr(0x800000), 0x1000, kProtRead, file.get(), false)}).ok());
  regs_.rdi = 0x800000;
  const Event event = Next();
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.signo, SIGBUS);
  EXPECT_EQ(event.code, BUS_ADRERR);
  EXPECT_EQ(event.address, 0x800000u);
}

struct ExceptionCase {
  const char* name;
  void (*body)(Code&);
  int signo;
  int code;
  uint64_t trap;
};

class ExceptionTest : public ::testing::TestWithParam<ExceptionCase> {};

TEST_P(ExceptionTest, IsReported) {
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Load(*space, GetParam().body);
  const Event event = RunGuest(*context, *space, regs);
  ASSERT_EQ(event.kind, Kind::kException);
  EXPECT_EQ(event.signo, GetParam().signo);
  EXPECT_EQ(event.code, GetParam().code);
  EXPECT_EQ(event.trap_number, GetParam().trap);
}

INSTANTIATE_TEST_SUITE_P(
    All, ExceptionTest,
    ::testing::Values(
        ExceptionCase{"Ud2", [](Code& c) { c.ud2(); }, SIGILL, ILL_ILLOPN, 6},
        ExceptionCase{"Int3", [](Code& c) { c.int3(); }, SIGTRAP, SI_KERNEL, 3},
        ExceptionCase{"SingleStep",
                      [](Code& c) {
                        c.pushfq();
                        c.or_(c.qword[c.rsp], 0x100);
                        c.popfq();
                        c.nop();
                        c.nop();
                      },
                      SIGTRAP, TRAP_TRACE, 1},
        ExceptionCase{"Divide",
                      [](Code& c) {
                        c.xor_(c.ecx, c.ecx);
                        c.div(c.ecx);
                      },
                      SIGFPE, FPE_INTDIV, 0},
        ExceptionCase{"Privileged", [](Code& c) { c.hlt(); }, SIGSEGV, SI_KERNEL, 13},
        ExceptionCase{"NonCanonical",
                      [](Code& c) {
                        c.mov(c.rax, 0x8000000000000000);
                        c.mov(c.rax, c.qword[c.rax]);
                      },
                      SIGSEGV, SI_KERNEL, 13}),
    [](const ::testing::TestParamInfo<ExceptionCase>& info) { return info.param.name; });

// Registers of a forged signal frame: refused by the host as the CPU would refuse them.
TEST_F(ContextTest, RegistersThatTheCpuRefusesAreAnException) {
  Start([](Code& c) { c.syscall(); });
  regs_.rax = 1;
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  const Registers good = regs_;
  regs_.cs = 0x10;
  Event event = Next();
  EXPECT_EQ(event.kind, Kind::kException);
  EXPECT_EQ(event.signo, SIGSEGV);
  regs_ = good;
  regs_.fs_base = 0x8000000000000000;
  event = Next();
  EXPECT_EQ(event.kind, Kind::kException);
  regs_ = good;
  regs_.rip = kCode.value;
  ASSERT_EQ(Next().kind, Kind::kSyscall);
}

TEST_F(ContextTest, ExtendedStateMakesTheRoundTrip) {
  Start([](Code& c) {
    c.syscall();
    c.vpaddd(c.ymm1, c.ymm0, c.ymm0);
    c.syscall();
  });
  constexpr size_t kXmm0 = 160, kHeader = 512, kYmmHigh = 576;
  std::vector<char> state(TestPlatform().fp_state_size()), got(state);
  stub::InitialXstate(absl::MakeSpan(state));
  const uint32_t values[] = {1, 2, 3, 4};
  std::memcpy(&state[kXmm0], values, 16);
  std::memcpy(&state[kYmmHigh], values, 16);
  state[kHeader] |= 4;  // AVX
  ASSERT_TRUE(context_->SetFpState(state).ok());
  ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(got)).ok());
  EXPECT_EQ(got, state);  // Before there is a host thread.
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(got)).ok());
  EXPECT_EQ(std::memcmp(&got[kXmm0], values, 16), 0);
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(got)).ok());
  const uint32_t doubled[] = {2, 4, 6, 8};
  EXPECT_EQ(std::memcmp(&got[kXmm0 + 16], doubled, 16), 0);
  EXPECT_EQ(std::memcmp(&got[kYmmHigh + 16], doubled, 16), 0);

  context_->ResetFpState();
  ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(got)).ok());
  EXPECT_EQ(got[kXmm0], 0);
  EXPECT_EQ(got[kXmm0 + 16], 0);
}

TEST_F(ContextTest, ANewThreadHasTheInitialExtendedState) {
  Start([](Code& c) { c.syscall(); });
  std::vector<char> got(TestPlatform().fp_state_size());
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(got)).ok());
  for (size_t i = 32; i < 416; ++i) EXPECT_EQ(got[i], 0) << i;  // x87 and SSE registers.
  uint32_t mxcsr;
  std::memcpy(&mxcsr, &got[24], sizeof(mxcsr));
  EXPECT_EQ(mxcsr, 0x1f80u);
}

TEST_F(ContextTest, ForgedExtendedStateIsRefused) {
  Start([](Code& c) { c.syscall(); });
  std::vector<char> good(TestPlatform().fp_state_size());
  stub::InitialXstate(absl::MakeSpan(good));
  for (bool running : {false, true}) {
    if (running) {
      ASSERT_EQ(Next().kind, Kind::kSyscall);
    }
    std::vector<char> bad = good;
    bad[27] = 1;  // A reserved bit of MXCSR.
    EXPECT_EQ(context_->SetFpState(bad).error(), Errno::kEINVAL);
    bad = good;
    bad[512 + 7] = static_cast<char>(0x80);  // XSTATE_BV bit 63.
    EXPECT_EQ(context_->SetFpState(bad).error(), Errno::kEINVAL);
    bad = good;
    bad[514] |= 2;  // AMX tile configuration.
    EXPECT_EQ(context_->SetFpState(bad).error(), Errno::kEINVAL);
    bad = good;
    bad[527] = static_cast<char>(0x80);  // XCOMP_BV: compacted.
    EXPECT_EQ(context_->SetFpState(bad).error(), Errno::kEINVAL);
    bad.resize(512);
    EXPECT_EQ(context_->SetFpState(bad).error(), Errno::kEINVAL);
    EXPECT_TRUE(context_->SetFpState(good).ok());
  }
}

TEST_F(ContextTest, TwoContextsShareAnAddressSpace) {
  Start([](Code& c) {
    c.lock();
    c.add(c.qword[c.rdi], 1);
    c.syscall();
  });
  regs_.rdi = kData.value;
  auto other = TestPlatform().NewContext();
  Registers other_regs = regs_;
  ASSERT_TRUE(other->Prepare(*space_).ok());
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  ASSERT_EQ(RunGuest(*other, *space_, other_regs).kind, Kind::kSyscall);
  EXPECT_EQ(space_->Load64(kData).value(), 2u);
  other->Detach();
  regs_.rip = kCode.value;
  ASSERT_EQ(Next().kind, Kind::kSyscall);  // The stub lives on without the other.
}

TEST_F(ContextTest, AContextMovesToAnotherAddressSpace) {
  Start([](Code& c) { c.syscall(); });
  regs_.rax = 5;
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  auto second = NewSpace();
  Registers regs = Load(*second, [](Code& c) {
    c.nop();
    c.syscall();
  });
  ASSERT_EQ(RunGuest(*context_, *second, regs).kind, Kind::kSyscall);
  EXPECT_EQ(regs.rip, kCode.value + 3);
  context_->Detach();
  regs.rip = kCode.value;
  ASSERT_EQ(RunGuest(*context_, *second, regs).kind, Kind::kSyscall);
  context_->Detach();
}

TEST_F(ContextTest, AKilledStubIsReportedForEver) {
  Start([](Code& c) { c.syscall(); });
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  ASSERT_EQ(kill(space_->host_pid(), SIGKILL), 0);
  EXPECT_EQ(Next().kind, Kind::kKilled);
  EXPECT_EQ(Next().kind, Kind::kKilled);
  EXPECT_FALSE(space_->Apply({Simple(MapOp::Kind::kUnmap, kData, 0x1000)}).ok());
  EXPECT_EQ(space_->Fork().error(), Errno::kEAGAIN);
  char byte;
  EXPECT_EQ(space_->CopyIn(kCode, absl::MakeSpan(&byte, 1)), 0u);
  auto other = TestPlatform().NewContext();
  EXPECT_EQ(RunGuest(*other, *space_, regs_).kind, Kind::kKilled);
}

TEST_F(ContextTest, SignalsFromTheHostDoNotReachTheGuest) {
  Start([](Code& c) {
    c.mov(c.ecx, 50'000'000);
    Xbyak::Label loop;
    c.L(loop);
    c.dec(c.ecx);
    c.jnz(loop);
    c.syscall();
  });
  regs_.rax = 1;
  for (int signo : {SIGTERM, SIGSEGV, SIGSTOP, SIGCONT, SIGUSR1, SIGTRAP})
    ASSERT_EQ(kill(space_->host_pid(), signo == SIGSEGV ? SIGUSR2 : signo), 0);
  EXPECT_EQ(Next().kind, Kind::kSyscall);
}

// A guest that jumps to a `syscall` instruction of ours makes an ordinary system call.
TEST_F(ContextTest, TheBlobsInstructionsGiveTheGuestNothing) {
  Start([](Code& c) { c.jmp(c.rbx); });
  const std::string code = TestBlobCode();
  int tried = 0;
  for (size_t i = 0; i + 1 < code.size(); ++i) {
    if (code[i] != 0x0f || code[i + 1] != 0x05) continue;
    regs_.rip = kCode.value;
    regs_.rbx = stub::kBlobAddr + i;
    regs_.rax = SYS_exit_group;
    ASSERT_EQ(Next().kind, Kind::kSyscall);
    EXPECT_EQ(regs_.orig_rax, static_cast<uint64_t>(SYS_exit_group));
    EXPECT_EQ(regs_.rip, stub::kBlobAddr + i + 2);
    ++tried;
  }
  EXPECT_GT(tried, 10);
  // Nor can it write there, or to what the sentry says.
  for (uint64_t address : {stub::kBlobAddr, stub::kControlAddr}) {
    const std::string write = Assemble([](Code& c) { c.mov(c.dword[c.rdi], 1); });
    ASSERT_EQ(space_->CopyOut(kCode, write), write.size());
    regs_.rip = kCode.value;
    regs_.rdi = address;
    const Event event = Next();
    ASSERT_EQ(event.kind, Kind::kFault);
    EXPECT_EQ(event.address, address);
  }
}

TEST_F(ContextTest, TheHostsVdsoWorks) {
  const AddrRange vdso = TestPlatform().vdso_range();
  ASSERT_FALSE(vdso.empty());
  EXPECT_FALSE(TestPlatform().guest_range().overlaps(vdso));
  Start([](Code& c) { c.mov(c.eax, c.dword[c.rdi]); c.syscall(); });
  regs_.rdi = vdso.start.value;
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  EXPECT_EQ(regs_.orig_rax, 0x464c457fu);  // An ELF file.
}

TEST_F(ContextTest, CpuTimeGrowsWithWork) {
  Start([](Code& c) {
    Xbyak::Label loop;
    c.L(loop);
    c.dec(c.ecx);
    c.jnz(loop);
    c.syscall();
  });
  regs_.rcx = 20'000'000;
  ASSERT_EQ(Next().kind, Kind::kSyscall);
  EXPECT_GT(context_->GuestCpuTime(), 2'000'000u);
}

}  // namespace
}  // namespace caisson::platform
