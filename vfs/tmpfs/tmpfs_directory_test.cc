#include <gtest/gtest.h>

#include <set>

#include "vfs/operations.h"
#include "vfs/testing/test_context.h"
#include "vfs/tmpfs/filesystem.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class TmpfsDirectoryTest : public ::testing::Test {
 protected:
  TestWorld world_;
  TestContext ctx_{world_};
};

// Takes `room` entries at a time.
class SmallSink final : public DirectorySink {
 public:
  explicit SmallSink(size_t room) : room_(room) {}
  bool Add(absl::string_view name, uint64_t ino, FileMode, int64_t next) override {
    if (names.size() == room_) return false;
    names.emplace_back(name);
    last_offset = next;
    return true;
  }
  std::vector<std::string> names;
  int64_t last_offset = -1;

 private:
  size_t room_;
};

TEST_F(TmpfsDirectoryTest, ReadingInPiecesSurvivesChanges) {
  ASSERT_OK(ctx_.Mkdir("/d"));
  for (int i = 0; i < 300; ++i) ASSERT_OK(ctx_.WriteFile(absl::StrCat("/d/f", i), ""));
  RefPtr<FileDescription> dir = *ctx_.Open("/d", kOpenDirectory);
  std::multiset<std::string> seen;
  for (int round = 0;; ++round) {
    SmallSink sink(7);
    ASSERT_OK(dir->Iterate(ctx_, sink));
    if (sink.names.empty()) break;
    seen.insert(sink.names.begin(), sink.names.end());
    // What was read goes, and new names come: the rest must still be seen, once.
    for (const std::string& name : sink.names)
      if (name[0] == 'f') ASSERT_OK(ctx_.Unlink("/d/" + name));
    ASSERT_OK(ctx_.WriteFile(absl::StrCat("/d/new", round), ""));
    ASSERT_LT(round, 1000);
  }
  for (int i = 0; i < 300; ++i) EXPECT_EQ(seen.count(absl::StrCat("f", i)), 1u) << i;
  EXPECT_EQ(seen.count("."), 1u);
  EXPECT_EQ(seen.count(".."), 1u);
}

TEST_F(TmpfsDirectoryTest, OffsetsCanBeSoughtTo) {
  for (const char* n : {"/a", "/b", "/c"}) ASSERT_OK(ctx_.WriteFile(n, ""));
  RefPtr<FileDescription> dir = *ctx_.Open("/", kOpenDirectory);
  SmallSink first(4);
  ASSERT_OK(dir->Iterate(ctx_, first));
  SmallSink rest(10), again(10);
  ASSERT_OK(dir->Iterate(ctx_, rest));
  EXPECT_EQ(rest.names, std::vector<std::string>{"c"});
  ASSERT_OK(dir->Seek(ctx_, first.last_offset, 0));
  ASSERT_OK(dir->Iterate(ctx_, again));
  EXPECT_EQ(again.names, rest.names);
  EXPECT_ERRNO(dir->Seek(ctx_, 0, 2), kEINVAL);
}

TEST_F(TmpfsDirectoryTest, LinkCounts) {
  ASSERT_OK(ctx_.Mkdir("/d"));
  ASSERT_OK(ctx_.Mkdir("/d/sub"));
  EXPECT_EQ((*ctx_.Stat("/d")).nlink, 3u);
  ASSERT_OK(ctx_.Mkdir("/e"));
  ASSERT_OK(ctx_.Rename("/d/sub", "/e/sub"));
  EXPECT_EQ((*ctx_.Stat("/d")).nlink, 2u);
  EXPECT_EQ((*ctx_.Stat("/e")).nlink, 3u);
  ASSERT_OK(ctx_.WriteFile("/f", ""));
  ASSERT_OK(ctx_.Link("/f", "/g"));
  EXPECT_EQ((*ctx_.Stat("/f")).nlink, 2u);
  EXPECT_EQ((*ctx_.Stat("/f")).ino, (*ctx_.Stat("/g")).ino);
  ASSERT_OK(ctx_.Unlink("/f"));
  EXPECT_EQ((*ctx_.Stat("/g")).nlink, 1u);
  RefPtr<FileDescription> open = *ctx_.Open("/g");
  ASSERT_OK(ctx_.Unlink("/g"));
  EXPECT_EQ((*open->GetAttributes(ctx_)).nlink, 0u);
}

TEST_F(TmpfsDirectoryTest, ExtendedAttributes) {
  ASSERT_OK(ctx_.WriteFile("/f", ""));
  VfsPath f = *ctx_.Walk("/f");
  EXPECT_ERRNO(GetXattr(ctx_, f, "user.a"), kENODATA);
  ASSERT_OK(SetXattr(ctx_, f, "user.a", "1", 0));
  ASSERT_OK(SetXattr(ctx_, f, "trusted.b", "2", kXattrCreate));
  EXPECT_ERRNO(SetXattr(ctx_, f, "user.a", "x", kXattrCreate), kEEXIST);
  EXPECT_ERRNO(SetXattr(ctx_, f, "user.c", "x", kXattrReplace), kENODATA);
  EXPECT_ERRNO(SetXattr(ctx_, f, "nonsense", "x", 0), kEOPNOTSUPP);
  EXPECT_ERRNO(SetXattr(ctx_, f, "system.posix_acl_access", "x", 0), kEOPNOTSUPP);
  EXPECT_EQ(*GetXattr(ctx_, f, "user.a"), "1");
  EXPECT_EQ(*ListXattr(ctx_, f), (std::vector<std::string>{"trusted.b", "user.a"}));
  EXPECT_ERRNO(SetXattr(ctx_, f, "user.big", std::string(65537, 'x'), 0), kE2BIG);
  ASSERT_OK(SetXattr(ctx_, f, "user.big", std::string(65536, 'x'), 0));
  EXPECT_ERRNO(SetXattr(ctx_, f, "user.more", std::string(65536, 'x'), 0), kENOSPC);
  ctx_.BecomeUser(1000, 1000);
  EXPECT_ERRNO(SetXattr(ctx_, f, "user.a", "x", 0), kEACCES);
  EXPECT_ERRNO(SetXattr(ctx_, f, "trusted.b", "x", 0), kEPERM);
  EXPECT_ERRNO(GetXattr(ctx_, f, "trusted.b"), kENODATA);
  EXPECT_EQ(*ListXattr(ctx_, f), (std::vector<std::string>{"user.a", "user.big"}));
}

TEST_F(TmpfsDirectoryTest, MountOptions) {
  using tmpfs::TmpfsFileSystem;
  auto shown = [](absl::string_view data) {
    return (*TmpfsFileSystem::New(data, {}, uint64_t{1} << 30))->MountOptions();
  };
  EXPECT_EQ(shown(""), "");
  EXPECT_EQ(shown("size=1m,mode=0700,uid=5,gid=6"), "size=1024k,mode=700,uid=5,gid=6");
  EXPECT_EQ(shown("size=50%,nr_inodes=1k,huge=never"), "size=524284k,nr_inodes=1024");
  for (const char* bad : {"size=", "size=x", "size=1z", "mode=9", "mode=", "uid=-1", "bogus",
                          "nr_inodes=99999999999999999999", "size=99999999e"})
    EXPECT_ERRNO(TmpfsFileSystem::New(bad), kEINVAL);
}

}  // namespace
}  // namespace caisson::vfs
