#include <gtest/gtest.h>

#include "vfs/overlay/overlay.h"
#include "vfs/testing/test_context.h"
#include "vfs/tmpfs/filesystem.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;
using Names = std::vector<std::string>;

class OverlayRenameTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* d : {"/lower", "/over"}) ASSERT_OK(ctx_.Mkdir(d));
    RefPtr<FileSystem> lower = tmpfs::TmpfsFileSystem::New("mode=755").value();
    ASSERT_OK(ctx_.ns_->Add(lower, *ctx_.Walk("/lower"), 0, "lower"));
    for (const char* d : {"/lower/d", "/lower/d/e", "/lower/empty"}) ASSERT_OK(ctx_.Mkdir(d));
    ASSERT_OK(ctx_.WriteFile("/lower/f", "f"));
    ASSERT_OK(ctx_.WriteFile("/lower/d/g", "g"));
    Result<RefPtr<FileSystem>> over = overlay::MakeMemoryOverlay(
        ctx_, lower, tmpfs::TmpfsFileSystem::New("").value());
    ASSERT_OK(over);
    ASSERT_OK(ctx_.ns_->Add(*over, *ctx_.Walk("/over"), 0, "overlay"));
    ctx_.cwd_ = *ctx_.Walk("/over");
  }
  void Evict() { ctx_.cwd_.dentry->Invalidate(); }
  TestWorld world_;
  TestContext ctx_{world_};
};

TEST_F(OverlayRenameTest, FilesLeaveAWhiteout) {
  const uint64_t ino = (*ctx_.Stat("f")).ino;
  ASSERT_OK(ctx_.Rename("f", "d/moved"));
  Evict();
  EXPECT_EQ(*ctx_.List("."), (Names{"d", "empty"}));
  EXPECT_EQ(*ctx_.ReadFile("d/moved"), "f");
  EXPECT_EQ((*ctx_.Stat("d/moved")).ino, ino);
  ASSERT_OK(ctx_.Rename("d/moved", "f"));  // Over its own whiteout.
  EXPECT_EQ(*ctx_.List("."), (Names{"d", "empty", "f"}));
  EXPECT_EQ(*ctx_.List("d"), (Names{"e", "g"}));
}

TEST_F(OverlayRenameTest, OverAFileBelow) {
  ASSERT_OK(ctx_.WriteFile("new", "new"));
  ASSERT_OK(ctx_.Rename("new", "f"));
  Evict();
  EXPECT_EQ(*ctx_.ReadFile("f"), "new");
  ASSERT_OK(ctx_.Rename("f", "d/g"));
  Evict();
  EXPECT_EQ(*ctx_.ReadFile("d/g"), "new");
  EXPECT_ERRNO(ctx_.Stat("f"), kENOENT);
}

TEST_F(OverlayRenameTest, LowerDirectoriesAreCrossDevice) {
  EXPECT_ERRNO(ctx_.Rename("d", "x"), kEXDEV);
  EXPECT_ERRNO(ctx_.Rename("f", "d", kRenameExchange), kEXDEV);
  ASSERT_OK(ctx_.WriteFile("d/new", ""));  // Copied up: still merged.
  EXPECT_ERRNO(ctx_.Rename("d", "x"), kEXDEV);
}

TEST_F(OverlayRenameTest, UpperDirectoriesMoveAndDoNotMerge) {
  ASSERT_OK(ctx_.Mkdir("n"));
  ASSERT_OK(ctx_.WriteFile("n/x", "x"));
  EXPECT_ERRNO(ctx_.Rename("n", "d"), kENOTEMPTY);
  ASSERT_OK(ctx_.Unlink("d/g"));
  ASSERT_OK(ctx_.Rmdir("d/e"));
  ASSERT_OK(ctx_.Rename("n", "d"));  // Over a directory that is empty, but not below.
  Evict();
  EXPECT_EQ(*ctx_.List("d"), (Names{"x"}));
  ASSERT_OK(ctx_.Rename("d", "n"));
  Evict();
  EXPECT_EQ(*ctx_.List("."), (Names{"empty", "f", "n"}));
  ASSERT_OK(ctx_.Rename("n", "d"));  // Over the whiteout.
  Evict();
  EXPECT_EQ(*ctx_.List("d"), (Names{"x"}));
  ASSERT_OK(ctx_.Mkdir("m"));
  ASSERT_OK(ctx_.Rename("m", "empty"));  // Over a lower directory that was never copied up.
  Evict();
  EXPECT_EQ(*ctx_.List("."), (Names{"d", "empty", "f"}));
}

TEST_F(OverlayRenameTest, Exchange) {
  ASSERT_OK(ctx_.Rename("f", "d/g", kRenameExchange));
  Evict();
  EXPECT_EQ(*ctx_.ReadFile("f"), "g");
  EXPECT_EQ(*ctx_.ReadFile("d/g"), "f");
  ASSERT_OK(ctx_.Mkdir("n"));
  ASSERT_OK(ctx_.Rename("f", "n", kRenameExchange));
  Evict();
  EXPECT_EQ(*ctx_.ReadFile("n"), "g");
  EXPECT_TRUE((*ctx_.Stat("f")).is_directory());
  EXPECT_ERRNO(ctx_.Rename("f", "x", kRenameWhiteout), kEINVAL);
}

TEST_F(OverlayRenameTest, RenamedHardLinksKeepTheTableWhole) {
  ASSERT_OK(ctx_.Link("f", "l1"));
  ASSERT_OK(ctx_.Rename("l1", "d/l2"));
  ASSERT_OK(ctx_.Unlink("f"));
  Evict();
  EXPECT_EQ(*ctx_.ReadFile("d/l2"), "f");
  ASSERT_OK(ctx_.Unlink("d/l2"));
  Evict();
  EXPECT_EQ(*ctx_.List("."), (Names{"d", "empty"}));
  EXPECT_EQ(*ctx_.List("d"), (Names{"e", "g"}));
  ASSERT_OK(ctx_.WriteFile("l1", "again"));
  EXPECT_EQ(*ctx_.ReadFile("l1"), "again");
}

TEST_F(OverlayRenameTest, DeepTreesEnd) {
  for (int i = 0; i < 20000; ++i) {
    ASSERT_OK(ctx_.Mkdir("x"));
    ctx_.cwd_ = *ctx_.Walk("x");
  }
  ctx_.cwd_ = ctx_.root_;
}

}  // namespace
}  // namespace caisson::vfs
