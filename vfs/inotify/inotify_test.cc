#include "vfs/inotify/inotify.h"

#include <gtest/gtest.h>

#include <cstring>

#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using inotify::Inotify;
using testing::TestContext;
using testing::TestWorld;

class InotifyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(ctx_.Mkdir("/d"));
    ASSERT_OK(ctx_.WriteFile("/d/f", "x"));
  }
  int32_t Watch(absl::string_view path, uint32_t mask = 0xfff) {
    return *in_->AddWatch(ctx_, *ctx_.Walk(path), mask);
  }
  // All queued events as "wd:mask:name", in hexadecimal; cookies are kept apart.
  std::vector<std::string> Events() {
    std::vector<std::string> out;
    cookies_.clear();
    for (;;) {
      char bytes[4096];
      SpanBuffer buffer(absl::Span<char>(bytes, sizeof(bytes)));
      Result<size_t> n = in_->Read(ctx_, buffer, 0);
      if (!n.ok()) {
        EXPECT_EQ(n.error(), Errno::kEAGAIN);
        return out;
      }
      for (size_t at = 0; at < *n;) {
        uint32_t field[4];
        memcpy(field, bytes + at, sizeof(field));
        out.push_back(absl::StrCat(field[0], ":", absl::Hex(field[1]), ":",
                                   field[3] == 0 ? "" : bytes + at + 16));
        cookies_.push_back(field[2]);
        EXPECT_EQ(field[3] % 16, 0u);
        at += 16 + field[3];
      }
    }
  }
  using Strings = std::vector<std::string>;
  TestWorld world_;
  TestContext ctx_{world_};
  RefPtr<Inotify> in_ = MakeRef<Inotify>(kOpenNonblock);
  std::vector<uint32_t> cookies_;
};

TEST_F(InotifyTest, DirectorySeesItsChildren) {
  EXPECT_EQ(Watch("/d"), 1);
  ASSERT_OK(ctx_.WriteFile("/d/new", "data"));
  EXPECT_EQ(Events(), (Strings{"1:100:new", "1:20:new", "1:2:new", "1:8:new"}));
  ASSERT_OK(ctx_.ReadFile("/d/new"));
  EXPECT_EQ(Events(), (Strings{"1:20:new", "1:1:new", "1:10:new"}));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/d/new"), 0600));
  ASSERT_OK(ctx_.Mkdir("/d/sub"));
  ASSERT_OK(ctx_.Unlink("/d/new"));
  ASSERT_OK(ctx_.Rmdir("/d/sub"));
  EXPECT_EQ(Events(), (Strings{"1:4:new", "1:40000100:sub", "1:200:new", "1:40000200:sub"}));
}

TEST_F(InotifyTest, MovesShareACookie) {
  ASSERT_OK(ctx_.Mkdir("/e"));
  Watch("/d");
  Watch("/e");
  Watch("/d/f", kInMoveSelf);
  ASSERT_OK(ctx_.Rename("/d/f", "/e/g"));
  EXPECT_EQ(Events(), (Strings{"1:40:f", "2:80:g", "3:800:"}));
  EXPECT_NE(cookies_[0], 0u);
  EXPECT_EQ(cookies_[0], cookies_[1]);
}

TEST_F(InotifyTest, DeletedFileIsIgnoredAfterItsLastClose) {
  Watch("/d/f", kInDeleteSelf | kInAttrib);
  RefPtr<FileDescription> f = *ctx_.Open("/d/f");
  ASSERT_OK(ctx_.Unlink("/d/f"));
  EXPECT_EQ(Events(), (Strings{"1:4:"}));
  f.reset();
  EXPECT_EQ(Events(), (Strings{"1:400:", "1:8000:"}));
  EXPECT_ERRNO(in_->RemoveWatch(1), kEINVAL);
  // The watch let go of the inode.
  ASSERT_OK(ctx_.WriteFile("/d/f", "again"));
  EXPECT_EQ(Watch("/d/f"), 2);
}

TEST_F(InotifyTest, MaskRules) {
  EXPECT_EQ(Watch("/d/f", kInOpen), 1);
  EXPECT_EQ(Watch("/d/f", kInModify | kInMaskAdd), 1);
  ASSERT_OK(ctx_.WriteFile("/d/f", "x"));
  EXPECT_EQ(Events(), (Strings{"1:20:", "1:2:"}));
  VfsPath f = *ctx_.Walk("/d/f");
  EXPECT_ERRNO(in_->AddWatch(ctx_, f, kInOpen | kInMaskCreate), kEEXIST);
  EXPECT_ERRNO(in_->AddWatch(ctx_, f, 0), kEINVAL);
  EXPECT_ERRNO(in_->AddWatch(ctx_, f, kInOpen | kInMaskAdd | kInMaskCreate), kEINVAL);
  ASSERT_OK(in_->RemoveWatch(1));
  EXPECT_EQ(Events(), (Strings{"1:8000:"}));
  EXPECT_EQ(Watch("/d/f", kInOpen | kInOneshot), 2);
  ASSERT_OK(ctx_.ReadFile("/d/f"));
  ASSERT_OK(ctx_.ReadFile("/d/f"));
  EXPECT_EQ(Events(), (Strings{"2:20:", "2:8000:"}));
  ctx_.BecomeUser(1000, 1000);
  ctx_.BecomeRoot();
  ASSERT_OK(Chmod(ctx_, f, 0));
  ctx_.BecomeUser(1000, 1000);
  EXPECT_ERRNO(in_->AddWatch(ctx_, f, kInOpen), kEACCES);
}

TEST_F(InotifyTest, EqualNeighboursMergeAndOverflowIsTold) {
  in_ = MakeRef<Inotify>(kOpenNonblock, inotify::Limits{.max_queued_events = 3});
  Watch("/d", kInCreate | kInModify);
  RefPtr<FileDescription> f = *ctx_.Open("/d/f", kOpenWriteOnly);
  ASSERT_OK(ctx_.Write(*f, "1"));
  ASSERT_OK(ctx_.Write(*f, "2"));
  EXPECT_EQ(Events(), (Strings{"1:2:f"}));
  for (int i = 0; i < 9; ++i) ASSERT_OK(ctx_.WriteFile(absl::StrCat("/d/n", i), ""));
  EXPECT_EQ(Events(), (Strings{"1:100:n0", "1:100:n1", "1:100:n2", "4294967295:4000:"}));
}

TEST_F(InotifyTest, EndsWhileWatching) {
  Watch("/d");
  Watch("/d/f");
  in_.reset();
  ASSERT_OK(ctx_.WriteFile("/d/f", "y"));
  EXPECT_TRUE((*ctx_.Walk("/d")).dentry->inode()->watches().empty());
}

TEST_F(InotifyTest, SmallBufferIsInvalid) {
  Watch("/d", kInCreate);
  ASSERT_OK(ctx_.WriteFile("/d/sixteen-bytes-ok", ""));
  char small[47];
  SpanBuffer buffer(absl::Span<char>(small, sizeof(small)));
  EXPECT_ERRNO(in_->Read(ctx_, buffer, 0), kEINVAL);
  int32_t bytes = 0;
  ASSERT_OK(in_->Ioctl(ctx_, 0x541B, reinterpret_cast<uint64_t>(&bytes)));
  EXPECT_EQ(bytes, 48);
}

}  // namespace
}  // namespace caisson::vfs
