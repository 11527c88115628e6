#include "vfs/mount.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vfs/operations.h"
#include "vfs/testing/test_context.h"
#include "vfs/tmpfs/filesystem.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;
using ::testing::HasSubstr;
using ::testing::Not;

class MountTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* d : {"/a", "/b", "/c", "/a/sub"}) ASSERT_OK(ctx_.Mkdir(d));
  }
  Result<RefPtr<Mount>> MountTmpfs(absl::string_view at, TestContext* ctx = nullptr) {
    if (ctx == nullptr) ctx = &ctx_;
    VfsPath place = TRY(ctx->Walk(at));
    return ctx->ns_->Add(tmpfs::TmpfsFileSystem::New("").value(), place, 0, "src");
  }
  Result<void> Bind(absl::string_view from, absl::string_view to, bool rec = false) {
    VfsPath f = TRY(ctx_.Walk(from)), t = TRY(ctx_.Walk(to));
    return ctx_.ns_->Bind(f, t, rec);
  }
  Result<void> Unmount(absl::string_view at, int flags = 0, TestContext* ctx = nullptr) {
    if (ctx == nullptr) ctx = &ctx_;
    VfsPath place = TRY(ctx->Walk(at));
    return ctx->ns_->Unmount(place, flags);
  }
  Result<void> Propagate(absl::string_view at, uint64_t flags) {
    VfsPath place = TRY(ctx_.Walk(at));
    return ctx_.ns_->SetPropagation(place, flags);
  }
  std::string Show(MountNamespace::Format f = MountNamespace::Format::kMounts) {
    return ctx_.ns_->Show(ctx_, f, ctx_.root_);
  }
  TestWorld world_;
  TestContext ctx_{world_};
};

TEST_F(MountTest, CoversAndUncovers) {
  ASSERT_OK(ctx_.WriteFile("/a/under", ""));
  ASSERT_OK(MountTmpfs("/a"));
  EXPECT_ERRNO(ctx_.Stat("/a/under"), kENOENT);
  ASSERT_OK(ctx_.WriteFile("/a/over", ""));
  EXPECT_EQ(ctx_.PathName(*ctx_.Walk("/a/over")), "/a/over");
  EXPECT_EQ(*ctx_.Walk("/a/.."), ctx_.root_);
  ASSERT_OK(MountTmpfs("/a"));  // On top of the first.
  EXPECT_ERRNO(ctx_.Stat("/a/over"), kENOENT);
  ASSERT_OK(Unmount("/a"));
  ASSERT_OK(ctx_.Stat("/a/over"));
  ASSERT_OK(Unmount("/a"));
  ASSERT_OK(ctx_.Stat("/a/under"));
  EXPECT_ERRNO(Unmount("/a"), kEINVAL);
}

TEST_F(MountTest, BusyMountsStay) {
  ASSERT_OK(MountTmpfs("/a"));
  {
    RefPtr<FileDescription> f = *ctx_.Open("/a/f", kOpenCreate | kOpenReadWrite);
    EXPECT_ERRNO(Unmount("/a"), kEBUSY);
    ASSERT_OK(Unmount("/a", 2));  // MNT_DETACH
    EXPECT_EQ(*ctx_.Write(*f, "still works"), 11u);
    EXPECT_EQ(ctx_.PathName(f->path()), "/f");
  }
  EXPECT_ERRNO(ctx_.Stat("/a/f"), kENOENT);
  ASSERT_OK(MountTmpfs("/b"));
  ASSERT_OK(ctx_.Mkdir("/b/x"));
  ASSERT_OK(MountTmpfs("/b/x"));
  EXPECT_ERRNO(Unmount("/b"), kEBUSY);
  EXPECT_ERRNO(ctx_.Rmdir("/b/x"), kEBUSY);
  EXPECT_ERRNO(ctx_.Rename("/b/x", "/b/y"), kEBUSY);
  ASSERT_OK(Unmount("/b", 2));
  EXPECT_THAT(Show(), Not(HasSubstr("/b")));
}

TEST_F(MountTest, BindShowsTheSameFiles) {
  ASSERT_OK(ctx_.WriteFile("/a/sub/f", "x"));
  ASSERT_OK(Bind("/a/sub", "/b"));
  EXPECT_EQ(*ctx_.ReadFile("/b/f"), "x");
  ASSERT_OK(ctx_.WriteFile("/b/g", "y"));
  EXPECT_EQ(*ctx_.ReadFile("/a/sub/g"), "y");
  EXPECT_ERRNO(ctx_.Link("/b/f", "/a/sub/h"), kEXDEV);
  EXPECT_ERRNO(ctx_.Rename("/b/f", "/a/sub/h"), kEXDEV);
  // A file on a file, and nothing else.
  ASSERT_OK(ctx_.WriteFile("/file", "z"));
  ASSERT_OK(Bind("/file", "/b/f"));
  EXPECT_EQ(*ctx_.ReadFile("/b/f"), "z");
  EXPECT_EQ(*ctx_.ReadFile("/a/sub/f"), "x");
  EXPECT_ERRNO(Bind("/file", "/c"), kENOTDIR);
  EXPECT_ERRNO(Bind("/c", "/file"), kENOTDIR);
}

TEST_F(MountTest, BindsReadOnlyOneByOne) {
  ASSERT_OK(Bind("/a", "/b"));
  ASSERT_OK(ctx_.ns_->RemountFlags(*ctx_.Walk("/b"), kMountReadOnly | kMountNosuid));
  EXPECT_ERRNO(ctx_.WriteFile("/b/f", ""), kEROFS);
  ASSERT_OK(ctx_.WriteFile("/a/f", ""));
  EXPECT_THAT(Show(), HasSubstr("root /b tmpfs ro,nosuid,relatime,mode=755 0 0\n"));
}

TEST_F(MountTest, RecursiveBindCopiesMountsBelow) {
  ASSERT_OK(MountTmpfs("/a/sub"));
  ASSERT_OK(ctx_.WriteFile("/a/sub/f", ""));
  ASSERT_OK(Bind("/a", "/b", false));
  EXPECT_ERRNO(ctx_.Stat("/b/sub/f"), kENOENT);
  ASSERT_OK(Bind("/a", "/c", true));
  ASSERT_OK(ctx_.Stat("/c/sub/f"));
}

TEST_F(MountTest, MoveRules) {
  ASSERT_OK(MountTmpfs("/a"));
  ASSERT_OK(ctx_.Mkdir("/a/in"));
  ASSERT_OK(ctx_.ns_->Move(*ctx_.Walk("/a"), *ctx_.Walk("/b")));
  ASSERT_OK(ctx_.Stat("/b/in"));
  EXPECT_ERRNO(ctx_.Stat("/a/in"), kENOENT);
  EXPECT_ERRNO(ctx_.ns_->Move(*ctx_.Walk("/b"), *ctx_.Walk("/b/in")), kELOOP);
  EXPECT_ERRNO(ctx_.ns_->Move(*ctx_.Walk("/b/in"), *ctx_.Walk("/c")), kEINVAL);
  EXPECT_ERRNO(ctx_.ns_->Move(ctx_.root_, *ctx_.Walk("/c")), kEINVAL);
}

TEST_F(MountTest, PeersPropagateMountsAndUnmounts) {
  ASSERT_OK(MountTmpfs("/a"));
  ASSERT_OK(ctx_.Mkdir("/a/x"));
  ASSERT_OK(Propagate("/a", kMountShared));
  ASSERT_OK(Bind("/a", "/b"));  // Peer.
  ASSERT_OK(MountTmpfs("/a/x"));
  ASSERT_OK(ctx_.WriteFile("/a/x/f", "1"));
  EXPECT_EQ(*ctx_.ReadFile("/b/x/f"), "1");
  ASSERT_OK(Unmount("/b/x"));
  EXPECT_ERRNO(ctx_.Stat("/a/x/f"), kENOENT);
  ASSERT_OK(Propagate("/b", kMountSlave));
  ASSERT_OK(MountTmpfs("/b/x"));
  ASSERT_OK(ctx_.WriteFile("/b/x/only", ""));
  EXPECT_ERRNO(ctx_.Stat("/a/x/only"), kENOENT);
  ASSERT_OK(Unmount("/b/x"));
  ASSERT_OK(MountTmpfs("/a/x"));
  ASSERT_OK(ctx_.WriteFile("/a/x/g", ""));
  ASSERT_OK(ctx_.Stat("/b/x/g"));
  std::string info = Show(MountNamespace::Format::kMountinfo);
  EXPECT_THAT(info, HasSubstr(" / /a rw,relatime shared:1 - tmpfs src rw"));
  EXPECT_THAT(info, HasSubstr(" / /b rw,relatime master:1 - tmpfs src rw"));
  ASSERT_OK(Propagate("/b", kMountPrivate));
  ASSERT_OK(Unmount("/a/x"));
  ASSERT_OK(ctx_.Stat("/b/x/g"));
}

TEST_F(MountTest, UnbindableIsNotBound) {
  ASSERT_OK(MountTmpfs("/a/sub"));
  ASSERT_OK(Propagate("/a/sub", kMountUnbindable));
  EXPECT_ERRNO(Bind("/a/sub", "/b"), kEINVAL);
  ASSERT_OK(ctx_.WriteFile("/a/sub/f", ""));
  ASSERT_OK(Bind("/a", "/b", true));
  EXPECT_ERRNO(ctx_.Stat("/b/sub/f"), kENOENT);
  EXPECT_ERRNO(Propagate("/a", kMountShared), kEINVAL);  // Not a mount.
  EXPECT_ERRNO(Propagate("/a/sub", kMountShared | kMountSlave), kEINVAL);
}

TEST_F(MountTest, NamespacesAreApart) {
  ASSERT_OK(MountTmpfs("/a"));
  ASSERT_OK(ctx_.Mkdir("/a/d"));
  TestContext other(world_);
  other.cwd_ = *ctx_.Walk("/a/d");
  other.ns_ = ctx_.ns_->Clone({&other.root_, &other.cwd_});
  EXPECT_EQ(other.PathName(other.cwd_), "/a/d");
  EXPECT_FALSE(other.cwd_ == *ctx_.Walk("/a/d"));
  ASSERT_OK(MountTmpfs("/b", &other));
  ASSERT_OK(other.WriteFile("/b/f", ""));
  EXPECT_ERRNO(ctx_.Stat("/b/f"), kENOENT);
  VfsPath foreign = *ctx_.Walk("/a");
  EXPECT_ERRNO(other.ns_->Unmount(foreign, 0), kEINVAL);
  other.cwd_ = other.root_;
  ASSERT_OK(Unmount("/a", 0, &other));
  ASSERT_OK(ctx_.Stat("/a/d"));
}

TEST_F(MountTest, SharedMountsPropagateToAClonedNamespace) {
  ASSERT_OK(Propagate("/", kMountShared | kMountRec));
  TestContext other(world_);
  other.ns_ = ctx_.ns_->Clone({&other.root_, &other.cwd_});
  ASSERT_OK(MountTmpfs("/a"));
  ASSERT_OK(ctx_.WriteFile("/a/f", ""));
  ASSERT_OK(other.Stat("/a/f"));
  ASSERT_OK(Unmount("/a", 0, &other));
  EXPECT_ERRNO(ctx_.Stat("/a/f"), kENOENT);
}

TEST_F(MountTest, PivotRoot) {
  ASSERT_OK(MountTmpfs("/a"));
  ASSERT_OK(ctx_.Mkdir("/a/old"));
  ASSERT_OK(ctx_.WriteFile("/a/f", ""));
  EXPECT_ERRNO(ctx_.ns_->PivotRoot(*ctx_.Walk("/b"), *ctx_.Walk("/b"), ctx_.root_), kEBUSY);
  EXPECT_ERRNO(ctx_.ns_->PivotRoot(*ctx_.Walk("/a"), *ctx_.Walk("/b"), ctx_.root_), kEBUSY);
  EXPECT_ERRNO(ctx_.ns_->PivotRoot(*ctx_.Walk("/a/old"), *ctx_.Walk("/a/old"), ctx_.root_),
               kEINVAL);
  ASSERT_OK(ctx_.ns_->PivotRoot(*ctx_.Walk("/a"), *ctx_.Walk("/a/old"), ctx_.root_));
  ctx_.root_ = ctx_.ns_->root();
  ctx_.cwd_ = ctx_.root_;
  ASSERT_OK(ctx_.Stat("/f"));
  ASSERT_OK(ctx_.Stat("/old/b"));
  EXPECT_THAT(Show(), HasSubstr("root /old tmpfs"));
  ASSERT_OK(Unmount("/old", 2));
  EXPECT_ERRNO(ctx_.Stat("/old/b"), kENOENT);
}

TEST_F(MountTest, PivotRootOntoItself) {
  // What runc does: pivot_root(".", "."), then a lazy unmount of ".".
  ASSERT_OK(MountTmpfs("/a"));
  ASSERT_OK(ctx_.WriteFile("/a/f", ""));
  VfsPath a = *ctx_.Walk("/a");
  ASSERT_OK(ctx_.ns_->PivotRoot(a, a, ctx_.root_));
  VfsPath top = ctx_.ns_->root();
  EXPECT_FALSE(top == a);  // The old root lies on top.
  ctx_.root_ = ctx_.cwd_ = a;
  ASSERT_OK(ctx_.ns_->Unmount(top, 2));
  EXPECT_EQ(ctx_.ns_->root(), a);
  ASSERT_OK(ctx_.Stat("/f"));
}

TEST_F(MountTest, ShowEscapesAndLimitsToTheRoot) {
  ASSERT_OK(ctx_.Mkdir("/sp ace"));
  ASSERT_OK(MountTmpfs("/sp ace"));
  EXPECT_THAT(Show(), HasSubstr("src /sp\\040ace tmpfs rw,relatime 0 0\n"));
  ASSERT_OK(MountTmpfs("/a"));
  ctx_.root_ = *ctx_.Walk("/a");
  EXPECT_EQ(Show(), "src / tmpfs rw,relatime 0 0\n");
}

TEST_F(MountTest, ExpireTakesTwoCalls) {
  ASSERT_OK(MountTmpfs("/a"));
  EXPECT_ERRNO(Unmount("/a", 4), kEAGAIN);
  ASSERT_OK(Unmount("/a", 4));
}

}  // namespace
}  // namespace caisson::vfs
