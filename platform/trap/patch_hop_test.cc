// Sites whose `syscall` has become a short jump.
#include <errno.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <string>
#include <vector>

#include "platform/trap/patch_testing.h"

namespace caisson::platform::trap {
namespace {

using Code = Xbyak::CodeGenerator;

constexpr uint32_t kGetpid = 39, kPersonality = 135, kUmask = 95;
constexpr uint64_t kMarker = 0x1234567890;

// What has no `mov` of its own: the number comes in rax, here the first argument.
void AnyCall(Code& c) {
  c.mov(c.eax, c.edi);
  c.mov(c.rdi, c.rsi);
  c.syscall();
  c.ret();
  Nop(c);
}
constexpr uint64_t kBehindAny = 7;

class PatchSetHopTest : public PatchTest {
 protected:
  void WriteAnyCall(uint64_t at = 0) { Write(AnyCall, at); }
  uint64_t Call(uint64_t number, uint64_t argument, uint64_t base = kBase) {
    return At<uint64_t(uint64_t, uint64_t)>(base)(number, argument);
  }
  bool HasJump(uint64_t at) const { return Bytes(kBase + at, 1) == "\xe9"; }
  bool HasHop(uint64_t at = 0) const { return Bytes(kBase + at + 5, 1) == "\xeb"; }
};

TEST_F(PatchSetHopTest, TheNumberIsTheOneInRax) {
  WriteAnyCall();
  MapFile(*set_);
  set_->OnTrap(kBase + kBehindAny, kUmask);
  ASSERT_TRUE(HasHop());
  FakeThread thread([](CallRegisters& r) { r.rax = r.rax * 1000 + r.rdi; });
  GsBase gs(&thread.slot());
  for (uint64_t number : {kUmask, kPersonality, kGetpid, 511u})
    EXPECT_EQ(Call(number, 7), number * 1000 + 7);
  // Only the lower half counts.
  EXPECT_EQ(Call(kUmask | uint64_t{5} << 32, 7), kUmask * 1000 + 7);
  EXPECT_EQ(thread.calls(), 5u);
  thread.page().answers = 1;
  thread.page().pid = 77;
  thread.page().egid = 78;
  EXPECT_EQ(Call(kGetpid, 7), 77u);
  EXPECT_EQ(Call(108, 7), 78u);
  EXPECT_EQ(thread.calls(), 5u);
}

TEST_F(PatchSetHopTest, CallsThatTheTrampolineCannotMakeAreMadeInTheStub) {
  WriteAnyCall();
  MapFile(*set_);
  set_->OnTrap(kBase + kBehindAny, kUmask);
  FakeThread thread([](CallRegisters& r) { r.rax = kMarker; });
  GsBase gs(&thread.slot());
  const pid_t child = static_cast<pid_t>(Call(SYS_fork, 0));
  if (child == 0) Call(SYS_exit_group, 33);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 33);
  for (uint64_t number : {uint64_t{512}, uint64_t{0x40000027}, ~uint64_t{0}})
    EXPECT_EQ(Call(number, 0), static_cast<uint64_t>(-ENOSYS));
  EXPECT_EQ(thread.calls(), 0u);
}

TEST_F(PatchSetHopTest, AGsBaseOfTheGuestsOwnMakesTheCallInTheStub) {
  WriteAnyCall();
  MapFile(*set_);
  set_->OnTrap(kBase + kBehindAny, kUmask);
  const std::vector<char> memory(4096, 1);
  GsBase gs(memory.data());
  EXPECT_EQ(Call(kGetpid, 0), static_cast<uint64_t>(getpid()));
}

TEST_F(PatchSetHopTest, StringsAndBuffersComeAlongByTheNumberInRax) {
  WriteAnyCall();
  MapFile(*set_);
  set_->OnTrap(kBase + kBehindAny, kUmask);
  FakeThread serving([](CallRegisters& r) { r.rax = 0; });
  GsBase gs(&serving.slot());
  alignas(8) const char path[] = "/a/path";
  EXPECT_EQ(Call(SYS_chdir, reinterpret_cast<uint64_t>(path)), 0u);
  EXPECT_EQ(serving.slot().copied_in, 8u);
  EXPECT_STREQ(reinterpret_cast<const char*>(&serving.slot()) + kCopyOffset, path);
}

TEST_F(PatchSetHopTest, AHopStaysWhenThePageIsUnpatched) {
  WriteAnyCall();
  Write([](Code& c) {
    c.mov(c.eax, kUmask);
    c.syscall();
    c.ret();
  }, 64);
  MapFile(*set_);
  const std::string before = Bytes(kBase, 128);
  set_->OnTrap(kBase + 64 + 7, kUmask);
  set_->OnTrap(kBase + kBehindAny, kUmask);
  ASSERT_TRUE(HasHop() && HasJump(64));
  const std::string hop = Bytes(kBase + 11, 5);
  EXPECT_EQ(hop[0], '\xe9');
  std::string copy = Bytes(kBase, 128);
  set_->Overlay(kBase, absl::MakeSpan(&copy[0], copy.size()));
  EXPECT_EQ(copy, before);
  set_->Disable();
  EXPECT_FALSE(HasHop() || HasJump(64));
  EXPECT_EQ(Bytes(kBase, 11), before.substr(0, 11));
  EXPECT_EQ(Bytes(kBase + 64, 64), before.substr(64));
  // Who stood there goes on.
  EXPECT_EQ(Bytes(kBase + 11, 5), hop);
  Registers regs{};
  regs.rip = kBase + 11;
  regs.rax = kUmask;
  EXPECT_EQ(set_->Locate(regs, CallRegisters{}), PatchSet::Place::kBefore);
  EXPECT_EQ(regs.rip, kBase + 5);
  copy = Bytes(kBase, 128);
  set_->Overlay(kBase, absl::MakeSpan(&copy[0], copy.size()));
  EXPECT_EQ(copy, before);
}

TEST_F(PatchSetHopTest, CallsFromTheStubAreTheSites) {
  WriteAnyCall();
  MapFile(*set_);
  EXPECT_EQ(set_->BehindSite(kBase + kBehindAny), kBase + kBehindAny);
  set_->OnTrap(kBase + kBehindAny, kUmask);
  uint64_t escape = 0;
  Registers regs{};
  regs.rip = kBase + 11;
  ASSERT_EQ(set_->Locate(regs, CallRegisters{}, &escape), PatchSet::Place::kBefore);
  ASSERT_EQ(Bytes(escape, 2), "\x0f\x05");
  EXPECT_EQ(set_->BehindSite(escape + 2), kBase + kBehindAny);
  EXPECT_EQ(set_->BehindSite(escape), escape);
  EXPECT_EQ(set_->BehindSite(kBase + kBehindAny), kBase + kBehindAny);
  // The call has been made, and the way back is not over.
  for (uint64_t at : {escape + 2, escape + 9}) {
    regs.rip = at;
    ASSERT_EQ(set_->Locate(regs, CallRegisters{}), PatchSet::Place::kAnswered);
    EXPECT_EQ(regs.rip, kBase + kBehindAny);
    EXPECT_EQ(regs.rcx, kBase + kBehindAny);
  }
}

}  // namespace
}  // namespace caisson::platform::trap
