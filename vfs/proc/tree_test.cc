#include "vfs/proc/tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "vfs/permission.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs::proc {
namespace {

using testing::TestContext;
using testing::TestWorld;
using ::testing::ElementsAre;

// What the table is about: numbered things, of which some exist, and a text that can be written.
class Things final : public Object {
 public:
  std::string text = "old";
  int reads = 0;
  std::vector<uint64_t> numbers{3, 5, 8};
  VfsPath target;
  bool may_open = true;
};

class Thing final : public Object {
 public:
  Thing(Things& all, uint64_t n) : all_(&all), n_(n) {}
  uint64_t n() const { return n_; }
  bool Exists() const override {
    for (uint64_t n : all_->numbers)
      if (n == n_) return true;
    return false;
  }
  bool Same(const Object& o) const override { return n_ == static_cast<const Thing&>(o).n_; }
  void FillAttributes(CallContext&, const Entry&, Attributes& attr) override {
    attr.uid = static_cast<uint32_t>(1000 + n_);
  }

 private:
  const RefPtr<Things> all_;
  const uint64_t n_;
};

Result<std::string> ReadText(CallContext&, Object& o, const auth::Credentials&) {
  auto& things = static_cast<Things&>(o);
  ++things.reads;
  return things.text;
}
Result<void> WriteText(CallContext&, Object& o, absl::string_view data, uint64_t offset, const auth::Credentials&) {
  if (offset != 0 || data == "bad") return Errno::kEINVAL;
  static_cast<Things&>(o).text = std::string(data);
  return {};
}
Result<std::string> ReadNumber(CallContext&, Object& o, const auth::Credentials&) {
  return absl::StrCat(static_cast<Thing&>(o).n(), "\n");
}
Result<std::string> LinkText(CallContext&, Object&) { return std::string("dir/text"); }
Result<std::string> MagicText(CallContext&, Object&) { return std::string("anything"); }
Result<VfsPath> Follow(CallContext&, Object& o) { return static_cast<Things&>(o).target; }
Result<RefPtr<Object>> Pin(CallContext&, Object& o, const OpenArgs&) {
  if (!static_cast<Things&>(o).may_open) return Errno::kEACCES;
  auto copy = MakeRef<Things>();
  copy->text = static_cast<Things&>(o).text;
  return RefPtr<Object>(copy);
}
Result<void> OwnRule(CallContext&, Object&, const Attributes&, AccessMask access) {
  return (access & kMayWrite) != 0 ? Result<void>(Errno::kEACCES) : Result<void>();
}

const Entry kThingEntries[] = {{.name = "number", .mode = kModeRegular | 0400, .read = ReadNumber}};
const Directory kThingDirectory{.entries = kThingEntries};
const Entry kThing{.name = "", .mode = kModeDirectory | 0555, .directory = &kThingDirectory};

Result<Child> LookupThing(CallContext&, Object& o, absl::string_view name) {
  auto& things = static_cast<Things&>(o);
  for (uint64_t n : things.numbers)
    if (absl::StrCat(n) == std::string(name)) return Child{&kThing, MakeRef<Thing>(things, n)};
  return Errno::kENOENT;
}
Result<void> ListThings(CallContext&, Object& o, uint64_t from, NameSink sink) {
  for (uint64_t n : static_cast<Things&>(o).numbers)
    if (n >= from && !sink(absl::StrCat(n), kThing, n)) break;
  return {};
}

const Entry kDirEntries[] = {
    {.name = "pinned", .mode = kModeRegular | 0444, .read = ReadText, .pin = Pin},
    {.name = "ruled", .mode = kModeRegular | 0666, .read = ReadText, .permission = OwnRule},
    {.name = "text", .mode = kModeRegular | 0644, .read = ReadText, .write = WriteText},
};
const Directory kDir{.entries = kDirEntries, .cached = true};
const Entry kRootEntries[] = {
    {.name = "dir", .mode = kModeDirectory | 0555, .directory = &kDir},
    {.name = "link", .mode = kModeLink | 0777, .link = LinkText},
    {.name = "magic", .mode = kModeLink | 0777, .link = MagicText, .follow = Follow},
};
const Directory kRootDirectory{.entries = kRootEntries, .lookup = LookupThing, .list = ListThings};
const Entry kRoot{.name = "", .mode = kModeDirectory | 0555, .directory = &kRootDirectory};

class TreeTest : public ::testing::Test {
 protected:
  TreeTest()
      : things_(MakeRef<Things>()),
        world_(MakeRef<GeneratedFileSystem>("gen", 0x1234, kRoot, things_)),
        ctx_(world_) {}

  RefPtr<Things> things_;
  TestWorld world_;
  TestContext ctx_;
};

class Sink final : public DirectorySink {
 public:
  explicit Sink(size_t room) : room_(room) {}
  bool Add(absl::string_view name, uint64_t ino, FileMode type, int64_t) override {
    if (names.size() == room_) return false;
    names.emplace_back(name);
    inos.push_back(ino);
    types.push_back(type);
    return true;
  }
  std::vector<std::string> names;
  std::vector<uint64_t> inos;
  std::vector<FileMode> types;

 private:
  const size_t room_;
};

TEST_F(TreeTest, ListingResumesWhereTheBufferWasFull) {
  auto root = ctx_.Open("/", kOpenDirectory);
  ASSERT_OK(root);
  std::vector<std::string> all;
  for (;;) {
    Sink sink(1);
    ASSERT_OK((*root)->Iterate(ctx_, sink));
    if (sink.names.empty()) break;
    all.push_back(sink.names[0]);
  }
  EXPECT_THAT(all, ElementsAre(".", "..", "dir", "link", "magic", "3", "5", "8"));
  ASSERT_OK((*root)->Seek(ctx_, 0, 0));
  Sink again(100);
  ASSERT_OK((*root)->Iterate(ctx_, again));
  EXPECT_EQ(again.names.size(), 8u);
}

TEST_F(TreeTest, NamesThatGoDuringAListingAreSkippedAndOthersAreKept) {
  auto root = ctx_.Open("/", kOpenDirectory);
  ASSERT_OK(root);
  Sink first(6);
  ASSERT_OK((*root)->Iterate(ctx_, first));
  EXPECT_EQ(first.names.back(), "3");
  things_->numbers = {4, 8, 9};
  Sink rest(100);
  ASSERT_OK((*root)->Iterate(ctx_, rest));
  EXPECT_THAT(rest.names, ElementsAre("4", "8", "9"));
}

TEST_F(TreeTest, ListingAndStatAgreeOnInodeNumbersAndTypes) {
  auto root = ctx_.Open("/", kOpenDirectory);
  ASSERT_OK(root);
  Sink sink(100);
  ASSERT_OK((*root)->Iterate(ctx_, sink));
  for (size_t i = 0; i < sink.names.size(); ++i) {
    auto attr = ctx_.Stat("/" + sink.names[i], false);
    ASSERT_OK(attr);
    EXPECT_EQ(attr->ino, sink.inos[i]) << sink.names[i];
    EXPECT_EQ(attr->mode & kModeType, sink.types[i]) << sink.names[i];
  }
}

TEST_F(TreeTest, OnePassOfReadsSeesOneStateAndARewindTheNext) {
  auto file = ctx_.Open("/dir/text");
  ASSERT_OK(file);
  EXPECT_EQ(things_->reads, 0);
  EXPECT_EQ(*ctx_.Read(**file, 2), "ol");
  things_->text = "new text";
  EXPECT_EQ(*ctx_.Read(**file, 100), "d");
  EXPECT_EQ(*ctx_.Read(**file, 100), "");
  EXPECT_EQ(things_->reads, 1);
  ASSERT_OK((*file)->Seek(ctx_, 0, 0));
  EXPECT_EQ(*ctx_.Read(**file, 100), "new text");
  EXPECT_ERRNO((*file)->Seek(ctx_, 0, 2), kEINVAL);
}

TEST_F(TreeTest, WritesReachTheFunctionWholeAndItsErrorsTheCaller) {
  auto file = ctx_.Open("/dir/text", kOpenWriteOnly | kOpenTruncate);
  ASSERT_OK(file);
  EXPECT_EQ(*ctx_.Write(**file, "given"), 5u);
  EXPECT_EQ(things_->text, "given");
  EXPECT_ERRNO(ctx_.Write(**file, "second"), kEINVAL);  // Not at the start.
  auto other = ctx_.Open("/dir/text", kOpenWriteOnly);
  ASSERT_OK(other);
  EXPECT_ERRNO(ctx_.Write(**other, "bad"), kEINVAL);
  EXPECT_ERRNO(ctx_.Write(**other, std::string(kMaxWrite + 1, 'x')), kEINVAL);
  EXPECT_EQ(things_->text, "given");
}

TEST_F(TreeTest, FilesWithoutAWriterRefuseWrites) {
  auto file = ctx_.Open("/dir/pinned", kOpenReadWrite);
  ASSERT_OK(file);  // Root may.
  EXPECT_ERRNO(ctx_.Write(**file, "x"), kEINVAL);
}

TEST_F(TreeTest, APinnedFileStaysWithWhatWasOpened) {
  auto file = ctx_.Open("/dir/pinned");
  ASSERT_OK(file);
  things_->text = "changed";
  EXPECT_EQ(*ctx_.Read(**file, 100), "old");
  things_->may_open = false;
  EXPECT_ERRNO(ctx_.Open("/dir/pinned"), kEACCES);
}

TEST_F(TreeTest, DynamicDirectoriesGoWithTheirObject) {
  EXPECT_EQ(*ctx_.ReadFile("/5/number"), "5\n");
  EXPECT_EQ(ctx_.Stat("/5/number")->uid, 1005u);
  auto dir = ctx_.Open("/5", kOpenDirectory);
  ASSERT_OK(dir);
  things_->numbers = {3};
  EXPECT_ERRNO(ctx_.ReadFile("/5/number"), kENOENT);
  Sink sink(10);
  EXPECT_ERRNO((*dir)->Iterate(ctx_, sink), kENOENT);
  EXPECT_ERRNO(Open(ctx_, (*dir)->path(), "number", 0, 0), kENOENT);
}

TEST_F(TreeTest, ANameThatComesBackMeansTheNewObject) {
  auto before = ctx_.Walk("/5");
  ASSERT_OK(before);
  auto again = ctx_.Walk("/5");
  ASSERT_OK(again);
  EXPECT_TRUE(*before == *again);  // As long as it is in use: one inode, one dentry.
}

TEST_F(TreeTest, LinksAreFollowedByTextAndMagicOnesByObject) {
  EXPECT_EQ(*ctx_.ReadFile("/link"), "old");
  auto target = ctx_.Walk("/dir/text");
  ASSERT_OK(target);
  things_->target = *target;
  EXPECT_EQ(*ctx_.ReadFile("/magic"), "old");
  EXPECT_EQ(*ReadLink(ctx_, *ctx_.Walk("/magic", false)), "anything");
  things_->target = VfsPath();
  EXPECT_ERRNO(ctx_.ReadFile("/magic"), kENOENT);
}

TEST_F(TreeTest, PermissionIsTheModesOrTheTablesRule) {
  EXPECT_ERRNO(ctx_.Open("/dir/ruled", kOpenWriteOnly), kEACCES);  // Even for root.
  ctx_.BecomeUser(1000, 1000);
  EXPECT_ERRNO(ctx_.Open("/dir/text", kOpenWriteOnly), kEACCES);
  EXPECT_ERRNO(ctx_.Open("/3/number"), kEACCES);  // Of user 1003.
  ctx_.BecomeUser(1003, 1003);
  ASSERT_OK(ctx_.Open("/3/number"));
}

TEST_F(TreeTest, NothingCanBeMadeOrRemoved) {
  EXPECT_ERRNO(ctx_.Open("/new", kOpenCreate | kOpenWriteOnly), kENOENT);
  EXPECT_ERRNO(ctx_.Mkdir("/dir/new"), kENOENT);
  EXPECT_ERRNO(ctx_.Unlink("/dir/text"), kEPERM);
  EXPECT_ERRNO(ctx_.Rmdir("/3"), kEPERM);
  EXPECT_ERRNO(Chmod(ctx_, *ctx_.Walk("/dir/text"), 0777), kEPERM);
}

TEST_F(TreeTest, AMountOnAFixedNameCoversIt) {
  auto dir = ctx_.Walk("/dir");
  ASSERT_OK(dir);
  auto other = MakeRef<GeneratedFileSystem>("gen", 1, kRoot, MakeRef<Things>());
  ASSERT_OK(world_.ns()->Add(other, *dir, 0, "none"));
  dir = VfsPath();
  EXPECT_EQ(*ctx_.ReadFile("/dir/dir/text"), "old");
  EXPECT_EQ(ctx_.List("/dir")->size(), 6u);
}

}  // namespace
}  // namespace caisson::vfs::proc
