#include "base/cpu_affinity.h"

#include <thread>

#include "gtest/gtest.h"

namespace caisson {
namespace {

TEST(StayOnCpuTest, HoldsForAMoment) {
  const int all = CountCpus();
  if (all < 2) GTEST_SKIP() << "one CPU";
  for (int i = 0; i < 3; ++i) {
    StayOnCpu stay;
    EXPECT_EQ(CountCpus(), 1);
    EXPECT_EQ(stay.cpu(), sched_getcpu());
    // Who is held already stays so.
    { StayOnCpu again; }
    EXPECT_EQ(CountCpus(), 1);
  }
  EXPECT_EQ(CountCpus(), all);
}

TEST(StayOnCpuTest, WhoIsHeldElsewhereKeepsThat) {
  if (CountCpus() < 2) GTEST_SKIP() << "one CPU";
  MayHoldThreads();
  std::thread([] {
    const int cpu = sched_getcpu();
    ASSERT_TRUE(HoldOnCpu(0, cpu));
    { EXPECT_EQ(StayOnCpu().cpu(), cpu); }
    EXPECT_EQ(CountCpus(), 1);
  }).join();
}

TEST(HoldOnCpuTest, RefusesWhatThereIsNot) {
  EXPECT_FALSE(HoldOnCpu(0, -1));
  EXPECT_FALSE(HoldOnCpu(0, CPU_SETSIZE));
}

}  // namespace
}  // namespace caisson
