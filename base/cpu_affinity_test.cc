#include "base/cpu_affinity.h"

#include <thread>

#include "gtest/gtest.h"

namespace caisson {
namespace {

int Count() {
  cpu_set_t now;
  return sched_getaffinity(0, sizeof(now), &now) == 0 ? CPU_COUNT(&now) : -1;
}

TEST(StayOnCpuTest, HoldsForAMoment) {
  const int all = Count();
  if (all < 2) GTEST_SKIP() << "one CPU";
  for (int i = 0; i < 3; ++i) {
    StayOnCpu stay;
    EXPECT_EQ(Count(), 1);
    EXPECT_EQ(stay.cpu(), sched_getcpu());
    // Who is held already stays so.
    { StayOnCpu again; }
    EXPECT_EQ(Count(), 1);
  }
  EXPECT_EQ(Count(), all);
}

TEST(StayOnCpuTest, WhoIsHeldElsewhereKeepsThat) {
  if (Count() < 2) GTEST_SKIP() << "one CPU";
  UnheldCpus();
  std::thread([] {
    const int cpu = sched_getcpu();
    ASSERT_TRUE(HoldOnCpu(0, cpu));
    { EXPECT_EQ(StayOnCpu().cpu(), cpu); }
    EXPECT_EQ(Count(), 1);
  }).join();
}

TEST(HoldOnCpuTest, RefusesWhatThereIsNot) {
  EXPECT_FALSE(HoldOnCpu(0, -1));
  EXPECT_FALSE(HoldOnCpu(0, CPU_SETSIZE));
}

}  // namespace
}  // namespace caisson
