#include <gtest/gtest.h>

#include "vfs/operations.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class PathWalkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(ctx_.Mkdir("/d"));
    ASSERT_OK(ctx_.Mkdir("/d/e"));
    ASSERT_OK(ctx_.WriteFile("/d/f", "hello"));
  }
  TestWorld world_;
  TestContext ctx_{world_};
};

TEST_F(PathWalkTest, WalksDotsAndDoubleSlashes) {
  Result<VfsPath> at = ctx_.Walk("//d/./e/..//../d/e/.");
  ASSERT_OK(at);
  EXPECT_EQ(ctx_.PathName(*at), "/d/e");
  Result<VfsPath> root = ctx_.Walk("/../../..");
  ASSERT_OK(root);
  EXPECT_EQ(ctx_.PathName(*root), "/");
}

TEST_F(PathWalkTest, TrailingSlashNeedsADirectory) {
  EXPECT_ERRNO(ctx_.Walk("/d/f/"), kENOTDIR);
  EXPECT_ERRNO(ctx_.Walk("/d/f/x"), kENOTDIR);
  EXPECT_ERRNO(ctx_.Walk("/d/f/."), kENOTDIR);
  EXPECT_ERRNO(ctx_.Walk("/d/none/x"), kENOENT);
  EXPECT_ERRNO(ctx_.Walk(""), kENOENT);
  ASSERT_OK(ctx_.Walk("/d/e///"));
}

TEST_F(PathWalkTest, LengthsAreLimited) {
  EXPECT_ERRNO(ctx_.Walk("/" + std::string(256, 'n')), kENAMETOOLONG);
  EXPECT_ERRNO(ctx_.Walk("/" + std::string(255, 'n')), kENOENT);
  std::string path;
  while (path.size() < 4094) path += "/.";
  ASSERT_OK(ctx_.Walk(path));
  EXPECT_ERRNO(ctx_.Walk(path + "/."), kENAMETOOLONG);
}

TEST_F(PathWalkTest, FollowsLinks) {
  ASSERT_OK(ctx_.Symlink("e", "/d/relative"));
  ASSERT_OK(ctx_.Symlink("/d/f", "/absolute"));
  ASSERT_OK(ctx_.Symlink("../../d/e/../f", "/d/e/up"));
  EXPECT_EQ(ctx_.PathName(*ctx_.Walk("/d/relative/up")), "/d/f");
  EXPECT_EQ(ctx_.PathName(*ctx_.Walk("/absolute")), "/d/f");
  EXPECT_EQ(ctx_.PathName(*ctx_.Walk("/absolute", false)), "/absolute");
  // A trailing slash follows even without being asked to.
  EXPECT_EQ(ctx_.PathName(*ctx_.Walk("/d/relative/", false)), "/d/e");
  EXPECT_ERRNO(ctx_.Walk("/absolute/", false), kENOTDIR);
}

TEST_F(PathWalkTest, FortyLinksAreTheLimit) {
  ASSERT_OK(ctx_.Symlink("/d/f", "/l1"));
  for (int i = 2; i <= 41; ++i)
    ASSERT_OK(ctx_.Symlink(absl::StrCat("/l", i - 1), absl::StrCat("/l", i)));
  ASSERT_OK(ctx_.Walk("/l40"));
  EXPECT_ERRNO(ctx_.Walk("/l41"), kELOOP);
  ASSERT_OK(ctx_.Symlink("loop", "/loop"));
  EXPECT_ERRNO(ctx_.Walk("/loop"), kELOOP);
}

TEST_F(PathWalkTest, SearchPermissionIsNeededOnTheWay) {
  ASSERT_OK(ctx_.Mkdir("/closed", 0700));
  ASSERT_OK(ctx_.Mkdir("/closed/in"));
  ctx_.BecomeUser(1000, 1000);
  EXPECT_ERRNO(ctx_.Walk("/closed/in"), kEACCES);
  EXPECT_ERRNO(ctx_.Walk("/closed/."), kEACCES);
  ASSERT_OK(ctx_.Walk("/closed"));
}

TEST_F(PathWalkTest, ChrootIsAWall) {
  VfsPath f = *ctx_.Walk("/d/f");
  ctx_.root_ = *ctx_.Walk("/d");
  ctx_.cwd_ = ctx_.root_;
  EXPECT_EQ(ctx_.PathName(*ctx_.Walk("../../../e")), "/e");
  ASSERT_OK(ctx_.Symlink("/f", "link"));
  EXPECT_EQ(*ctx_.Walk("link"), f);
}

TEST_F(PathWalkTest, ResolveBeneathAndInRoot) {
  ASSERT_OK(ctx_.Symlink("/f", "/d/abs"));
  ASSERT_OK(ctx_.Symlink("../d/f", "/d/up"));
  VfsPath d = *ctx_.Walk("/d");
  WalkOptions beneath;
  beneath.beneath = true;
  EXPECT_ERRNO(Walk(ctx_, d, "..", beneath), kEXDEV);
  EXPECT_ERRNO(Walk(ctx_, d, "/d", beneath), kEXDEV);
  EXPECT_ERRNO(Walk(ctx_, d, "abs", beneath), kEXDEV);
  EXPECT_ERRNO(Walk(ctx_, d, "up", beneath), kEXDEV);
  ASSERT_OK(Walk(ctx_, d, "e/../f", beneath));
  WalkOptions in_root;
  in_root.in_root = true;
  EXPECT_EQ(ctx_.PathName(*Walk(ctx_, d, "/e/../../f", in_root)), "/d/f");
  EXPECT_EQ(ctx_.PathName(*Walk(ctx_, d, "abs", in_root)), "/d/f");
  WalkOptions no_links;
  no_links.no_symlinks = true;
  EXPECT_ERRNO(Walk(ctx_, d, "abs", no_links), kELOOP);
}

TEST_F(PathWalkTest, ProtectedLinksInStickyDirectories) {
  ASSERT_OK(ctx_.Mkdir("/tmp"));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/tmp"), 01777));
  ctx_.BecomeUser(1000, 1000);
  ASSERT_OK(ctx_.Symlink("/d/f", "/tmp/mine"));
  ASSERT_OK(ctx_.Walk("/tmp/mine"));
  ctx_.BecomeUser(1001, 1001);
  EXPECT_ERRNO(ctx_.Walk("/tmp/mine"), kEACCES);
  ASSERT_OK(ctx_.Walk("/tmp/mine", false));
}

TEST_F(PathWalkTest, DeletedNamesAreShownAsSuch) {
  VfsPath f = *ctx_.Walk("/d/f");
  VfsPath e = *ctx_.Walk("/d/e");
  ASSERT_OK(ctx_.Unlink("/d/f"));
  EXPECT_EQ(ctx_.PathName(f), "/d/f (deleted)");
  ASSERT_OK(ctx_.Rmdir("/d/e"));
  EXPECT_ERRNO(CwdName(e, ctx_.root_), kENOENT);
  ctx_.cwd_ = e;
  EXPECT_ERRNO(ctx_.WriteFile("x", "x"), kENOENT);
  EXPECT_ERRNO(ctx_.Mkdir("x"), kENOENT);
  EXPECT_EQ(ctx_.PathName(*ctx_.Walk("..")), "/d");
}

TEST_F(PathWalkTest, VeryDeepTreesEndWithoutRecursion) {
  ctx_.cwd_ = *ctx_.Walk("/d");
  for (int i = 0; i < 100000; ++i) {
    ASSERT_OK(ctx_.Mkdir("x"));
    ctx_.cwd_ = *ctx_.Walk("x");
  }
  ctx_.cwd_ = ctx_.root_;
}

}  // namespace
}  // namespace caisson::vfs
