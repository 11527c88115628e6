// Large copies in the middle of calls: wherever they are made, all arrives, faults end them at the right byte, and
// the call goes on as if nothing had been.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "platform/stub/layout.h"
#include "platform/testing/patched_call.h"

namespace caisson::platform {
namespace {

constexpr GuestAddr kBig(0x10000000);
constexpr uint64_t kArithmeticFlags = 0x8d5;
constexpr size_t kBigSize = 4 << 20, kLarge = (1 << 20) + 12345;

std::string Pattern(size_t n, uint32_t seed) {
  std::string out(n, '\0');
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
  return out;
}

class BulkCopyTest : public PatchedCallTest {
 protected:
  void SetUp() override {
    Start(Loop);
    ASSERT_TRUE(space_->Apply({MapAnonymous(kBig, kBigSize, kReadWrite)}).ok());
    CallsArrive(kOften);
  }
  size_t Out(GuestAddr to, absl::string_view bytes) {
    return space_->CopyOut(to, absl::MakeConstSpan(bytes.data(), bytes.size()));
  }
  std::string In(GuestAddr from, size_t n) {
    std::string out(n, '?');
    out.resize(space_->CopyIn(from, absl::MakeSpan(&out[0], n)));
    return out;
  }
  // What the guest's registers were is what they are, also those that only a signal's frame tells.
  void RegistersAreKept() {
    context_->FullRegisters(regs_);
    if (kept_.rip != 0) {
      EXPECT_EQ(regs_.rsp, kept_.rsp);
      EXPECT_EQ(regs_.rbx, kept_.rbx);
      EXPECT_EQ(regs_.r15, kept_.r15);
      EXPECT_EQ(regs_.eflags & ~kArithmeticFlags, kept_.eflags & ~kArithmeticFlags);
      EXPECT_EQ(regs_.gs_base, kept_.gs_base);
      EXPECT_EQ(regs_.fs_base, kept_.fs_base);
    }
    kept_ = regs_;
  }
  bool patches() const { return TestPlatformName() != "ptrace"; }

  Registers kept_{};
};

TEST_F(BulkCopyTest, AllArrives) {
  const uint64_t before = Count("bulk_copies");
  for (uint32_t i = 0; i < 40; ++i) {
    const std::string bytes = Pattern(kLarge, i);
    const GuestAddr at = kBig + i * 333;
    ASSERT_EQ(Out(at, bytes), kLarge);
    ASSERT_TRUE(In(at, kLarge) == bytes) << i;
    if (i % 8 == 7) RegistersAreKept();
    CallsArrive(1 + static_cast<int>(i % 3));
    // Also when the guest has run in between.
    ASSERT_TRUE(In(at, kLarge) == bytes) << i;
  }
  context_.reset();
  if (patches()) {
    EXPECT_GE(Count("bulk_copies") - before, 100u);
  }
}

TEST_F(BulkCopyTest, SizesAroundTheLimits) {
  constexpr size_t kBulk = stub::kBulkSize;
  for (size_t n : {size_t{1}, size_t{4096}, size_t{128 << 10}, kBulk - 1, kBulk, kBulk + 1, 2 * kBulk, 2 * kBulk + 4095, 8 * kBulk}) {
    for (size_t less : {0, 1}) {
      const std::string bytes = Pattern(n - less, static_cast<uint32_t>(n + less));
      ASSERT_EQ(Out(kBig + 7, bytes + "e"), n - less + 1);
      ASSERT_TRUE(In(kBig + 7, n - less + 1) == bytes + "e") << n;
      CallsArrive(1);
    }
  }
}

// A page that may not be written to, read, or is not there, at many places.
TEST_F(BulkCopyTest, FaultsEndItAtTheirByte) {
  const std::string bytes = Pattern(kLarge, 9);
  for (uint64_t page : {1u, 17u, 63u, 64u, 65u, 100u, 255u, 256u}) {
    const GuestAddr bad = kBig + page * kPageSize;
    ASSERT_TRUE(space_->Apply({Simple(MapOp::Kind::kProtect, bad, kPageSize, kProtRead)}).ok());
    EXPECT_EQ(Out(kBig + 5, bytes), page * kPageSize - 5);
    EXPECT_TRUE(In(kBig + 5, page * kPageSize - 5) == bytes.substr(0, page * kPageSize - 5));
    // More than once in one call, and wholly all the same.
    EXPECT_EQ(Out(kBig + 6, bytes), page * kPageSize - 6);
    EXPECT_EQ(In(kBig, kLarge).size(), kLarge);
    RegistersAreKept();
    CallsArrive(1);
    EXPECT_EQ(In(kBig, kLarge).size(), kLarge);
    ASSERT_TRUE(space_->Apply({Simple(MapOp::Kind::kProtect, bad, kPageSize, kProtNone)}).ok());
    EXPECT_EQ(In(kBig + 3, kLarge).size(), page * kPageSize - 3);
    CallsArrive(1);
    ASSERT_TRUE(space_->Apply({Simple(MapOp::Kind::kUnmap, bad, kPageSize)}).ok());
    EXPECT_EQ(In(kBig + 3, kLarge).size(), page * kPageSize - 3);
    EXPECT_EQ(Out(kBig + 3, bytes), page * kPageSize - 3);
    CallsArrive(2);
    ASSERT_TRUE(space_->Apply({MapAnonymous(bad, kPageSize, kReadWrite)}).ok());
    EXPECT_EQ(Out(kBig, bytes), kLarge);
  }
}

TEST_F(BulkCopyTest, WhatIsNotTheGuests) {
  const std::string bytes = Pattern(kLarge, 2);
  for (GuestAddr at : {GuestAddr(0), stub::kGuestRange.start, stub::kGuestRange.end, GuestAddr(stub::kSlotAddr),
                       GuestAddr(stub::kBulkAddr), GuestAddr(stub::kControlAddr), GuestAddr(uint64_t{1} << 47),
                       GuestAddr(~uint64_t{0} - 100), stub::kGuestRange.end + ~uint64_t{kLarge}}) {
    EXPECT_EQ(Out(at, bytes), 0u) << std::hex << at.value;
    CallsArrive(1);
  }
}

TEST_F(BulkCopyTest, TheSourceMayVanish) {
  const int fd = memfd_create("vanishing", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fd, kBigSize), 0);
  void* view = mmap(nullptr, kBigSize, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(view, MAP_FAILED);
  for (off_t size : {0, 4096, 300 << 10, 512 << 10, 1 << 20}) {
    ASSERT_EQ(ftruncate(fd, size), 0);
    EXPECT_EQ(Out(kBig, {static_cast<char*>(view), 2 << 20}), static_cast<size_t>(size));
    CallsArrive(1);
  }
  munmap(view, kBigSize);
  close(fd);
}

TEST_F(BulkCopyTest, AmongInterrupts) {
  Interrupter interrupter(*context_);
  const std::string bytes = Pattern(kLarge, 3);
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(Out(kBig + static_cast<uint64_t>(i), bytes), kLarge);
    if (i % 2 == 0) {
      ASSERT_TRUE(In(kBig + static_cast<uint64_t>(i), kLarge) == bytes);
    }
    CallsArrive(1);
  }
}

// The bulk pages are one process's: who finds them taken copies as ever.
TEST_F(BulkCopyTest, TwoThreadsOfAProcess) {
  std::thread other([this] {
    std::unique_ptr<Context> context = TestPlatform().NewContext();
    Registers regs = regs_;
    regs.rip = kCode.value;
    for (uint32_t i = 0; i < 400; ++i) {
      ASSERT_EQ(RunGuest(*context, *space_, regs).kind, Kind::kSyscall);
      const std::string bytes = Pattern(kLarge, i);
      ASSERT_EQ(Out(kBig + (1 << 21) - 100, bytes), kLarge);
      ASSERT_TRUE(In(kBig + (1 << 21) - 100, kLarge) == bytes);
      regs.rax = 0;
    }
  });
  for (uint32_t i = 0; i < 400; ++i) {
    const std::string bytes = Pattern(kLarge, i + 1000);
    EXPECT_EQ(Out(kBig, bytes), kLarge);
    EXPECT_TRUE(In(kBig, kLarge) == bytes);
    CallsArrive(1);
  }
  other.join();
}

// Whatever another thread of the guest makes of the slot: it ends, and reaches nothing but the guest's own.
TEST_F(BulkCopyTest, OthersWriteToTheSlot) {
  if (!patches()) GTEST_SKIP() << "there are no slots on ptrace";
  std::atomic<bool> stop{false};
  Context* writers = nullptr;
  std::atomic<bool> running{false};
  std::thread other([&] {
    std::unique_ptr<Context> context = TestPlatform().NewContext();
    writers = context.get();
    // Endlessly over the fields of the first thread's slot, but for the turn, with what the time stamp counter says.
    const std::string code = Assemble([](Code& c) {
      Xbyak::Label again;
      c.L(again);
      c.rdtsc();
      c.mov(c.rdi, stub::kSlotAddr + 4);
      c.mov(c.ecx, 0x400);
      c.rep();
      c.stosb();
      c.jmp(again);
    });
    ASSERT_TRUE(space_->Apply({MapAnonymous(kBig + kBigSize, kPageSize, kReadWrite | kProtExec)}).ok());
    ASSERT_EQ(Out(kBig + kBigSize, code), code.size());
    Registers regs = regs_;
    regs.rip = (kBig + kBigSize).value;
    running = true;
    while (!stop.load()) {
      if (context->Switch(*space_, regs).kind == Kind::kKilled) break;
    }
    while (!stop.load()) usleep(1000);
  });
  while (!running.load()) usleep(100);
  // It may be sent to any place, and stay there.
  Interrupter interrupter(*context_);
  const std::string bytes = Pattern(kLarge, 5);
  int killed = 0;
  for (int i = 0; i < 200 && killed == 0; ++i) {
    EXPECT_LE(Out(kBig, bytes), kLarge);
    EXPECT_LE(In(kBig, kLarge).size(), kLarge);
    regs_.rax = 0;
    killed += context_->Switch(*space_, regs_).kind == Kind::kKilled;
  }
  stop = true;
  writers->Interrupt();
  other.join();
}

TEST_F(BulkCopyTest, TheStubDies) {
  const std::string bytes = Pattern(kLarge, 6);
  std::thread killer([pid = space_->host_pid()] {
    usleep(20'000);
    kill(pid, SIGKILL);
  });
  size_t n;
  while ((n = Out(kBig, bytes)) == kLarge) {
  }
  EXPECT_LT(n, kLarge);
  killer.join();
  EXPECT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kKilled);
}

}  // namespace
}  // namespace caisson::platform
