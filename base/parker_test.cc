#include "base/parker.h"

#include <time.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

namespace caisson {
namespace {

int64_t Now() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1'000'000'000 + ts.tv_nsec;
}

bool No() { return false; }

TEST(ParkerTest, AMarkIsKeptOnce) {
  Parker parker;
  parker.Unpark();
  parker.Unpark();
  EXPECT_EQ(parker.Park(Parker::kNever, No), Parker::Outcome::kUnparked);
  EXPECT_EQ(parker.Park(Now() + 1'000'000, No), Parker::Outcome::kTimedOut);
}

TEST(ParkerTest, TimesOutNotBeforeItsTime) {
  Parker parker;
  EXPECT_EQ(parker.Park(-5, No), Parker::Outcome::kTimedOut);
  const int64_t deadline = Now() + 20'000'000;
  EXPECT_EQ(parker.Park(deadline, No), Parker::Outcome::kTimedOut);
  EXPECT_GE(Now(), deadline);
}

TEST(ParkerTest, NudgeLooksAgain) {
  Parker parker;
  std::atomic<bool> stop{false};
  std::thread other([&] {
    parker.Nudge();  // Nothing has changed.
    timespec ts{0, 5'000'000};
    nanosleep(&ts, nullptr);
    stop.store(true);
    parker.Nudge();
  });
  EXPECT_EQ(parker.Park(Parker::kNever, [&] { return stop.load(); }), Parker::Outcome::kStopped);
  other.join();
}

// Two that hand a turn over; a lost wake-up would hang.
TEST(ParkerTest, NoWakeUpIsLost) {
  Parker parkers[2];
  std::atomic<int> turn{0};
  constexpr int kTurns = 20'000;
  auto play = [&](int me) {
    for (int i = 0; i < kTurns; ++i) {
      while (turn.load() != me)
        ASSERT_EQ(parkers[me].Park(Parker::kNever, No), Parker::Outcome::kUnparked);
      turn.store(1 - me);
      const void* word = parkers[1 - me].Mark();
      Parker::Ring(word);
    }
  };
  std::thread other([&] { play(1); });
  play(0);
  other.join();
}

}  // namespace
}  // namespace caisson
