#include "base/memory_headroom.h"

#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

namespace caisson {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// Files of a cgroup whose text a test writes.
class MemoryHeadroomTest : public testing::Test {
 protected:
  UniqueFd Fake(int* writer) {
    *writer = memfd_create("cgroup", MFD_CLOEXEC);
    return UniqueFd(dup(*writer));
  }
  ~MemoryHeadroomTest() override {
    for (int fd : {usage_, limit_, statistics_}) close(fd);
  }
  static void Write(int fd, const std::string& text) {
    ASSERT_EQ(ftruncate(fd, 0), 0);
    ASSERT_EQ(pwrite(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  void Set(uint64_t usage_mib, const std::string& limit, const std::string& statistics = "") {
    Write(usage_, std::to_string(usage_mib * kMiB) + "\n");
    Write(limit_, limit + "\n");
    Write(statistics_, statistics);
    headroom_.Renew();
  }

  int usage_ = -1, limit_ = -1, statistics_ = -1;
  MemoryHeadroom headroom_{{Fake(&usage_), Fake(&limit_), Fake(&statistics_)}};
};

TEST_F(MemoryHeadroomTest, NothingIsShortWithoutFiles) {
  MemoryHeadroom none{{}};
  EXPECT_FALSE(none.limited());
  EXPECT_FALSE(none.IsShort(~uint64_t{0}));
}

TEST_F(MemoryHeadroomTest, NothingIsShortWithoutALimit) {
  for (const char* none : {"max", "9223372036854771712", "nonsense", ""}) {
    Set(100, none);
    EXPECT_FALSE(headroom_.limited()) << none;
    EXPECT_FALSE(headroom_.IsShort(1024 * kMiB)) << none;
  }
}

TEST_F(MemoryHeadroomTest, IsShortForMoreThanIsLeft) {
  Set(100, std::to_string(200 * kMiB));
  EXPECT_FALSE(headroom_.IsShort(4096));
  EXPECT_TRUE(headroom_.IsShort(95 * kMiB));
  EXPECT_TRUE(headroom_.IsShort(~uint64_t{0}));
  EXPECT_FALSE(headroom_.IsShort(4096));
}

TEST_F(MemoryHeadroomTest, LittleIsShortForAPage) {
  Set(197, std::to_string(200 * kMiB));
  EXPECT_TRUE(headroom_.IsShort(4096));
  EXPECT_TRUE(headroom_.IsShort(0));
}

TEST_F(MemoryHeadroomTest, UsageAboveTheLimitIsShort) {
  Set(300, std::to_string(200 * kMiB));
  EXPECT_TRUE(headroom_.IsShort(4096));
}

TEST_F(MemoryHeadroomTest, CleanPageCacheIsFree) {
  Set(199, std::to_string(200 * kMiB), "anon 1\nactive_file 31457280\ninactive_file 31457280\nfile_dirty 10485760\n");
  EXPECT_FALSE(headroom_.IsShort(40 * kMiB));
  EXPECT_TRUE(headroom_.IsShort(44 * kMiB));
}

TEST_F(MemoryHeadroomTest, TheTotalsOfVersion1Count) {
  Set(199, std::to_string(200 * kMiB),
      "shmem 0\ninactive_file 0\ndirty 0\ntotal_shmem 5\ntotal_inactive_file 62914560\ntotal_dirty 10485760\n");
  EXPECT_FALSE(headroom_.IsShort(40 * kMiB));
  EXPECT_TRUE(headroom_.IsShort(44 * kMiB));
  EXPECT_EQ(headroom_.shared_bytes(), 5u);
}

TEST_F(MemoryHeadroomTest, WhatIsAskedForIsRememberedUntilItMatters) {
  Set(100, std::to_string(200 * kMiB));
  ASSERT_FALSE(headroom_.IsShort(4096));
  Write(usage_, std::to_string(199 * kMiB));
  // No later than after half of what was left: by bytes here, by time where this is slow.
  int asked = 0;
  while (!headroom_.IsShort(kMiB) && asked < 1000) ++asked;
  EXPECT_LE(asked, 50);
}

TEST_F(MemoryHeadroomTest, AnAnswerGoesStaleWithTime) {
  Set(100, std::to_string(200 * kMiB));
  ASSERT_FALSE(headroom_.IsShort(4096));
  Write(usage_, std::to_string(199 * kMiB));
  usleep(120'000);
  EXPECT_TRUE(headroom_.IsShort(4096));
  Write(usage_, std::to_string(10 * kMiB));
  usleep(2'000);
  EXPECT_FALSE(headroom_.IsShort(4096));
}

TEST_F(MemoryHeadroomTest, ANewLimitIsSeenAtOnceWhenTold) {
  Set(100, "max");
  ASSERT_FALSE(headroom_.IsShort(4096));
  Write(limit_, std::to_string(101 * kMiB));
  headroom_.Renew();
  EXPECT_TRUE(headroom_.IsShort(4096));
}

TEST_F(MemoryHeadroomTest, ACgroupThatIsGoneIsNotShort) {
  Set(199, std::to_string(200 * kMiB));
  Write(usage_, "");
  EXPECT_FALSE(headroom_.IsShort(4096));
}

}  // namespace
}  // namespace caisson
