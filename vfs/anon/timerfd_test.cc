#include "vfs/anon/timerfd.h"

#include <cstring>

#include <gtest/gtest.h>

#include "vfs/anon/anon_inode.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

constexpr int64_t kMs = 1'000'000;

class TimerfdTest : public ::testing::Test {
 protected:
  RefPtr<Timerfd> Make(Timerfd::Clock clock = Timerfd::Clock::kMonotonic) {
    return MakeRef<Timerfd>(fs_->root(), timers_, clock, 0u);
  }
  // Waits as a blocking read would.
  uint64_t Await(Timerfd& t) {
    std::string bytes =
        WaitUntil(ctx_, *t.EventQueue(), kReadable, time::kNever, [&] { return ctx_.Read(t, 8); })
            .value();
    uint64_t n;
    memcpy(&n, bytes.data(), sizeof(n));
    return n;
  }
  TestWorld world_;
  TestContext ctx_{world_};
  RefPtr<AnonFileSystem> fs_ = MakeRef<AnonFileSystem>();
  time::TimerService timers_;
};

TEST_F(TimerfdTest, FiresOnce) {
  RefPtr<Timerfd> t = Make();
  EXPECT_ERRNO(ctx_.Read(*t, 8), kEAGAIN);
  EXPECT_ERRNO(ctx_.Read(*t, 7), kEINVAL);
  int64_t start = time::MonotonicNow();
  t->Set(0, {0, 5 * kMs});
  EXPECT_EQ(Await(*t), 1u);
  EXPECT_GE(time::MonotonicNow() - start, 5 * kMs);
  EXPECT_ERRNO(ctx_.Read(*t, 8), kEAGAIN);
  EXPECT_EQ(t->Get().value, 0);
}

TEST_F(TimerfdTest, CountsIntervalsThatPassed) {
  for (Timerfd::Clock clock : {Timerfd::Clock::kMonotonic, Timerfd::Clock::kRealtime,
                               Timerfd::Clock::kBoottime, Timerfd::Clock::kBoottimeAlarm}) {
    RefPtr<Timerfd> t = Make(clock);
    t->Set(0, {2 * kMs, 1 * kMs});
    for (int i = 0; i < 3; ++i) EXPECT_GT(Await(*t), 0u);
    int64_t pause = time::MonotonicNow();
    while (time::MonotonicNow() - pause < 10 * kMs) {
    }
    EXPECT_GE(Await(*t), 5u);
    Timerfd::Setting left = t->Get();
    EXPECT_EQ(left.interval, 2 * kMs);
    EXPECT_GT(left.value, 0);
    EXPECT_LE(left.value, 2 * kMs);
  }
}

TEST_F(TimerfdTest, AbsoluteTimesInThePastFireAtOnce) {
  RefPtr<Timerfd> t = Make(Timerfd::Clock::kRealtime);
  t->Set(kTfdAbsolute | kTfdCancelOnSet, {0, 1});
  EXPECT_EQ(Await(*t), 1u);
}

TEST_F(TimerfdTest, SettingReplacesAndReturnsTheOld) {
  RefPtr<Timerfd> t = Make();
  t->Set(0, {7 * kMs, 100'000 * kMs});
  Timerfd::Setting old = t->Set(0, {0, 0});
  EXPECT_EQ(old.interval, 7 * kMs);
  EXPECT_GT(old.value, 90'000 * kMs);
  EXPECT_EQ(t->Get().value, 0);
  EXPECT_ERRNO(ctx_.Read(*t, 8), kEAGAIN);
  t->Set(0, {0, time::kNever});  // Saturates.
  EXPECT_GT(t->Get().value, 1000 * kMs);
}

}  // namespace
}  // namespace caisson::vfs
