// Pairs that switch often are held on one CPU, and let go.
#include "platform/ptrace/placement.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "platform/testing/testing.h"

namespace caisson::platform::ptrace {
namespace {

int CpusOf(pid_t tid) {
  cpu_set_t set;
  return sched_getaffinity(tid, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : -1;
}

template <typename F>
bool Eventually(F&& done) {
  for (int i = 0; i < 10000; ++i) {
    if (done()) return true;
    usleep(1000);
  }
  return false;
}

class PlacementTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TestPlatform();
    all_ = CpusOf(0);
    if (all_ < 2) GTEST_SKIP() << "one CPU only";
    space_ = NewSpace();
    context_ = TestPlatform().NewContext();
    regs_ = Load(*space_, [](Xbyak::CodeGenerator& c) {
      Xbyak::Label loop;
      c.L(loop);
      c.syscall();
      c.jmp(loop);
    });
  }
  void TearDown() override { EXPECT_TRUE(context_ == nullptr || CpusOf(0) == all_); }
  // Switches until the pair is held.
  bool Hold() {
    for (int i = 0; i < 1'000'000; ++i) {
      RunGuest(*context_, *space_, regs_);
      if (CpusOf(0) == 1) return true;
    }
    return false;
  }

  int all_ = 0;
  std::unique_ptr<AddressSpace> space_;
  std::unique_ptr<Context> context_;
  Registers regs_{};
};

TEST_F(PlacementTest, AQuickPairIsHeldAndAWaitingOneIsLetGo) {
  ASSERT_TRUE(Hold());
  EXPECT_EQ(CpusOf(space_->host_pid()), 1);
  EXPECT_TRUE(Eventually([&] { return CpusOf(0) == all_; }));
  EXPECT_TRUE(Eventually([&] { return CpusOf(space_->host_pid()) == all_; }));
}

TEST_F(PlacementTest, TheEndOfTheThreadLetsGo) {
  ASSERT_TRUE(Hold());
  context_->Detach();
  EXPECT_EQ(CpusOf(0), all_);
  EXPECT_EQ(CpusOf(space_->host_pid()), all_);
}

TEST_F(PlacementTest, ChildrenOfAHeldPairAreFree) {
  ASSERT_TRUE(Hold());
  Result<std::unique_ptr<AddressSpace>> forked = space_->Fork();
  ASSERT_TRUE(forked.ok());
  std::thread child([&, regs = regs_]() mutable {
    auto context = TestPlatform().NewContext();
    RunGuest(*context, **forked, regs);
    EXPECT_EQ(CpusOf(0), all_);
    EXPECT_EQ(CpusOf((*forked)->host_pid()), all_);
  });
  child.join();
  context_->Detach();
}

TEST_F(PlacementTest, AComputingGuestIsFree) {
  ASSERT_TRUE(Hold());
  const std::string spin = Assemble([](Xbyak::CodeGenerator& c) {
    Xbyak::Label loop;
    c.L(loop);
    c.jmp(loop);
  });
  ASSERT_EQ(space_->CopyOut(kCode, spin), spin.size());
  regs_.rip = kCode.value;
  const pid_t tracer = gettid();
  std::atomic<bool> freed{false};
  std::thread watcher([&] {
    freed = Eventually([&] { return CpusOf(tracer) == all_; });
    context_->Interrupt();
  });
  EXPECT_EQ(context_->Switch(*space_, regs_).kind, Event::Kind::kInterrupted);
  watcher.join();
  EXPECT_TRUE(freed);
}

}  // namespace
}  // namespace caisson::platform::ptrace
