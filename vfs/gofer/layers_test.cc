// Hosts whose root is not one plain file system. Needs root, and mounts.
#include <sys/mman.h>
#include <sys/mount.h>

#include "vfs/gofer/test_world.h"
#include "base/test_temp.h"

namespace caisson::vfs {
namespace {

// The root as an engine makes it: overlayfs over read-only layers.
class OverlayTest : public GoferTest {
 protected:
  void SetUp() override {
    std::string name = TempPattern("gofer_layers");
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    layers_ = name;
    ASSERT_EQ(system(("cd " + layers_ + " && mkdir lower upper work && cd lower && mkdir d && "
                                        "printf old > f && printf old > d/g && ln f f2")
                         .c_str()),
              0);
    Start({});
  }
  void BeforeServing() override {
    std::string options =
        "lowerdir=" + layers_ + "/lower,upperdir=" + layers_ + "/upper,workdir=" + layers_ + "/work";
    mounted_ = mount("overlay", root_.c_str(), "overlay", 0, options.c_str()) == 0;
  }
  void TearDown() override {
    StopServing();
    if (mounted_) umount2(root_.c_str(), MNT_DETACH);
    GoferTest::TearDown();
    EXPECT_EQ(system(("rm -rf " + layers_).c_str()), 0);
  }
  std::string layers_;
  bool mounted_ = false;
};

#define SKIP_WITHOUT_OVERLAY() \
  if (!mounted_) GTEST_SKIP() << "overlayfs cannot be mounted here"

// A descriptor that was opened before the host copied the file up reads the new data, but a new
// mapping of it shows the old file: mappings must be made from a fresh one.
TEST_F(OverlayTest, MappingsAfterCopyUpShowTheNewFile) {
  SKIP_WITHOUT_OVERLAY();
  RefPtr<FileDescription> reader = *ctx().Open("/f");
  EXPECT_EQ(*ctx().Read(*reader, 3), "old");
  RefPtr<FileDescription> writer = *ctx().Open("/f", kOpenReadWrite);
  EXPECT_EQ(*ctx().Write(*writer, "new"), 3u);
  ASSERT_OK(reader->Seek(ctx(), 0, 0));
  EXPECT_EQ(*ctx().Read(*reader, 3), "new");
  HostMapping m = *reader->Map(ctx(), 0, 4096, false, false);
  char* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, m.host_fd, 0));
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_EQ(std::string(p, 3), "new");
  munmap(p, 4096);
}

TEST_F(OverlayTest, MappingsAfterAChmodShowLaterWrites) {
  SKIP_WITHOUT_OVERLAY();
  RefPtr<FileDescription> reader = *ctx().Open("/f");
  ASSERT_OK(Chmod(ctx(), *ctx().Walk("/f"), 0600));
  EXPECT_EQ(ctx().Stat("/f")->mode & 07777, 0600u);
  HostMapping m = *reader->Map(ctx(), 0, 4096, true, false);
  char* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, m.host_fd, 0));
  ASSERT_NE(p, MAP_FAILED);
  ASSERT_OK(ctx().WriteFile("/f", "new"));
  EXPECT_EQ(std::string(p, 3), "new");
  munmap(p, 4096);
}

TEST_F(OverlayTest, InodesStayTheSameThroughCopyUp) {
  SKIP_WITHOUT_OVERLAY();
  uint64_t ino = ctx().Stat("/f")->ino;
  DeviceNumber dev = ctx().Stat("/f")->dev;
  RefPtr<Inode> inode = ctx().Walk("/f")->dentry->inode();
  ASSERT_OK(ctx().WriteFile("/f", "changed"));
  EXPECT_EQ(ctx().Stat("/f")->ino, ino);
  EXPECT_EQ(ctx().Stat("/f")->dev, dev);
  EXPECT_EQ(ctx().Walk("/f")->dentry->inode(), inode);
  EXPECT_EQ(ctx().Stat("/f")->size, 7u);
}

TEST_F(OverlayTest, HostChangesThroughTheMountAreSeen) {
  SKIP_WITHOUT_OVERLAY();
  EXPECT_EQ(*ctx().ReadFile("/d/g"), "old");
  RefPtr<FileDescription> reader = *ctx().Open("/d/g");
  Host("printf newer > d/g; printf x > d/h");
  EXPECT_TRUE(Soon([&] { return ctx().Stat("/d/g")->size == 5 && ctx().Stat("/d/h").ok(); }));
  EXPECT_EQ(*ctx().ReadFile("/d/g"), "newer");
  EXPECT_TRUE(Soon([&] {
    HostMapping m = *reader->Map(ctx(), 0, 4096, false, false);
    char* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, m.host_fd, 0));
    if (p == MAP_FAILED) return false;
    bool fresh = std::string(p, 5) == "newer";
    munmap(p, 4096);
    return fresh;
  }));
}

TEST_F(OverlayTest, RemovesAndReplacesLayeredFiles) {
  SKIP_WITHOUT_OVERLAY();
  ASSERT_OK(ctx().Unlink("/d/g"));
  EXPECT_EQ(ctx().List("/d")->size(), 0u);
  ASSERT_OK(ctx().Rmdir("/d"));
  ASSERT_OK(ctx().Mkdir("/d"));
  ASSERT_OK(ctx().WriteFile("/d/g", "again"));
  EXPECT_EQ(*ctx().ReadFile("/d/g"), "again");
  EXPECT_ERRNO(ctx().Rmdir("/d"), kENOTEMPTY);
}

class SubmountTest : public GoferTest {
 protected:
  void BeforeServing() override {
    ASSERT_EQ(mkdir(HostPath("sub").c_str(), 0755), 0);
    mounted_ = mount("tmpfs", HostPath("sub").c_str(), "tmpfs", 0, "") == 0;
  }
  void TearDown() override {
    StopServing();
    if (mounted_) umount2(HostPath("sub").c_str(), MNT_DETACH);
    GoferTest::TearDown();
  }
  bool mounted_ = false;
};

TEST_F(SubmountTest, WhatTheHostMountsBelowHasADeviceOfItsOwn) {
  if (!mounted_) GTEST_SKIP() << "no mounts here";
  ASSERT_OK(ctx().WriteFile("/sub/f", "x"));
  ASSERT_OK(ctx().WriteFile("/f", "x"));
  EXPECT_FALSE(ctx().Stat("/sub/f")->dev == ctx().Stat("/f")->dev);
  EXPECT_TRUE(ctx().Stat("/sub/f")->dev == ctx().Stat("/sub")->dev);
  EXPECT_ERRNO(ctx().Rename("/sub/f", "/g"), kEXDEV);
  EXPECT_ERRNO(ctx().Link("/f", "/sub/g"), kEXDEV);
}

}  // namespace
}  // namespace caisson::vfs
