#include "vfs/operations.h"

#include <gtest/gtest.h>

#include "vfs/device.h"
#include "vfs/testing/test_context.h"
#include "vfs/tmpfs/filesystem.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

constexpr uint32_t kCreate = kOpenReadWrite | kOpenCreate;

class OperationsTest : public ::testing::Test {
 protected:
  FileMode ModeOf(absl::string_view path) { return (*ctx_.Stat(path)).mode & kModePermissions; }
  TestWorld world_;
  TestContext ctx_{world_};
};

TEST_F(OperationsTest, OpenFlags) {
  ASSERT_OK(ctx_.WriteFile("/f", "text"));
  ASSERT_OK(ctx_.Mkdir("/d"));
  ASSERT_OK(ctx_.Symlink("/f", "/l"));
  ASSERT_OK(ctx_.Symlink("/made", "/dangling"));
  EXPECT_ERRNO(ctx_.Open("/none"), kENOENT);
  EXPECT_ERRNO(ctx_.Open("/f", kCreate | kOpenExclusive), kEEXIST);
  EXPECT_ERRNO(ctx_.Open("/l", kCreate | kOpenExclusive), kEEXIST);
  EXPECT_ERRNO(ctx_.Open("/l", kOpenNoFollow), kELOOP);
  EXPECT_ERRNO(ctx_.Open("/f", kOpenDirectory), kENOTDIR);
  EXPECT_ERRNO(ctx_.Open("/d", kOpenWriteOnly), kEISDIR);
  EXPECT_ERRNO(ctx_.Open("/d", kCreate), kEISDIR);
  EXPECT_ERRNO(ctx_.Open("/d", kOpenCreate), kEISDIR);
  EXPECT_ERRNO(ctx_.Open("/new/", kCreate), kEISDIR);
  EXPECT_ERRNO(ctx_.Open("/new", kOpenCreate | kOpenDirectory), kEINVAL);
  EXPECT_ERRNO(ctx_.Open("/f/", kOpenReadOnly), kENOTDIR);
  ASSERT_OK(ctx_.Open("/dangling", kCreate));
  ASSERT_OK(ctx_.Stat("/made"));
  ASSERT_OK(ctx_.Open("/f", kOpenWriteOnly | kOpenTruncate));
  EXPECT_EQ((*ctx_.Stat("/f")).size, 0u);
}

TEST_F(OperationsTest, CreationModeAndUmask) {
  ctx_.umask_ = 027;
  ASSERT_OK(ctx_.Open("/f", kCreate, 0777));
  EXPECT_EQ(ModeOf("/f"), 0750u);
  ASSERT_OK(ctx_.Mkdir("/d", 01777));
  EXPECT_EQ(ModeOf("/d"), 01750u);
  // A file made without permission for its owner is open all the same.
  ctx_.BecomeUser(0, 0);
  RefPtr<FileDescription> f = *ctx_.Open("/g", kCreate, 0);
  EXPECT_EQ(*ctx_.Write(*f, "x"), 1u);
  EXPECT_ERRNO(ctx_.Open("/g", kOpenReadWrite), kEACCES);
}

TEST_F(OperationsTest, AccessModeIsEnforced) {
  ASSERT_OK(ctx_.WriteFile("/f", "text"));
  RefPtr<FileDescription> ro = *ctx_.Open("/f", kOpenReadOnly);
  RefPtr<FileDescription> wo = *ctx_.Open("/f", kOpenWriteOnly);
  RefPtr<FileDescription> path = *ctx_.Open("/f", kOpenPath);
  EXPECT_ERRNO(ctx_.Write(*ro, "x"), kEBADF);
  EXPECT_ERRNO(ctx_.Read(*wo, 1), kEBADF);
  EXPECT_ERRNO(ctx_.Read(*path, 1), kEBADF);
  EXPECT_ERRNO(FileChmod(ctx_, *path, 0), kEBADF);
  EXPECT_ERRNO(FileTruncate(ctx_, *ro, 0), kEINVAL);
  ASSERT_OK(path->GetAttributes(ctx_));
  RefPtr<FileDescription> again = *OpenPath(ctx_, path->path(), kOpenReadOnly);
  EXPECT_EQ(*ctx_.Read(*again, 10), "text");
  RefPtr<FileDescription> dir = *ctx_.Open("/", kOpenDirectory);
  EXPECT_ERRNO(ctx_.Read(*dir, 1), kEISDIR);
}

TEST_F(OperationsTest, BytesLeftToRead) {
  ASSERT_OK(ctx_.WriteFile("/f", "0123456789"));
  RefPtr<FileDescription> f = *ctx_.Open("/f");
  ASSERT_OK(ctx_.Read(*f, 4));
  int32_t left = 0;
  ASSERT_OK(f->Ioctl(ctx_, 0x541B, reinterpret_cast<uint64_t>(&left)));
  EXPECT_EQ(left, 6);
  EXPECT_ERRNO(f->Ioctl(ctx_, 0x541B, 0), kEFAULT);
  EXPECT_ERRNO(f->Ioctl(ctx_, 0x5401, 0), kENOTTY);
}

TEST_F(OperationsTest, ExecutionDeniesWritingAndBack) {
  ASSERT_OK(ctx_.WriteFile("/x", "#!", 0755));
  {
    RefPtr<FileDescription> writer = *ctx_.Open("/x", kOpenWriteOnly);
    EXPECT_ERRNO(OpenForExec(ctx_, ctx_.cwd_, "/x", {}), kETXTBSY);
  }
  RefPtr<FileDescription> exec = *OpenForExec(ctx_, ctx_.cwd_, "/x", {});
  EXPECT_ERRNO(ctx_.Open("/x", kOpenWriteOnly), kETXTBSY);
  EXPECT_ERRNO(Truncate(ctx_, *ctx_.Walk("/x"), 0), kETXTBSY);
  exec->inode()->AllowWrites();
  ASSERT_OK(ctx_.Open("/x", kOpenWriteOnly));
  ASSERT_OK(ctx_.WriteFile("/plain", "", 0644));
  EXPECT_ERRNO(OpenForExec(ctx_, ctx_.cwd_, "/plain", {}), kEACCES);
  EXPECT_ERRNO(OpenForExec(ctx_, ctx_.cwd_, "/", {}), kEACCES);
}

TEST_F(OperationsTest, NamesThatCannotBeMade) {
  ASSERT_OK(ctx_.Mkdir("/d"));
  ASSERT_OK(ctx_.WriteFile("/f", ""));
  EXPECT_ERRNO(ctx_.Mkdir("/d"), kEEXIST);
  EXPECT_ERRNO(ctx_.Mkdir("/"), kEEXIST);
  EXPECT_ERRNO(ctx_.Mkdir("."), kEEXIST);
  EXPECT_ERRNO(ctx_.Mkdir("/none/x"), kENOENT);
  EXPECT_ERRNO(ctx_.Mkdir("/f/x"), kENOTDIR);
  ASSERT_OK(ctx_.Mkdir("/slash/"));
  EXPECT_ERRNO(ctx_.Symlink("x", "/s/"), kENOENT);
  EXPECT_ERRNO(ctx_.Symlink("", "/s"), kENOENT);
  EXPECT_ERRNO(Mknod(ctx_, ctx_.cwd_, "/n", kModeDirectory | 0755, {}), kEPERM);
  EXPECT_ERRNO(ctx_.Link("/d", "/hard"), kEPERM);
  EXPECT_ERRNO(ctx_.Unlink("/d"), kEISDIR);
  EXPECT_ERRNO(ctx_.Unlink("/"), kEISDIR);
  EXPECT_ERRNO(ctx_.Unlink("/f/"), kENOTDIR);
  EXPECT_ERRNO(ctx_.Rmdir("/f"), kENOTDIR);
  EXPECT_ERRNO(ctx_.Rmdir("/d/."), kEINVAL);
  EXPECT_ERRNO(ctx_.Rmdir("/d/.."), kENOTEMPTY);
  EXPECT_ERRNO(ctx_.Rmdir("/"), kEBUSY);
  ASSERT_OK(ctx_.WriteFile("/d/in", ""));
  EXPECT_ERRNO(ctx_.Rmdir("/d"), kENOTEMPTY);
}

TEST_F(OperationsTest, RenameRules) {
  ASSERT_OK(ctx_.Mkdir("/d"));
  ASSERT_OK(ctx_.Mkdir("/d/e"));
  ASSERT_OK(ctx_.Mkdir("/empty"));
  ASSERT_OK(ctx_.WriteFile("/f", "f"));
  ASSERT_OK(ctx_.WriteFile("/g", "g"));
  EXPECT_ERRNO(ctx_.Rename("/d", "/d/e/x"), kEINVAL);
  EXPECT_ERRNO(ctx_.Rename("/empty", "/d"), kENOTEMPTY);
  EXPECT_ERRNO(ctx_.Rename("/d/e", "/d"), kENOTEMPTY);
  EXPECT_ERRNO(ctx_.Rename("/f", "/d"), kEISDIR);
  EXPECT_ERRNO(ctx_.Rename("/d", "/f"), kENOTDIR);
  EXPECT_ERRNO(ctx_.Rename("/f", "/x/"), kENOTDIR);
  EXPECT_ERRNO(ctx_.Rename("/none", "/x"), kENOENT);
  EXPECT_ERRNO(ctx_.Rename("/d/.", "/x"), kEBUSY);
  EXPECT_ERRNO(ctx_.Rename("/f", "/g", kRenameNoReplace), kEEXIST);
  EXPECT_ERRNO(ctx_.Rename("/f", "/x", kRenameExchange), kENOENT);
  EXPECT_ERRNO(ctx_.Rename("/f", "/g", kRenameExchange | kRenameNoReplace), kEINVAL);
  EXPECT_ERRNO(ctx_.Rename("/f", "/g", 8), kEINVAL);
  ASSERT_OK(ctx_.Rename("/f", "/d/e", kRenameExchange));
  EXPECT_EQ(*ctx_.ReadFile("/d/e"), "f");
  EXPECT_TRUE((*ctx_.Stat("/f")).is_directory());
  EXPECT_EQ((*ctx_.Stat("/d")).nlink, 2u);
  ASSERT_OK(ctx_.Rename("/d/e", "/g"));
  EXPECT_EQ(*ctx_.ReadFile("/g"), "f");
  ASSERT_OK(ctx_.Link("/g", "/h"));
  ASSERT_OK(ctx_.Rename("/g", "/h"));  // Two names of one file: both stay.
  ASSERT_OK(ctx_.Stat("/g"));
  ASSERT_OK(ctx_.Rename("/g", "/w", kRenameWhiteout));
  EXPECT_EQ((*ctx_.Stat("/g")).mode & kModeType, kModeChar);
  ASSERT_OK(ctx_.Rename("/d", "/empty"));
  EXPECT_ERRNO(ctx_.Stat("/d"), kENOENT);
}

TEST_F(OperationsTest, OpenDirectoryKeepsItsNameAcrossRename) {
  ASSERT_OK(ctx_.Mkdir("/a"));
  ASSERT_OK(ctx_.Mkdir("/b"));
  ASSERT_OK(ctx_.Mkdir("/a/c"));
  VfsPath c = *ctx_.Walk("/a/c");
  ASSERT_OK(ctx_.Rename("/a/c", "/b/d"));
  EXPECT_EQ(ctx_.PathName(c), "/b/d");
  ctx_.cwd_ = c;
  EXPECT_EQ(ctx_.PathName(*ctx_.Walk("..")), "/b");
  EXPECT_EQ(*ctx_.Walk("/b/d"), c);
}

TEST_F(OperationsTest, TmpfileGetsANameByLinking) {
  ASSERT_OK(ctx_.Mkdir("/d"));
  EXPECT_ERRNO(ctx_.Open("/d", kOpenTmpfile), kEINVAL);
  RefPtr<FileDescription> f = *ctx_.Open("/d", kOpenTmpfile | kOpenReadWrite, 0600);
  ASSERT_EQ(*ctx_.Write(*f, "data"), 4u);
  EXPECT_TRUE((*ctx_.List("/d")).empty());
  EXPECT_EQ((*f->GetAttributes(ctx_)).nlink, 0u);
  ASSERT_OK(Link(ctx_, f->path(), ctx_.cwd_, "/d/named"));
  EXPECT_EQ(*ctx_.ReadFile("/d/named"), "data");
  RefPtr<FileDescription> g =
      *ctx_.Open("/d", kOpenTmpfile | kOpenReadWrite | kOpenExclusive, 0600);
  EXPECT_ERRNO(Link(ctx_, g->path(), ctx_.cwd_, "/d/other"), kENOENT);
}

TEST_F(OperationsTest, UnlinkedFilesCannotBeLinkedAgain) {
  ASSERT_OK(ctx_.WriteFile("/f", ""));
  RefPtr<FileDescription> f = *ctx_.Open("/f");
  ASSERT_OK(ctx_.Unlink("/f"));
  EXPECT_ERRNO(Link(ctx_, f->path(), ctx_.cwd_, "/g"), kENOENT);
}

TEST_F(OperationsTest, ReadOnlyMounts) {
  ASSERT_OK(ctx_.WriteFile("/f", "x"));
  RefPtr<FileDescription> writer = *ctx_.Open("/f", kOpenWriteOnly);
  EXPECT_ERRNO(ctx_.ns_->RemountFlags(ctx_.root_, kMountReadOnly), kEBUSY);
  writer.reset();
  ASSERT_OK(ctx_.ns_->RemountFlags(ctx_.root_, kMountReadOnly));
  EXPECT_ERRNO(ctx_.Open("/f", kOpenWriteOnly), kEROFS);
  EXPECT_ERRNO(ctx_.Open("/f", kOpenReadOnly | kOpenTruncate), kEROFS);
  EXPECT_ERRNO(ctx_.Open("/new", kCreate), kEROFS);
  ASSERT_OK(ctx_.Open("/f", kOpenReadOnly | kOpenCreate));
  EXPECT_ERRNO(ctx_.Mkdir("/f"), kEEXIST);
  EXPECT_ERRNO(ctx_.Mkdir("/d"), kEROFS);
  EXPECT_ERRNO(ctx_.Unlink("/f"), kEROFS);
  EXPECT_ERRNO(Chmod(ctx_, *ctx_.Walk("/f"), 0), kEROFS);
  EXPECT_ERRNO(Access(ctx_, *ctx_.Walk("/f"), kMayWrite), kEROFS);
  EXPECT_ERRNO(SetXattr(ctx_, *ctx_.Walk("/f"), "user.a", "", 0), kEROFS);
  ASSERT_OK(ctx_.ns_->RemountFlags(ctx_.root_, 0));
  ASSERT_OK(ctx_.Unlink("/f"));
}

TEST_F(OperationsTest, SetIdBitsAreDroppedByOthersWrites) {
  ASSERT_OK(ctx_.WriteFile("/f", "x"));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/f"), 06777));
  ASSERT_OK(ctx_.WriteFile("/f", "y"));
  EXPECT_EQ(ModeOf("/f"), 06777u);  // Root has CAP_FSETID.
  ASSERT_OK(SetXattr(ctx_, *ctx_.Walk("/f"), "security.capability", "caps", 0));
  ctx_.BecomeUser(1000, 1000);
  RefPtr<FileDescription> f = *ctx_.Open("/f", kOpenWriteOnly);
  ASSERT_EQ(*ctx_.Write(*f, "z"), 1u);
  EXPECT_EQ(ModeOf("/f"), 0777u);
  EXPECT_ERRNO(GetXattr(ctx_, *ctx_.Walk("/f"), "security.capability"), kENODATA);
  ctx_.BecomeRoot();
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/f"), 06777));
  ASSERT_OK(Chown(ctx_, *ctx_.Walk("/f"), 5, std::nullopt));
  EXPECT_EQ(ModeOf("/f"), 0777u);
}

TEST_F(OperationsTest, TimesNeedOwnerOrWritePermission) {
  ASSERT_OK(ctx_.WriteFile("/f", "x", 0666));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/f"), 0666));
  VfsPath f = *ctx_.Walk("/f");
  SetAttributes::Time t{.now = false, .at = {100, 7}};
  ASSERT_OK(SetTimes(ctx_, f, t, std::nullopt, false));
  EXPECT_EQ((*ctx_.Stat("/f")).atime, (Timestamp{100, 7}));
  ctx_.BecomeUser(1000, 1000);
  EXPECT_ERRNO(SetTimes(ctx_, f, t, t, false), kEPERM);
  ASSERT_OK(SetTimes(ctx_, f, {}, {}, true));
  EXPECT_GT((*ctx_.Stat("/f")).mtime.sec, 100);
}

TEST_F(OperationsTest, AccessTimesAreRelative) {
  ASSERT_OK(ctx_.WriteFile("/f", "x"));
  VfsPath f = *ctx_.Walk("/f");
  SetAttributes::Time old{.now = false, .at = {100, 0}};
  ASSERT_OK(SetTimes(ctx_, f, old, std::nullopt, false));
  ASSERT_OK(ctx_.ReadFile("/f"));
  Timestamp first = (*ctx_.Stat("/f")).atime;
  EXPECT_GT(first.sec, 100);
  ASSERT_OK(ctx_.ReadFile("/f"));
  EXPECT_EQ((*ctx_.Stat("/f")).atime, first);
  ASSERT_OK(SetTimes(ctx_, f, old, std::nullopt, false));
  ASSERT_OK(ctx_.ns_->RemountFlags(ctx_.root_, kMountNoatime));
  ASSERT_OK(ctx_.ReadFile("/f"));
  EXPECT_EQ((*ctx_.Stat("/f")).atime.sec, 100);
}

TEST_F(OperationsTest, StickyDirectories) {
  ASSERT_OK(ctx_.Mkdir("/tmp"));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/tmp"), 01777));
  ctx_.BecomeUser(1000, 1000);
  ASSERT_OK(ctx_.WriteFile("/tmp/mine", "", 0666));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/tmp/mine"), 0666));
  ctx_.BecomeUser(1001, 1001);
  EXPECT_ERRNO(ctx_.Unlink("/tmp/mine"), kEPERM);
  EXPECT_ERRNO(ctx_.Rename("/tmp/mine", "/tmp/yours"), kEPERM);
  // fs.protected_regular: O_CREAT does not open another's file there; without, it does.
  EXPECT_ERRNO(ctx_.Open("/tmp/mine", kCreate), kEACCES);
  ASSERT_OK(ctx_.Open("/tmp/mine", kOpenReadWrite));
}

TEST_F(OperationsTest, ProtectedHardlinks) {
  ASSERT_OK(ctx_.Mkdir("/pub"));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/pub"), 0777));
  ASSERT_OK(ctx_.WriteFile("/pub/secret", "", 0600));
  ASSERT_OK(ctx_.WriteFile("/pub/open", ""));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/pub/open"), 0666));
  ctx_.BecomeUser(1000, 1000);
  EXPECT_ERRNO(ctx_.Link("/pub/secret", "/pub/l1"), kEPERM);
  ASSERT_OK(ctx_.Link("/pub/open", "/pub/l2"));
}

TEST_F(OperationsTest, DevicesAreFoundByNumber) {
  DeviceRegistry devices;
  ctx_.ns_->set_devices(&devices);
  ASSERT_OK(Mknod(ctx_, ctx_.cwd_, "/dev", kModeChar | 0666, {1, 9}));
  EXPECT_ERRNO(ctx_.Open("/dev"), kENXIO);
  DeviceNumber seen;
  devices.Register(DeviceRegistry::Type::kChar, 1, 8, 4, "test",
                   [&](CallContext&, const OpenArgs&, Inode&,
                       DeviceNumber rdev) -> Result<RefPtr<FileDescription>> {
                     seen = rdev;
                     return Errno::kENODEV;
                   });
  EXPECT_ERRNO(ctx_.Open("/dev"), kENODEV);
  EXPECT_EQ(seen, (DeviceNumber{1, 9}));
  ASSERT_OK(ctx_.ns_->RemountFlags(ctx_.root_, kMountNodev));
  EXPECT_ERRNO(ctx_.Open("/dev"), kEACCES);
  ASSERT_OK(ctx_.Open("/dev", kOpenPath));
  ASSERT_OK(Mknod(ctx_, ctx_.cwd_, "/sock", kModeSocket | 0666, {}));
  EXPECT_ERRNO(ctx_.Open("/sock"), kENXIO);
  ctx_.BecomeUser(0, 0);
  EXPECT_ERRNO(Mknod(ctx_, ctx_.cwd_, "/dev2", kModeChar | 0666, {1, 9}), kEPERM);
  ctx_.ns_->set_devices(nullptr);
}

TEST_F(OperationsTest, SetGroupIdDirectoriesPassTheirGroupOn) {
  ASSERT_OK(ctx_.Mkdir("/d"));
  ASSERT_OK(Chown(ctx_, *ctx_.Walk("/d"), 1000, 77));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/d"), 02777));
  ctx_.BecomeUser(1000, 1000);
  ASSERT_OK(ctx_.WriteFile("/d/f", ""));
  ASSERT_OK(ctx_.Mkdir("/d/e"));
  EXPECT_EQ((*ctx_.Stat("/d/f")).gid, 77u);
  EXPECT_EQ((*ctx_.Stat("/d/e")).gid, 77u);
  EXPECT_EQ(ModeOf("/d/e"), 02755u);
  // chmod to set-group-id of a group that the caller is not in does not take.
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/d/f"), 02755));
  EXPECT_EQ(ModeOf("/d/f"), 0755u);
}

}  // namespace
}  // namespace caisson::vfs
