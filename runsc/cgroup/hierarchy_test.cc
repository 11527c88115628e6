#include "runsc/cgroup/hierarchy.h"

#include "gtest/gtest.h"

namespace caisson::cgroup {
namespace {

constexpr char kV1[] =
    "30 23 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "31 30 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    "32 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:7 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
constexpr char kOwnV1[] = "3:name=systemd:/\n2:cpu,cpuacct:/user\n1:memory:/own/it\n0::/\n";
constexpr char kUnified[] = "40 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
constexpr char kV2[] = "30 23 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

TEST(HierarchyTest, AbsolutePathsStartAtTheMount) {
  Hierarchy h = Hierarchy::Parse(kV1, kOwnV1);
  EXPECT_TRUE(h.has_v1());
  EXPECT_FALSE(h.has_v2());
  EXPECT_EQ(h.PathsFor("/docker/x", "x"),
            (Paths{{"cpu", "/sys/fs/cgroup/cpu,cpuacct/docker/x"},
                   {"cpuacct", "/sys/fs/cgroup/cpu,cpuacct/docker/x"},
                   {"memory", "/sys/fs/cgroup/memory/docker/x"},
                   {"name=systemd", "/sys/fs/cgroup/systemd/docker/x"}}));
}

TEST(HierarchyTest, RelativePathsStartAtTheRuntimesOwn) {
  Paths paths = Hierarchy::Parse(kV1, kOwnV1).PathsFor("a/b", "x");
  EXPECT_EQ(paths["memory"], "/sys/fs/cgroup/memory/own/it/a/b");
  EXPECT_EQ(paths["cpu"], "/sys/fs/cgroup/cpu,cpuacct/user/a/b");
}

TEST(HierarchyTest, EmptyPathIsTheId) {
  EXPECT_EQ(Hierarchy::Parse(kV1, kOwnV1).PathsFor("", "x")["memory"],
            "/sys/fs/cgroup/memory/own/it/x");
}

TEST(HierarchyTest, NoPathClimbsOut) {
  Hierarchy h = Hierarchy::Parse(kV1, kOwnV1);
  EXPECT_EQ(h.PathsFor("/../../etc", "x")["memory"], "/sys/fs/cgroup/memory/etc");
  EXPECT_EQ(h.PathsFor("../../../../x", "x")["memory"], "/sys/fs/cgroup/memory/own/it/x");
}

TEST(HierarchyTest, HybridHasBoth) {
  Hierarchy h = Hierarchy::Parse(std::string(kV1) + kUnified, kOwnV1);
  EXPECT_TRUE(h.has_v1() && h.has_v2());
  EXPECT_FALSE(h.v2_only());
  EXPECT_EQ(h.PathsFor("/d", "x")[""], "/sys/fs/cgroup/unified/d");
}

TEST(HierarchyTest, OnV2TheStartIsTheParentOfTheRuntimesOwn) {
  Hierarchy h = Hierarchy::Parse(kV2, "0::/user.slice/session.scope\n");
  EXPECT_TRUE(h.v2_only());
  EXPECT_EQ(h.PathsFor("", "x"), (Paths{{"", "/sys/fs/cgroup/user.slice/x"}}));
  EXPECT_EQ(h.PathsFor("/docker/x", "x"), (Paths{{"", "/sys/fs/cgroup/docker/x"}}));
  EXPECT_EQ(Hierarchy::Parse(kV2, "0::/\n").PathsFor("", "x"), (Paths{{"", "/sys/fs/cgroup/x"}}));
}

TEST(HierarchyTest, MountOfASubtreeIsCountedFromItsRoot) {
  const char* mounts = "33 30 0:28 /docker/c /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
  EXPECT_EQ(Hierarchy::Parse(mounts, "1:memory:/docker/c/sub\n").PathsFor("x", "x")["memory"],
            "/sys/fs/cgroup/memory/sub/x");
  EXPECT_EQ(Hierarchy::Parse(mounts, "1:memory:/docker/c2\n").PathsFor("x", "x")["memory"],
            "/sys/fs/cgroup/memory/x");
}

TEST(HierarchyTest, EscapedMountPoint) {
  const char* mounts = "33 30 0:28 / /a\\040b/m rw - cgroup cgroup rw,memory\n";
  EXPECT_EQ(Hierarchy::Parse(mounts, "1:memory:/\n").PathsFor("x", "x")["memory"], "/a b/m/x");
}

TEST(HierarchyTest, GarbageIsPassedOver) {
  Hierarchy h =
      Hierarchy::Parse("x\n - \na b c - cgroup\n1 2 3 4 5 - cgroup2 c\n", ":::\nfoo\n1:\n");
  EXPECT_FALSE(h.has_v1() || h.has_v2());
  EXPECT_TRUE(h.PathsFor("a", "b").empty());
}

TEST(CleanPathTest, IsLexical) {
  EXPECT_EQ(CleanPath(""), "/");
  EXPECT_EQ(CleanPath("a//./b/../c/"), "/a/c");
  EXPECT_EQ(CleanPath("/.."), "/");
}

}  // namespace
}  // namespace caisson::cgroup
