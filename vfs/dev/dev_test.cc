#include <gtest/gtest.h>
#include <sys/mman.h>

#include "vfs/dev/devtmpfs.h"
#include "vfs/dev/memory_devices.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class DevTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dev::RegisterMemoryDevices(devices_, files_);
    ctx_.ns_->set_devices(&devices_);
    ASSERT_OK(ctx_.Mkdir("/dev"));
    Result<RefPtr<FileSystem>> fs = dev::MakeDevtmpfs(
        ctx_, "", {{"net/tun", kModeChar | 0600, {10, 200}, 7, 8}});
    ASSERT_OK(fs);
    ASSERT_OK(ctx_.ns_->Add(*fs, *ctx_.Walk("/dev"), kMountNosuid, "dev"));
  }
  void TearDown() override { ctx_.ns_->set_devices(nullptr); }
  tmpfs::AnonymousFiles files_;
  DeviceRegistry devices_;
  TestWorld world_;
  TestContext ctx_{world_};
};

TEST_F(DevTest, HoldsTheStandardNames) {
  EXPECT_EQ(*ctx_.List("/dev"),
            (std::vector<std::string>{"fd", "full", "net", "null", "ptmx", "pts",
                                      "random", "shm", "stderr", "stdin", "stdout", "tty",
                                      "urandom", "zero"}));
  Attributes null = *ctx_.Stat("/dev/null");
  EXPECT_EQ(null.mode, kModeChar | 0666u);
  EXPECT_EQ(null.rdev, (DeviceNumber{1, 3}));
  Attributes tun = *ctx_.Stat("/dev/net/tun");
  EXPECT_EQ(tun.rdev, (DeviceNumber{10, 200}));
  EXPECT_EQ(tun.uid, 7u);
  EXPECT_EQ((*ctx_.Stat("/dev/shm")).mode, kModeDirectory | 01777u);
  EXPECT_EQ(*ReadLink(ctx_, *ctx_.Walk("/dev/ptmx", false)), "pts/ptmx");
}

TEST_F(DevTest, NullZeroFullAndRandom) {
  RefPtr<FileDescription> null = *ctx_.Open("/dev/null", kOpenReadWrite);
  EXPECT_EQ(*ctx_.Write(*null, "gone"), 4u);
  EXPECT_EQ(*ctx_.Read(*null, 10), "");
  RefPtr<FileDescription> zero = *ctx_.Open("/dev/zero", kOpenReadWrite);
  EXPECT_EQ(*ctx_.Read(*zero, 70000), std::string(70000, '\0'));
  RefPtr<FileDescription> full = *ctx_.Open("/dev/full", kOpenReadWrite);
  EXPECT_ERRNO(ctx_.Write(*full, "x"), kENOSPC);
  EXPECT_EQ(*ctx_.Read(*full, 3), std::string(3, '\0'));
  RefPtr<FileDescription> random = *ctx_.Open("/dev/urandom", kOpenReadWrite);
  std::string a = *ctx_.Read(*random, 100000), b = *ctx_.Read(*random, 100000);
  EXPECT_EQ(a.size(), 100000u);
  EXPECT_NE(a, b);
  EXPECT_NE(a.substr(0, 1000), a.substr(66000, 1000));
}

TEST_F(DevTest, SharedMappingsOfZeroAreFreshMemory) {
  RefPtr<FileDescription> zero = *ctx_.Open("/dev/zero", kOpenReadWrite);
  EXPECT_TRUE((*zero->Map(ctx_, 0, 4096, false, true)).anonymous);
  Result<HostMapping> a = zero->Map(ctx_, 0, 8192, true, true);
  Result<HostMapping> b = zero->Map(ctx_, 0, 8192, true, true);
  ASSERT_OK(a);
  ASSERT_OK(b);
  ASSERT_TRUE(a->replacement != nullptr);
  EXPECT_NE(a->host_fd, b->host_fd);
  EXPECT_EQ(ctx_.PathName(a->replacement->path()), "/dev/zero (deleted)");
  zero.reset();
  void* p = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, a->host_fd, 0);
  ASSERT_NE(p, MAP_FAILED);
  static_cast<char*>(p)[8191] = 'x';
  munmap(p, 8192);
  EXPECT_ERRNO((*ctx_.Open("/dev/null", kOpenReadWrite))->Map(ctx_, 0, 4096, false, false),
               kENODEV);
}

}  // namespace
}  // namespace caisson::vfs
