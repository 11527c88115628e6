#include "platform/fake/fake_platform.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "base/unique_fd.h"

namespace caisson::platform::fake {
namespace {

constexpr GuestAddr kBase(0x400000);
constexpr Protection kReadWrite = kProtRead | kProtWrite;

MapOp Op(MapOp::Kind kind, GuestAddr addr, uint64_t length, Protection protection = kProtNone) {
  MapOp op{kind};
  op.addr = addr;
  op.length = length;
  op.protection = protection;
  return op;
}

std::string Read(AddressSpace& space, GuestAddr from, size_t n) {
  std::string out(n, '\0');
  out.resize(space.CopyIn(from, absl::MakeSpan(&out[0], n)));
  return out;
}

size_t Write(AddressSpace& space, GuestAddr to, absl::string_view text) {
  return space.CopyOut(to, text);
}

TEST(FakeAddressSpaceTest, CopiesEndWithThePages) {
  FakeAddressSpace space;
  EXPECT_EQ(Write(space, kBase, "x"), 0u);
  ASSERT_TRUE(space.Apply({Op(MapOp::Kind::kMapAnonymous, kBase, 0x2000, kReadWrite)}).ok());
  EXPECT_EQ(Write(space, kBase + 0x1ffe, "abcd"), 2u);
  EXPECT_EQ(Read(space, kBase + 0x1ffd, 10), std::string("\0ab", 3));
  ASSERT_TRUE(space.Apply({Op(MapOp::Kind::kProtect, kBase, 0x1000, kProtRead)}).ok());
  EXPECT_EQ(Write(space, kBase, "x"), 0u);
  EXPECT_EQ(space.CopyOutForced(kBase, absl::string_view("x")), 1u);
  EXPECT_EQ(Write(space, kBase, "x"), 0u);
  EXPECT_EQ(space.ProtectionAt(kBase), kProtRead);
  EXPECT_EQ(space.ProtectionAt(kBase + 0x1000), kReadWrite);
  EXPECT_EQ(space.ProtectionAt(kBase + 0x2000), std::nullopt);
}

TEST(FakeAddressSpaceTest, ForkSeparatesPrivateAndKeepsShared) {
  UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 0x1000), 0);
  FakeAddressSpace space;
  MapOp shared = Op(MapOp::Kind::kMapFile, kBase + 0x1000, 0x1000, kReadWrite);
  shared.host_fd = file.get();
  shared.shared = true;
  ASSERT_TRUE(
      space.Apply({Op(MapOp::Kind::kMapAnonymous, kBase, 0x1000, kReadWrite), shared}).ok());
  ASSERT_EQ(Write(space, kBase, "private"), 7u);
  auto child = space.Fork();
  ASSERT_TRUE(child.ok());
  ASSERT_EQ(Write(**child, kBase, "P"), 1u);
  ASSERT_EQ(Write(**child, kBase + 0x1000, "S"), 1u);
  EXPECT_EQ(Read(space, kBase, 7), "private");
  EXPECT_EQ(Read(**child, kBase, 7), "Private");
  EXPECT_EQ(Read(space, kBase + 0x1000, 1), "S");
}

TEST(FakeAddressSpaceTest, RemapMovesGrowsAndShrinks) {
  FakeAddressSpace space;
  ASSERT_TRUE(space.Apply({Op(MapOp::Kind::kMapAnonymous, kBase, 0x1000, kReadWrite)}).ok());
  ASSERT_EQ(Write(space, kBase, "data"), 4u);
  MapOp op = Op(MapOp::Kind::kRemap, kBase, 0x3000);
  op.old_length = 0x1000;
  op.new_addr = kBase + 0x10000;
  ASSERT_TRUE(space.Apply({op}).ok());
  EXPECT_EQ(Read(space, kBase, 1), "");
  EXPECT_EQ(Read(space, kBase + 0x10000, 4), "data");
  op.addr = op.new_addr;
  op.old_length = 0x3000;
  op.length = 0x5000;
  ASSERT_TRUE(space.Apply({op}).ok());
  EXPECT_EQ(Write(space, kBase + 0x14fff, "xy"), 1u);
  op.old_length = 0x5000;
  op.length = 0x1000;
  ASSERT_TRUE(space.Apply({op}).ok());
  EXPECT_EQ(space.ProtectionAt(kBase + 0x11000), std::nullopt);
}

TEST(FakeAddressSpaceTest, FailuresAreScripted) {
  FakeAddressSpace space;
  space.FailOp(1, Errno::kENOMEM);
  size_t done = 0;
  Result<void> result =
      space.Apply({Op(MapOp::Kind::kMapAnonymous, kBase, 0x1000, kReadWrite),
                   Op(MapOp::Kind::kMapAnonymous, kBase + 0x1000, 0x1000, kReadWrite)},
                  &done);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error(), Errno::kENOMEM);
  EXPECT_EQ(done, 1u);
  EXPECT_EQ(space.TakeLog().size(), 1u);
  space.FailNextFork(Errno::kEAGAIN);
  EXPECT_EQ(space.Fork().error(), Errno::kEAGAIN);
  EXPECT_TRUE(space.Fork().ok());
}

TEST(FakeContextTest, StepsComeInOrderAndInterruptsBetween) {
  FakeAddressSpace space;
  FakeContext context;
  Registers regs{};
  context.PushSyscall(39, {1, 2});
  context.Push([](AddressSpace&, Registers& r) {
    EXPECT_EQ(r.rax, 7u);
    Event event;
    event.kind = Event::Kind::kFault;
    return event;
  });
  EXPECT_EQ(context.Switch(space, regs).kind, Event::Kind::kSyscall);
  EXPECT_EQ(regs.orig_rax, 39u);
  EXPECT_EQ(regs.arg(1), 2u);
  regs.rax = 7;
  context.Interrupt();
  EXPECT_EQ(context.Switch(space, regs).kind, Event::Kind::kInterrupted);
  EXPECT_EQ(context.Switch(space, regs).kind, Event::Kind::kFault);
  std::thread interrupter([&] { context.Interrupt(); });
  EXPECT_EQ(context.Switch(space, regs).kind, Event::Kind::kInterrupted);
  interrupter.join();
  EXPECT_EQ(context.steps_left(), 0u);
}

}  // namespace
}  // namespace caisson::platform::fake
