// Guest threads: what Switch() reports.
#include <signal.h>
#include <sys/syscall.h>

#include <cstring>
#include <vector>

#include "platform/ptrace/testing.h"
#include "platform/stub/blob.h"
#include "platform/stub/layout.h"
#include "platform/stub/xstate.h"

namespace caisson::platform::ptrace {
namespace {

using Code = Xbyak::CodeGenerator;
using Kind = Event::Kind;

TEST(SyscallTest, RegistersMakeTheRoundTrip) {
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Load(*space, [](Code& c) {
    c.syscall();
    c.add(c.rax, 1);
    c.syscall();
  });
  regs.rax = 39;
  regs.rdi = 1;
  regs.r15 = 0x1234567890abcdef;
  regs.fs_base = 0x7000;
  regs.gs_base = 0x8000;
  Event event = RunGuest(*context, *space, regs);
  ASSERT_EQ(event.kind, Kind::kSyscall);
  EXPECT_FALSE(event.compat32);
  EXPECT_EQ(regs.rax, 39u);
  EXPECT_EQ(regs.orig_rax, 39u);
  EXPECT_EQ(regs.rip, kCode.value + 2);
  EXPECT_EQ(regs.arg(0), 1u);
  EXPECT_EQ(regs.r15, 0x1234567890abcdefu);
  EXPECT_EQ(regs.fs_base, 0x7000u);
  EXPECT_EQ(regs.gs_base, 0x8000u);
  regs.rax = 99;
  event = RunGuest(*context, *space, regs);
  ASSERT_EQ(event.kind, Kind::kSyscall);
  EXPECT_EQ(regs.rax, 100u);
}

}  // namespace
}  // namespace caisson::platform::ptrace
