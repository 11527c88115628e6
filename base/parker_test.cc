#include "base/parker.h"

#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

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

TEST(ParkerTest, LaterRingsWhenTheOutermostEnds) {
  // More than it keeps, so that some are rung at once: all wake up in any case.
  constexpr size_t kSleepers = 40;
  Parker parkers[kSleepers];
  std::atomic<size_t> awake{0}, asleep{0};
  std::vector<std::thread> sleepers;
  for (Parker& parker : parkers) {
    sleepers.emplace_back([&] {
      ++asleep;
      EXPECT_EQ(parker.Park(Parker::kNever, No), Parker::Outcome::kUnparked);
      ++awake;
    });
  }
  while (asleep != kSleepers) std::this_thread::yield();
  usleep(20'000);  // They sleep by now, most of them.
  {
    Parker::Later outer;
    {
      Parker::Later inner;
      for (Parker& parker : parkers) parker.Unpark();
    }
    usleep(20'000);
    EXPECT_LT(awake.load(), kSleepers);
  }
  for (std::thread& sleeper : sleepers) sleeper.join();
  EXPECT_EQ(awake.load(), kSleepers);
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
