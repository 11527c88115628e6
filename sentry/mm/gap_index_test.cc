#include "sentry/mm/gap_index.h"

#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace caisson::mm {
namespace {

AddrRange Range(uint64_t a, uint64_t b) { return {GuestAddr(a), GuestAddr(b)}; }

TEST(GapIndexTest, NeighboursJoinWhenReleased) {
  GapIndex gaps(Range(0, 100));
  gaps.Occupy(Range(10, 90));
  gaps.Release(Range(10, 40));
  gaps.Release(Range(60, 90));
  EXPECT_FALSE(gaps.IsFree(Range(0, 100)));
  gaps.Release(Range(40, 60));
  EXPECT_TRUE(gaps.IsFree(Range(0, 100)));
}

TEST(GapIndexTest, AgreesWithABitmap) {
  constexpr uint64_t kSize = 200;
  std::mt19937 random(1);
  GapIndex gaps(Range(0, kSize));
  std::vector<bool> used(kSize);
  for (int step = 0; step < 20000; ++step) {
    uint64_t a = random() % kSize, b = a + 1 + random() % std::min<uint64_t>(kSize - a, 9);
    b = std::min(b, kSize);
    if (random() % 2 == 0) {
      gaps.Occupy(Range(a, b));
      for (uint64_t i = a; i < b; ++i) used[i] = true;
    } else if (used[a]) {
      uint64_t end = a;
      while (end < b && used[end]) used[end++] = false;
      gaps.Release(Range(a, end));
    }
    // The first fit from above and below, within a window.
    uint64_t length = 1 + random() % 12, low = random() % kSize,
             high = low + random() % (kSize - low);
    auto fits = [&](uint64_t at) {
      if (at < low || at + length > high) return false;
      for (uint64_t i = at; i < at + length; ++i) {
        if (used[i]) return false;
      }
      return true;
    };
    int64_t expected_low = -1, expected_high = -1;
    for (uint64_t at = 0; at + length <= kSize; ++at) {
      if (!fits(at)) continue;
      if (expected_low < 0) expected_low = static_cast<int64_t>(at);
      expected_high = static_cast<int64_t>(at);
    }
    int64_t found_low = -1, found_high = -1;
    gaps.VisitUp(length, Range(low, high), [&](AddrRange gap) {
      found_low = static_cast<int64_t>(gap.start.value);
      return true;
    });
    gaps.VisitDown(length, Range(low, high), [&](AddrRange gap) {
      found_high = static_cast<int64_t>(gap.end.value - length);
      return true;
    });
    ASSERT_EQ(found_low, expected_low) << step;
    ASSERT_EQ(found_high, expected_high) << step;
  }
}

}  // namespace
}  // namespace caisson::mm
