// What happens to stubs and host threads at execve(2) and at the ends of tasks.
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <string>
#include <vector>

#include "platform/testing/testing.h"

namespace caisson::platform {
namespace {

using Kind = Event::Kind;

// Stops with all of its registers known.
void RunToSyscall(Context& context, AddressSpace& space, Registers& regs) {
  ASSERT_EQ(RunGuest(context, space, regs).kind, Kind::kSyscall);
  context.FullRegisters(regs);
}

void StoreRegisters(Xbyak::CodeGenerator& c) {
  c.mov(c.qword[c.rdi], c.rbx);
  c.mov(c.qword[c.rdi + 8], c.rbp);
  c.mov(c.qword[c.rdi + 16], c.r15);
  c.movdqu(c.ptr[c.rdi + 32], c.xmm3);
  c.syscall();
}

void FillRegisters(Xbyak::CodeGenerator& c) {
  c.mov(c.rbx, 0x1111);
  c.mov(c.rbp, 0x2222);
  c.mov(c.r15, 0x3333);
  c.pcmpeqb(c.xmm3, c.xmm3);
  c.syscall();
}

std::vector<char> InitialState(Context& fresh) {
  std::vector<char> state(TestPlatform().fp_state_size());
  EXPECT_TRUE(fresh.GetFpState(absl::MakeSpan(state)).ok());
  return state;
}

TEST(ProgramTest, ANewProgramTakesTheAddressSpaceAndTheThread) {
  std::unique_ptr<AddressSpace> space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Load(*space, FillRegisters);
  RunToSyscall(*context, *space, regs);
  const int pid = space->host_pid();
  ASSERT_EQ(space->CopyOut(kData + 0x100, std::string("old")), 3u);

  ASSERT_TRUE(space->BeginProgram());
  const AddrRange all = TestPlatform().guest_range();
  ASSERT_TRUE(space->Apply({Simple(MapOp::Kind::kUnmap, all.start, all.length())}).ok());
  char byte;
  for (GuestAddr gone : {kCode, kData, kStackTop - 1})
    EXPECT_EQ(space->CopyIn(gone, absl::MakeSpan(&byte, 1)), 0u);

  regs = Load(*space, StoreRegisters);
  regs.rdi = kData.value;
  context->ResetFpState();
  ASSERT_EQ(RunGuest(*context, *space, regs).kind, Kind::kSyscall);
  char stored[48];
  ASSERT_EQ(space->CopyIn(kData, absl::MakeSpan(stored)), sizeof(stored));
  EXPECT_EQ(std::string(stored, sizeof(stored)), std::string(sizeof(stored), '\0'));
  EXPECT_EQ(space->CopyIn(kData + 0x100, absl::MakeSpan(stored).first(3)), 3u);
  EXPECT_EQ(std::string(stored, 3), std::string(3, '\0'));
  EXPECT_EQ(space->host_pid(), pid);
  context->Detach();
}

// One that pretended to have stopped would run on in the new program.
TEST(ProgramTest, NotWhereThreadsStopByTheirOwnWord) {
  std::unique_ptr<AddressSpace> space = NewSpace();
  Registers regs = Load(*space, [](Xbyak::CodeGenerator& c) { c.syscall(); });
  auto first = TestPlatform().NewContext(), second = TestPlatform().NewContext();
  Registers other = regs;
  RunToSyscall(*first, *space, regs);
  RunToSyscall(*second, *space, other);
  second->Detach();
  EXPECT_EQ(space->BeginProgram(), TestPlatform().name() == "ptrace");
  first->Detach();
}

TEST(ProgramTest, AThreadThatRanForAnotherIsAsNew) {
  std::unique_ptr<AddressSpace> space = NewSpace();
  Registers regs = Load(*space, FillRegisters);
  const std::vector<char> initial = InitialState(*TestPlatform().NewContext());
  for (int i = 0; i < 3; ++i) {
    auto context = TestPlatform().NewContext();
    Registers start = regs;
    RunToSyscall(*context, *space, start);
    std::vector<char> state = InitialState(*context);
    EXPECT_NE(state, initial);
    context->Detach();
  }
  regs = Load(*space, StoreRegisters);
  regs.rdi = kData.value;
  auto context = TestPlatform().NewContext();
  RunToSyscall(*context, *space, regs);
  char stored[48];
  ASSERT_EQ(space->CopyIn(kData, absl::MakeSpan(stored)), sizeof(stored));
  EXPECT_EQ(std::string(stored, sizeof(stored)), std::string(sizeof(stored), '\0'));
  EXPECT_LT(context->GuestCpuTime(), uint64_t{1'000'000'000});
  context->Detach();
}

TEST(ProgramTest, TheLastDetachEndsTheStub) {
  std::unique_ptr<AddressSpace> space = NewSpace();
  Registers regs = Load(*space, FillRegisters);
  auto context = TestPlatform().NewContext();
  RunToSyscall(*context, *space, regs);
  const int pid = space->host_pid();
  context->DetachLast(*space);
  EXPECT_FALSE(space->BeginProgram());
  EXPECT_FALSE(space->Apply({MapAnonymous(kData, 0x1000, kReadWrite)}).ok());
  space.reset();
  EXPECT_NE(kill(pid, 0), 0);
  // The context goes on elsewhere.
  space = NewSpace();
  regs = Load(*space, FillRegisters);
  RunToSyscall(*context, *space, regs);
  EXPECT_EQ(regs.r15, 0x3333u);
  context->Detach();
}

TEST(ProgramTest, TheLastDetachOfOneThatNeverRan) {
  std::unique_ptr<AddressSpace> space = NewSpace();
  auto context = TestPlatform().NewContext();
  context->DetachLast(*space);
}

}  // namespace
}  // namespace caisson::platform
