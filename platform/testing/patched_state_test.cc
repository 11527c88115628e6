// Extended state of threads in calls of patched sites.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "platform/stub/xstate.h"
#include "platform/testing/patched_call.h"

namespace caisson::platform {
namespace {

// Doubles ymm0 into ymm1, call by call.
class PatchedStateTest : public PatchedCallTest {
 protected:
  static constexpr size_t kXmm0 = 160, kHeader = 512, kYmmHigh = 576;

  void StartDoubling(uint32_t number = kNumber) {
    if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "no AVX2 here";
    Start([number](Code& c) {
      Xbyak::Label again;
      c.L(again);
      c.vpaddd(c.ymm1, c.ymm0, c.ymm0);
      c.inc(c.rdi);
      c.mov(c.eax, number);
      c.syscall();
      c.jmp(again);
    });
    state_.resize(TestPlatform().fp_state_size());
    Set(1);
  }
  void Set(uint32_t value) {
    value_ = value;
    stub::InitialXstate(absl::MakeSpan(state_));
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t low = value + i, high = value + 100 + i;
      std::memcpy(&state_[kXmm0 + 4 * i], &low, 4);
      std::memcpy(&state_[kYmmHigh + 4 * i], &high, 4);
    }
    state_[kHeader] |= 6;
    ASSERT_TRUE(context_->SetFpState(state_).ok());
  }
  // What ymm0 was set to is there, and doubled in ymm1 if the guest has run since.
  void Check(bool doubled) {
    std::vector<char> got(state_.size());
    ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(got)).ok());
    for (uint32_t i = 0; i < 4; ++i) {
      uint32_t low, high, twice_low, twice_high;
      std::memcpy(&low, &got[kXmm0 + 4 * i], 4);
      std::memcpy(&high, &got[kYmmHigh + 4 * i], 4);
      std::memcpy(&twice_low, &got[kXmm0 + 16 + 4 * i], 4);
      std::memcpy(&twice_high, &got[kYmmHigh + 16 + 4 * i], 4);
      ASSERT_EQ(low, value_ + i);
      ASSERT_EQ(high, value_ + 100 + i);
      if (!doubled) continue;
      ASSERT_EQ(twice_low, 2 * low);
      ASSERT_EQ(twice_high, 2 * high);
    }
  }

  std::vector<char> state_;
  uint32_t value_ = 0;
};

TEST_F(PatchedStateTest, ExtendedStateIsReadAndSet) {
  StartDoubling();
  const uint64_t before = Count("patched");
  for (uint32_t i = 0; i < 3 * kOften; ++i) {
    ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
    ASSERT_EQ(regs_.rdi, ++calls_);
    if (i % 3 == 0) Check(true);
    if (i % 7 == 0) context_->GeneralRegisters(regs_);
    if (i % 11 == 0) context_->FullRegisters(regs_);
    if (i % 5 == 0) Set(i);
    if (i % 13 == 0) Check(false);
    if (i % 17 == 0) context_->FullRegisters(regs_);
    if (i % 19 == 0) Set(i + 1000);
    if (i % 23 == 0) regs_.fs_base = 0x7000 + i;
    regs_.rax = 0;
  }
  context_.reset();  // It counts when it ends.
  if (TestPlatformName() != "ptrace") {
    EXPECT_GT(Count("patched") - before, uint64_t{kOften});
  }
}

TEST_F(PatchedStateTest, CopiesAndStateGoTogether) {
  StartDoubling();
  for (uint32_t i = 0; i < 2 * kOften; ++i) {
    ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
    Check(true);
    // A state that was read can be set, whatever copies have left where it was.
    std::vector<char> same(state_.size());
    ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(same)).ok());
    if (i % 4 == 2) {
      ASSERT_TRUE(context_->SetFpState(same).ok());
    }
    const uint32_t first = 2 * i, second = 2 * i + 1;
    const GuestAddr to = GuestAddr(regs_.rsp - 2048);
    const auto bytes = [](const uint32_t& v) {
      return absl::Span<const char>(reinterpret_cast<const char*>(&v), sizeof(v));
    };
    if (!context_->CopyOutLater(to, bytes(first))) space_->CopyOut(to, bytes(first));
    if (i % 2 == 0) Set(i);
    if (i % 3 == 0) Check(false);
    const std::string much(1000, static_cast<char>(0xa5));
    if (!context_->CopyOutLater(to + 8, much)) space_->CopyOut(to + 8, much);
    if (!context_->CopyOutLater(to + 4, bytes(second))) space_->CopyOut(to + 4, bytes(second));
    ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
    uint32_t got[2] = {};
    ASSERT_EQ(space_->CopyIn(to, {reinterpret_cast<char*>(got), sizeof(got)}), sizeof(got));
    ASSERT_EQ(got[0], first);
    ASSERT_EQ(got[1], second);
    Check(true);
  }
}

// Of a call that often ends with a handler: what is used goes along with it, whatever takes its place then.
class PatchedSignalCallTest : public PatchedStateTest, public testing::WithParamInterface<uint32_t> {};

TEST_P(PatchedSignalCallTest, BringsIt) {
  StartDoubling(GetParam());
  const uint64_t before = Count("patched");
  for (uint32_t i = 0; i < 3 * kOften; ++i) {
    ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
    ASSERT_EQ(regs_.rdi, ++calls_);
    if (i % 3 == 1) {
      const std::string much(1500, static_cast<char>(0xa5));
      const GuestAddr to = GuestAddr(regs_.rsp - 2048);
      if (!context_->CopyOutLater(to, much)) space_->CopyOut(to, much);
    }
    if (i % 2 == 0) {
      Check(true);
      std::vector<char> same(state_.size());
      ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(same)).ok() && context_->SetFpState(same).ok());
    }
    if (i % 5 == 0) Set(i);
    if (i % 7 == 0) {
      context_->ResetFpState();
      std::vector<char> initial(state_.size()), got(state_.size());
      stub::InitialXstate(absl::MakeSpan(initial));
      ASSERT_TRUE(context_->GetFpState(absl::MakeSpan(got)).ok());
      ASSERT_EQ(std::memcmp(&got[kXmm0], &initial[kXmm0], 256), 0);
      Set(i);
    }
    regs_.rax = 0;
  }
  context_.reset();
  EXPECT_TRUE(TestPlatformName() == "ptrace" || Count("patched") - before > kOften);
}

INSTANTIATE_TEST_SUITE_P(Calls, PatchedSignalCallTest, testing::Values(SYS_tgkill, SYS_wait4));

TEST_F(PatchedStateTest, InterruptsDoNotLoseIt) {
  StartDoubling();
  const Interrupter interrupter(*context_);
  const time_t deadline = time(nullptr) + 3;
  for (uint32_t i = 0; time(nullptr) < deadline && !HasFatalFailure(); ++i) {
    const Event event = context_->Switch(*space_, regs_);
    // An interrupted guest may stand before or after the addition.
    const bool call = event.kind == Kind::kSyscall;
    if (call) {
      EXPECT_EQ(regs_.rdi, ++calls_);
      if (calls_ != regs_.rdi) break;
      regs_.rax = 0;
    }
    if (i % 2 == 0 || !call) Check(call);
    if (call && i % 3 == 0) Set(i);
  }
  EXPECT_GT(calls_, 100u);
}

}  // namespace
}  // namespace caisson::platform
