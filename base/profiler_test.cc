#include "base/profiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace caisson::profiler {
namespace {

[[gnu::noinline]] uint64_t Burn(int ms) {
  uint64_t x = 1;
  const clock_t end = clock() + ms * (CLOCKS_PER_SEC / 1000);
  while (clock() < end)
    for (int i = 0; i < 1000; ++i) x = x * 6364136223846793005u + 1;
  return x;
}

int Samples(const std::string& folded) {
  int total = 0;
  for (absl::string_view line : absl::StrSplit(folded, '\n', absl::SkipEmpty())) {
    int count = 0;
    EXPECT_TRUE(absl::SimpleAtoi(line.substr(line.rfind(' ') + 1), &count)) << line;
    total += count;
  }
  return total;
}

TEST(ProfilerTest, WorkIsSampledWithItsCallers) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer keeps signals back until the next call of the C library";
#endif
  ASSERT_TRUE(Start(1000).ok());
  EXPECT_EQ(Start(1000).error(), Errno::kEBUSY);
  volatile uint64_t result = Burn(300);
  static_cast<void>(result);
  Stop();
  const std::string folded = Take();
  EXPECT_GE(Samples(folded), 20);
  // Main, gtest's machinery and the test are above what runs.
  EXPECT_THAT(folded, testing::HasSubstr(";"));
  const std::string again = Take();
  EXPECT_EQ(folded, again);
}

TEST(ProfilerTest, NothingIsSampledAfterStop) {
  ASSERT_TRUE(Start(1000).ok());
  Stop();
  const int before = Samples(Take());
  volatile uint64_t result = Burn(50);
  static_cast<void>(result);
  EXPECT_EQ(Samples(Take()), before);
}

TEST(ProfilerTest, RatesAreChecked) {
  EXPECT_EQ(Start(0).error(), Errno::kEINVAL);
  EXPECT_EQ(Start(1000000).error(), Errno::kEINVAL);
}

}  // namespace
}  // namespace caisson::profiler
