#include "gofer/server/cpu_follower.h"

#include <sched.h>

#include <thread>

#include "base/cpu_affinity.h"
#include "gtest/gtest.h"

namespace caisson::gofer {
namespace {

TEST(CpuFollowerTest, GoesWhereAllRequestsComeFromUntilOneDoesNot) {
  const int all = CountCpus();
  if (all < 2) GTEST_SKIP() << "one CPU";
  std::thread([all] {
    CpuFollower follower;
    const auto here = static_cast<uint16_t>(sched_getcpu() + 1);
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 10; ++i) follower.OnAnswered(here);
      EXPECT_EQ(CountCpus(), 1);
      EXPECT_EQ(sched_getcpu() + 1, here);
      follower.OnAnswered(here == 1 ? 2 : 1);
      EXPECT_EQ(CountCpus(), all);
    }
  }).join();
}

TEST(CpuFollowerTest, StaysFreeForTurnsAndNonsense) {
  const int all = CountCpus();
  std::thread([all] {
    CpuFollower follower;
    for (uint16_t i = 0; i < 20; ++i) follower.OnAnswered(1 + i % 2);
    for (int i = 0; i < 20; ++i) follower.OnAnswered(0);
    for (int i = 0; i < 20; ++i) follower.OnAnswered(0xffff);
    EXPECT_EQ(CountCpus(), all);
  }).join();
}

}  // namespace
}  // namespace caisson::gofer
