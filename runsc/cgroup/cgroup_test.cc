// Limits, written into plain files of a temporary directory. What the kernel makes of them is
// tested by test/cli/cgroup_test.py.
#include "runsc/cgroup/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/test_temp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/cgroup/file.h"

namespace caisson::cgroup {
namespace {

class LimitsTest : public testing::Test {
 protected:
  LimitsTest() {
    std::string name = TempPattern("caisson-cgroup-test");
    dir_ = mkdtemp(name.data());
  }
  ~LimitsTest() override { std::filesystem::remove_all(dir_); }

  void Make(const std::string& name, const std::string& content = "") {
    std::ofstream(dir_ + "/" + name) << content;
  }
  std::string Content(const std::string& name) {
    std::stringstream out;
    out << std::ifstream(dir_ + "/" + name).rdbuf();
    return out.str();
  }

  std::string dir_;
  oci::Resources resources_;
};

TEST_F(LimitsTest, V1Memory) {
  for (const char* file : {"memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
                           "memory.soft_limit_in_bytes", "memory.swappiness"}) {
    Make(file);
  }
  resources_.memory_limit = 100;
  resources_.memory_swap = 200;
  resources_.memory_reservation = 50;
  resources_.memory_swappiness = 10;
  ASSERT_TRUE(ApplyV1("memory", dir_, resources_).ok());
  EXPECT_EQ(Content("memory.limit_in_bytes"), "100");
  EXPECT_EQ(Content("memory.memsw.limit_in_bytes"), "200");
  EXPECT_EQ(Content("memory.soft_limit_in_bytes"), "50");
  EXPECT_EQ(Content("memory.swappiness"), "10");
}

TEST_F(LimitsTest, V1SwapLimitWithoutSwapAccountingIsLeftOut) {
  Make("memory.limit_in_bytes");
  resources_.memory_limit = 100;
  resources_.memory_swap = 200;
  EXPECT_TRUE(ApplyV1("memory", dir_, resources_).ok());
}

TEST_F(LimitsTest, ALimitWithoutItsControllerIsAnError) {
  EXPECT_TRUE(ApplyV1("pids", "", resources_).ok());
  resources_.pids_limit = 1;
  EXPECT_FALSE(ApplyV1("pids", "", resources_).ok());
}

TEST_F(LimitsTest, V2Memory) {
  for (const char* file : {"memory.max", "memory.swap.max", "memory.low"}) Make(file);
  resources_.memory_limit = 100;
  resources_.memory_swap = 250;
  resources_.memory_reservation = 50;
  ASSERT_TRUE(ApplyV2("memory", dir_, resources_).ok());
  EXPECT_EQ(Content("memory.max"), "100");
  EXPECT_EQ(Content("memory.swap.max"), "150");
  EXPECT_EQ(Content("memory.low"), "50");
  resources_.memory_swap = 50;
  EXPECT_FALSE(ApplyV2("memory", dir_, resources_).ok());
}

TEST_F(LimitsTest, V2NoLimit) {
  for (const char* file : {"memory.max", "memory.swap.max"}) Make(file);
  resources_.memory_limit = -1;
  ASSERT_TRUE(ApplyV2("memory", dir_, resources_).ok());
  EXPECT_EQ(Content("memory.max"), "max");
  EXPECT_EQ(Content("memory.swap.max"), "max");
}

TEST_F(LimitsTest, V2Cpu) {
  for (const char* file : {"cpu.max", "cpu.weight"}) Make(file);
  resources_.cpu_shares = 1024;
  resources_.cpu_quota = 50'000;
  resources_.cpu_period = 100'000;
  ASSERT_TRUE(ApplyV2("cpu", dir_, resources_).ok());
  EXPECT_EQ(Content("cpu.weight"), "39");
  EXPECT_EQ(Content("cpu.max"), "50000 100000");
}

TEST_F(LimitsTest, V2IoThrottle) {
  Make("io.max");
  resources_.write_iops = {{8, 16, 0}};
  ASSERT_TRUE(ApplyV2("blkio", dir_, resources_).ok());
  EXPECT_EQ(Content("io.max"), "8:16 wiops=max");
}

TEST_F(LimitsTest, MemoryFilesAreOpenForReadingOrNotAtAll) {
  for (const char* file : {"memory.usage_in_bytes", "memory.limit_in_bytes"}) Make(file, "7\n");
  Cgroup group(Paths{{"memory", dir_}});
  EXPECT_FALSE(group.OpenMemoryFiles()[0]) << "without memory.stat";
  Make("memory.stat", "shmem 1\n");
  const std::array<UniqueFd, 3> files = group.OpenMemoryFiles();
  for (const UniqueFd& fd : files) {
    char text[16];
    ASSERT_TRUE(fd);
    EXPECT_GT(pread(fd.get(), text, sizeof(text), 0), 0);
    EXPECT_EQ(fcntl(fd.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  }
  EXPECT_FALSE(Cgroup().OpenMemoryFiles()[0]);
}

TEST_F(LimitsTest, UnifiedFileNamesStayInTheGroup) {
  Make("cgroup.procs");
  Cgroup group(Paths{{"", dir_}});
  for (const char* file : {"../x.y", "a/b.c", "x", ".x"}) {
    resources_.unified = {{file, "1"}};
    EXPECT_FALSE(group.Apply(resources_).ok()) << file;
  }
  Make("memory.high");
  resources_.unified = {{"memory.high", "7"}};
  EXPECT_TRUE(group.Apply(resources_).ok());
  EXPECT_EQ(Content("memory.high"), "7");
}

TEST_F(LimitsTest, StatsOfV2) {
  Make("cgroup.controllers", "cpu memory pids\n");
  Make("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 4\n");
  Make("memory.current", "10\n");
  Make("memory.max", "max\n");
  Make("memory.stat", "anon 1\nfile 2\n");
  Make("memory.events", "oom 1\noom_kill 3\n");
  Make("pids.current", "6\n");
  Make("pids.max", "max\n");
  Stats stats = Cgroup(Paths{{"", dir_}}).ReadStats();
  EXPECT_EQ(stats.cpu_total_ns, 5000u);
  EXPECT_EQ(stats.throttled_periods, 4u);
  EXPECT_EQ(stats.memory_usage, 10u);
  EXPECT_EQ(stats.memory_limit, 0u);
  EXPECT_EQ(stats.memory_cache, 2u);
  EXPECT_EQ(stats.oom_kills, 3u);
  EXPECT_EQ(stats.pids_current, 6u);
  EXPECT_EQ(stats.pids_limit, 0u);
}

TEST(CpuWeightTest, CoversTheRange) {
  EXPECT_EQ(CpuWeight(0), 0u);
  EXPECT_EQ(CpuWeight(1), 1u);
  EXPECT_EQ(CpuWeight(2), 1u);
  EXPECT_EQ(CpuWeight(1024), 39u);
  EXPECT_EQ(CpuWeight(262144), 10000u);
  EXPECT_EQ(CpuWeight(~0ull), 10000u);
}

TEST(HostPidsLimitTest, LeavesRoomForTheSandbox) {
  EXPECT_EQ(Cgroup::HostPidsLimit(1), "68");
  EXPECT_EQ(Cgroup::HostPidsLimit(-1), "max");
  EXPECT_EQ(Cgroup::HostPidsLimit(INT64_MAX), "max");
}

}  // namespace
}  // namespace caisson::cgroup
