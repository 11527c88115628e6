// What requests do. Needs root, for owners.
#include "gofer/server/server.h"

#include <sys/inotify.h>
#include <sys/xattr.h>

#include <set>

#include "gofer/server/test_peer.h"

namespace caisson::gofer {
namespace {

TEST_F(ServerTest, AttachGivesRootAndWatchQueue) {
  Answer a = Call(Op::kAttach, AttachRequest{kProtocolVersion, 0});
  ASSERT_EQ(a.error(), 0);
  EXPECT_TRUE(a.fd.valid());
  auto reply = a.As<AttachReply>();
  EXPECT_EQ(reply.root.mode, S_IFDIR | 0755u);
  EXPECT_EQ(reply.flags, 0u);
  EXPECT_GT(reply.max_handles, 16u);
  EXPECT_EQ(Call(Op::kAttach, AttachRequest{99, 0}).error(), EPROTO);
}

TEST_F(ServerTest, WalkGivesAttributesOfEachComponentAndStopsAtALink) {
  mkdir(Path("a").c_str(), 0700);
  mkdir(Path("a/b").c_str(), 0711);
  WriteHost("a/b/f", "12345");
  EXPECT_EQ(0, symlink("b", Path("a/link").c_str()));
  Answer a = Walk(kRootHandle, "a/b/f");
  ASSERT_EQ(a.error(), 0);
  EXPECT_EQ(a.As<WalkReply>().count, 3u);
  auto last = a.As<WireAttributes>(sizeof(WalkReply) + 2 * sizeof(WireAttributes));
  EXPECT_EQ(last.size, 5u);
  Answer link = Walk(kRootHandle, "a/link/f");
  EXPECT_EQ(link.As<WalkReply>().count, 2u);
  EXPECT_EQ(link.As<WireAttributes>(sizeof(WalkReply) + sizeof(WireAttributes)).mode & S_IFMT,
            uint32_t{S_IFLNK});
  Answer missing = Walk(kRootHandle, "a/none/x");
  EXPECT_EQ(missing.As<WalkReply>().count, 1u);
  EXPECT_EQ(missing.As<WalkReply>().error, ENOENT);
  EXPECT_EQ(Walk(kRootHandle, "none").error(), ENOENT);
}

TEST_F(ServerTest, OpenDonatesExactlyTheAccessAskedFor) {
  WriteHost("f", "hello");
  Answer read = OpenAt(kRootHandle, "f", kAccessRead, kLocateKeep);
  ASSERT_EQ(read.error(), 0);
  EXPECT_NE(read.header.handle, 0u);
  char c;
  EXPECT_EQ(pread(read.fd.get(), &c, 1, 4), 1);
  EXPECT_EQ(c, 'o');
  EXPECT_EQ(fcntl(read.fd.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  Answer both = OpenAt(read.header.handle, "", kAccessRead | kAccessWrite);
  EXPECT_EQ(fcntl(both.fd.get(), F_GETFL) & O_ACCMODE, O_RDWR);
}

TEST_F(ServerTest, AHandleOutlivesTheName) {
  WriteHost("f", "hello");
  uint64_t handle = Stat(kRootHandle, "f", kLocateKeep).header.handle;
  unlink(Path("f").c_str());
  Answer a = Stat(handle, "");
  EXPECT_EQ(a.error(), 0);
  EXPECT_EQ(a.As<WireAttributes>().nlink, 0u);
  EXPECT_EQ(OpenAt(handle, "", kAccessRead).error(), 0);
  EXPECT_EQ(Stat(kRootHandle, "f").error(), ENOENT);
}

TEST_F(ServerTest, AReplacedFileIsStale) {
  WriteHost("f", "a");
  auto attr = Stat(kRootHandle, "f").As<WireAttributes>();
  Locator l = At(kRootHandle, "f");
  l.dev = attr.dev;
  l.ino = attr.ino;
  EXPECT_EQ(Call(Op::kGetAttributes, ObjectRequest{l}, "f").error(), 0);
  WriteHost("g", "b");
  rename(Path("g").c_str(), Path("f").c_str());
  EXPECT_EQ(Call(Op::kGetAttributes, ObjectRequest{l}, "f").error(), ESTALE);
}

TEST_F(ServerTest, CreateSetsOwnerAndExactMode) {
  Answer a = Make(Op::kCreate, "f", S_IFREG | 06754, 1000, 2000);
  ASSERT_EQ(a.error(), 0);
  ASSERT_TRUE(a.fd.valid());
  EXPECT_NE(a.As<ChildReply>().handle, 0u);
  struct stat st;
  ASSERT_EQ(stat(Path("f").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 1000u);
  EXPECT_EQ(st.st_gid, 2000u);
  EXPECT_EQ(st.st_mode & 07777, 06754u);
  EXPECT_EQ(pwrite(a.fd.get(), "x", 1, 0), 1);
  EXPECT_EQ(Make(Op::kCreate, "f", S_IFREG | 0644).error(), EEXIST);
}

TEST_F(ServerTest, MakesDirectoriesLinksAndNodes) {
  EXPECT_EQ(Make(Op::kMkdir, "d", S_IFDIR | 01777, 5, 6).error(), 0);
  EXPECT_EQ(Make(Op::kSymlink, "l", S_IFLNK | 0777, 7, 8, "/etc/passwd").error(), 0);
  EXPECT_EQ(Make(Op::kMknod, "p", S_IFIFO | 0640).error(), 0);
  EXPECT_EQ(Make(Op::kMknod, "s", S_IFSOCK | 0755).error(), 0);
  EXPECT_EQ(Make(Op::kMknod, "x", S_IFREG | 0755).error(), EINVAL);
  EXPECT_EQ(Make(Op::kMknod, "c", S_IFCHR | 0600).error(), EPERM);
  EXPECT_EQ(Make(Op::kMknod, "b", S_IFBLK | 0600).error(), EPERM);
  struct stat st;
  lstat(Path("d").c_str(), &st);
  EXPECT_EQ(st.st_mode, S_IFDIR | 01777u);
  EXPECT_EQ(st.st_uid, 5u);
  lstat(Path("l").c_str(), &st);
  EXPECT_EQ(st.st_gid, 8u);
  Answer target = Call(Op::kReadLink, ObjectRequest{At(kRootHandle, "l")}, "l");
  EXPECT_EQ(target.body, "/etc/passwd");
}

TEST_F(ServerTest, TmpfileCanBeLinked) {
  Answer made = Make(Op::kTmpfile, "", S_IFREG | 0600, 3, 4);
  ASSERT_EQ(made.error(), 0);
  LinkRequest r = {};
  r.object = At(made.As<ChildReply>().handle);
  r.directory = At(kRootHandle);
  r.name_length = 4;
  ASSERT_EQ(Call(Op::kLink, r, "name").error(), 0);
  struct stat st;
  ASSERT_EQ(stat(Path("name").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 3u);
}

TEST_F(ServerTest, UnlinkKeepsAHandleOfTheVictim) {
  WriteHost("f", "data");
  EXPECT_EQ(0, link(Path("f").c_str(), Path("g").c_str()));
  UnlinkRequest r = {};
  r.directory = At(kRootHandle);
  r.name_length = 1;
  r.flags = kUnlinkKeep;
  Answer a = Call(Op::kUnlink, r, "f");
  ASSERT_EQ(a.error(), 0);
  EXPECT_EQ(a.As<ChildReply>().attributes.nlink, 1u);
  EXPECT_EQ(Stat(a.As<ChildReply>().handle, "").error(), 0);
  mkdir(Path("d").c_str(), 0755);
  r.flags = 0;
  EXPECT_EQ(Call(Op::kUnlink, r, "d").error(), EISDIR);
  r.flags = kUnlinkDirectory;
  EXPECT_EQ(Call(Op::kUnlink, r, "d").error(), 0);
}

TEST_F(ServerTest, RenameReplacesAndExchanges) {
  WriteHost("a", "1");
  WriteHost("b", "22");
  RenameRequest r = {};
  r.old_directory = r.new_directory = At(kRootHandle);
  r.old_name_length = r.new_name_length = 1;
  r.flags = 2;  // RENAME_EXCHANGE.
  Answer a = Call(Op::kRename, r, "ab");
  ASSERT_EQ(a.error(), 0);
  EXPECT_EQ(a.As<RenameReply>().moved.size, 1u);
  EXPECT_EQ(Stat(kRootHandle, "a").As<WireAttributes>().size, 2u);
  r.flags = 1;
  EXPECT_EQ(Call(Op::kRename, r, "ab").error(), EEXIST);
  r.flags = 0;
  r.keep_victim = 1;
  Answer over = Call(Op::kRename, r, "ab");
  ASSERT_EQ(over.error(), 0);
  EXPECT_EQ(Stat(over.As<RenameReply>().victim_handle, "").As<WireAttributes>().nlink, 0u);
}

TEST_F(ServerTest, SetAttributesChangesWhatIsValidOnly) {
  WriteHost("f", "data");
  SetAttributesRequest r = {};
  r.object = At(kRootHandle, "f");
  r.valid = kSetMode | kSetUid | kSetSize | kSetMtime;
  r.mode = 04711;
  r.uid = 12;
  r.gid = 99;
  r.size = 2;
  r.mtime = {1000, 5, 0};
  auto attr = Call(Op::kSetAttributes, r, "f").As<WireAttributes>();
  EXPECT_EQ(attr.mode, S_IFREG | 04711u);
  EXPECT_EQ(attr.uid, 12u);
  EXPECT_EQ(attr.gid, 0u);
  EXPECT_EQ(attr.size, 2u);
  EXPECT_EQ(attr.mtime.sec, 1000);
  EXPECT_EQ(attr.mtime.nsec, 5u);
}

TEST_F(ServerTest, ReadsALargeDirectoryInChunksWithAttributes) {
  std::set<std::string> expected;
  for (int i = 0; i < 2000; ++i) {
    expected.insert("file" + std::to_string(i));
    WriteHost("file" + std::to_string(i), "x");
  }
  std::set<std::string> seen;
  uint64_t cookie = 0;
  for (int chunk = 0; chunk < 100; ++chunk) {
    Answer a = Call(Op::kReadDirectory, ReadDirectoryRequest{At(kRootHandle), cookie});
    ASSERT_EQ(a.error(), 0);
    Reader in(a.body);
    ReadDirectoryReply reply;
    ASSERT_TRUE(in.Take(&reply));
    for (uint32_t i = 0; i < reply.count; ++i) {
      DirectoryEntry entry;
      absl::string_view name;
      ASSERT_TRUE(in.Take(&entry) && in.TakeBytes(entry.name_length, &name));
      EXPECT_EQ(entry.attributes.size, 1u);
      EXPECT_TRUE(seen.insert(std::string(name)).second) << name;
    }
    cookie = reply.next_cookie;
    if (reply.end != 0) break;
  }
  EXPECT_EQ(seen, expected);
}

TEST_F(ServerTest, AWatchReportsChangesToTheDonatedQueue) {
  mkdir(Path("d").c_str(), 0755);
  UniqueFd queue = Call(Op::kAttach, AttachRequest{kProtocolVersion, 0}).fd;
  Answer a = Stat(kRootHandle, "d", kLocateKeep | kLocateWatch);
  ASSERT_NE(a.header.flags & kReplyWatched, 0u);
  WriteHost("d/new", "x");
  alignas(inotify_event) char buffer[1024];
  ASSERT_GT(read(queue.get(), buffer, sizeof(buffer)), 0);
  auto* event = reinterpret_cast<inotify_event*>(buffer);
  EXPECT_EQ(event->wd, a.header.watch);
  EXPECT_STREQ(event->name, "new");
}

TEST_F(ServerTest, XattrsOfFilesAndStatfs) {
  WriteHost("f", "data");
  XattrRequest r = {};
  r.object = At(kRootHandle, "f");
  r.name_length = 6;
  r.value_length = 3;
  ASSERT_EQ(Call(Op::kSetXattr, r, "fuser.aval").error(), 0);
  r.value_length = 0;
  EXPECT_EQ(Call(Op::kGetXattr, r, "fuser.a").body, "val");
  XattrRequest list = {};
  list.object = At(kRootHandle, "f");
  EXPECT_EQ(Call(Op::kListXattr, list, "f").body, std::string("user.a\0", 7));
  EXPECT_EQ(Call(Op::kRemoveXattr, r, "fuser.a").error(), 0);
  EXPECT_EQ(Call(Op::kGetXattr, r, "fuser.a").error(), ENODATA);
  EXPECT_GT(Call(Op::kStatfs, ObjectRequest{At(kRootHandle)}).As<StatfsReply>().blocks, 0u);
}

class ReadOnlyServerTest : public ServerTest {
 protected:
  void SetUp() override { Start(true); }
};

TEST_F(ReadOnlyServerTest, RefusesEveryChange) {
  WriteHost("f", "data");
  EXPECT_EQ(OpenAt(kRootHandle, "f", kAccessRead).error(), 0);
  EXPECT_EQ(OpenAt(kRootHandle, "f", kAccessWrite).error(), EROFS);
  EXPECT_EQ(Make(Op::kCreate, "x", S_IFREG | 0644).error(), EROFS);
  EXPECT_EQ(Make(Op::kMkdir, "x", S_IFDIR | 0755).error(), EROFS);
  UnlinkRequest u = {};
  u.directory = At(kRootHandle);
  u.name_length = 1;
  EXPECT_EQ(Call(Op::kUnlink, u, "f").error(), EROFS);
  SetAttributesRequest s = {};
  s.object = At(kRootHandle, "f");
  EXPECT_EQ(Call(Op::kSetAttributes, s, "f").error(), EROFS);
  XattrRequest x = {};
  x.object = At(kRootHandle, "f");
  x.name_length = 6;
  EXPECT_EQ(Call(Op::kSetXattr, x, "fuser.a").error(), EROFS);
  RenameRequest r = {};
  r.old_directory = r.new_directory = At(kRootHandle);
  r.old_name_length = r.new_name_length = 1;
  EXPECT_EQ(Call(Op::kRename, r, "fg").error(), EROFS);
  LinkRequest l = {};
  l.object = At(kRootHandle, "f");
  l.directory = At(kRootHandle);
  l.name_length = 1;
  EXPECT_EQ(Call(Op::kLink, l, "fg").error(), EROFS);
}

class FileServerTest : public ServerTest {
 protected:
  void SetUp() override { Start(false, true); }
};

TEST_F(FileServerTest, ServesOneFileAndNothingBesideIt) {
  Answer a = Call(Op::kAttach, AttachRequest{kProtocolVersion, 0});
  EXPECT_EQ(a.As<AttachReply>().flags, kAttachIsFile);
  EXPECT_EQ(OpenAt(kRootHandle, "", kAccessRead | kAccessWrite).error(), 0);
  EXPECT_EQ(Walk(kRootHandle, "x").error(), ENOTDIR);
  EXPECT_EQ(Stat(kRootHandle, "root").error(), ENOTDIR);
}

}  // namespace
}  // namespace caisson::gofer
