// What guests do to host files. Needs root.
#include <sys/mman.h>

#include <set>

#include "vfs/gofer/test_world.h"

namespace caisson::vfs {
namespace {

using GoferFileTest = GoferTest;

TEST_F(GoferFileTest, ReadsAndWritesHostFiles) {
  Host("echo hello > f; mkdir -p a/b; echo deep > a/b/c");
  EXPECT_EQ(*ctx().ReadFile("/f"), "hello\n");
  EXPECT_EQ(*ctx().ReadFile("/a/b/c"), "deep\n");
  ASSERT_OK(ctx().WriteFile("/new", "written"));
  EXPECT_EQ(HostRead("new"), "written");
  EXPECT_ERRNO(ctx().ReadFile("/missing"), kENOENT);
}

TEST_F(GoferFileTest, LargeTransfersArriveWhole) {
  std::string data;
  for (int i = 0; data.size() < 1'500'000; ++i) data += std::to_string(i);
  ASSERT_OK(ctx().WriteFile("/big", data));
  EXPECT_TRUE(HostRead("big") == data);
  EXPECT_TRUE(*ctx().ReadFile("/big") == data);
}

TEST_F(GoferFileTest, CreatedFilesBelongToTheirMaker) {
  Host("mkdir pub; chmod 1777 pub; mkdir group; chgrp 77 group; chmod 2777 group");
  ctx().BecomeUser(1000, 1001);
  ASSERT_OK(ctx().WriteFile("/pub/f", "x", 0640));
  ASSERT_OK(ctx().Mkdir("/pub/d", 0750));
  ASSERT_OK(ctx().Symlink("f", "/pub/l"));
  ASSERT_OK(ctx().WriteFile("/group/f", "x"));
  EXPECT_EQ(HostStat("pub/f").st_uid, 1000u);
  EXPECT_EQ(HostStat("pub/f").st_gid, 1001u);
  EXPECT_EQ(HostStat("pub/f").st_mode & 07777, 0640u);
  EXPECT_EQ(HostStat("pub/d").st_uid, 1000u);
  EXPECT_EQ(HostStat("pub/l").st_uid, 1000u);
  EXPECT_EQ(HostStat("group/f").st_gid, 77u);
  EXPECT_EQ(ctx().Stat("/pub/f")->uid, 1000u);
}

TEST_F(GoferFileTest, OwnersAreCheckedByTheSentry) {
  Host("echo x > secret; chmod 600 secret");
  ctx().BecomeUser(1000, 1000);
  EXPECT_ERRNO(ctx().Open("/secret"), kEACCES);
  EXPECT_ERRNO(ctx().Open("/made", kOpenCreate | kOpenWriteOnly), kEACCES);
}

TEST_F(GoferFileTest, AppendsGoToTheEnd) {
  Host("printf abc > f");
  RefPtr<FileDescription> file = *ctx().Open("/f", kOpenWriteOnly | kOpenAppend);
  Host("printf def >> f");
  EXPECT_EQ(*ctx().Write(*file, "ghi"), 3u);
  EXPECT_EQ(HostRead("f"), "abcdefghi");
  EXPECT_EQ(*file->Seek(ctx(), 0, 1), 9);
}

TEST_F(GoferFileTest, TruncatesOnOpenAndByCall) {
  Host("printf 0123456789 > f");
  RefPtr<FileDescription> file = *ctx().Open("/f", kOpenReadWrite);
  ASSERT_OK(FileTruncate(ctx(), *file, 4));
  EXPECT_EQ(HostRead("f"), "0123");
  EXPECT_EQ(ctx().Stat("/f")->size, 4u);
  ASSERT_OK(ctx().Open("/f", kOpenWriteOnly | kOpenTruncate));
  EXPECT_EQ(HostStat("f").st_size, 0);
  VfsPath path = *ctx().Walk("/f");
  ASSERT_OK(Truncate(ctx(), path, 100));
  EXPECT_EQ(ctx().Stat("/f")->size, 100u);
}

TEST_F(GoferFileTest, ChangesOfMetadataReachTheHost) {
  Host("echo x > f");
  VfsPath path = *ctx().Walk("/f");
  ASSERT_OK(Chmod(ctx(), path, 0751));
  ASSERT_OK(Chown(ctx(), path, 12, 34));
  SetAttributes::Time t;
  t.at = {12345, 678};
  ASSERT_OK(SetTimes(ctx(), path, t, t, false));
  EXPECT_EQ(HostStat("f").st_mode & 07777, 0751u);
  EXPECT_EQ(HostStat("f").st_uid, 12u);
  EXPECT_EQ(HostStat("f").st_mtim.tv_sec, 12345);
  EXPECT_EQ(ctx().Stat("/f")->mtime.nsec, 678u);
  EXPECT_EQ(ctx().Stat("/f")->gid, 34u);
}

TEST_F(GoferFileTest, HardLinksShareOneInode) {
  Host("echo x > a");
  ASSERT_OK(ctx().Mkdir("/d"));
  ASSERT_OK(ctx().Link("/a", "/d/b"));
  EXPECT_EQ(ctx().Walk("/a")->dentry->inode(), ctx().Walk("/d/b")->dentry->inode());
  EXPECT_EQ(ctx().Stat("/a")->nlink, 2u);
  ASSERT_OK(ctx().Unlink("/a"));
  EXPECT_EQ(ctx().Stat("/d/b")->nlink, 1u);
  EXPECT_EQ(*ctx().ReadFile("/d/b"), "x\n");
  ASSERT_OK(Chmod(ctx(), *ctx().Walk("/d/b"), 0600));
  EXPECT_EQ(HostStat("d/b").st_mode & 0777, 0600u);
}

TEST_F(GoferFileTest, HostHardLinksShareOneInode) {
  Host("echo x > a; ln a b; mkdir d; ln a d/c");
  RefPtr<Inode> a = ctx().Walk("/a")->dentry->inode();
  EXPECT_EQ(a, ctx().Walk("/b")->dentry->inode());
  EXPECT_EQ(a, ctx().Walk("/d/c")->dentry->inode());
  Host("rm b");
  EXPECT_TRUE(Soon([&] { return !ctx().Stat("/b").ok(); }));
  EXPECT_EQ(*ctx().ReadFile("/a"), "x\n");
  Host("rm a");
  EXPECT_TRUE(Soon([&] { return !ctx().Stat("/a").ok(); }));
  ASSERT_OK(Chmod(ctx(), *ctx().Walk("/d/c"), 0611));
}

TEST_F(GoferFileTest, UnlinkedOpenFilesLiveOn) {
  ASSERT_OK(ctx().WriteFile("/f", "data"));
  RefPtr<FileDescription> file = *ctx().Open("/f", kOpenReadWrite);
  RefPtr<FileDescription> reader = *ctx().Open("/f");
  ASSERT_OK(ctx().Unlink("/f"));
  EXPECT_ERRNO(ctx().Stat("/f"), kENOENT);
  EXPECT_EQ(*ctx().Read(*reader, 10), "data");
  EXPECT_EQ(file->GetAttributes(ctx())->nlink, 0u);
  ASSERT_OK(FileChmod(ctx(), *file, 0611));
  EXPECT_EQ(file->GetAttributes(ctx())->mode & 07777, 0611u);
  ASSERT_OK(ctx().WriteFile("/f", "other"));
  EXPECT_EQ(*ctx().ReadFile("/f"), "other");
  EXPECT_EQ(file->GetAttributes(ctx())->size, 4u);
}

TEST_F(GoferFileTest, RenamesMoveFilesAndDirectories) {
  Host("mkdir -p a/sub b; echo 1 > a/sub/f; echo 2 > b/g");
  EXPECT_EQ(*ctx().ReadFile("/a/sub/f"), "1\n");
  ASSERT_OK(ctx().Rename("/a/sub", "/b/moved"));
  EXPECT_EQ(*ctx().ReadFile("/b/moved/f"), "1\n");
  EXPECT_ERRNO(ctx().Stat("/a/sub"), kENOENT);
  ASSERT_OK(ctx().Rename("/b/moved/f", "/b/g"));
  EXPECT_EQ(*ctx().ReadFile("/b/g"), "1\n");
  ASSERT_OK(ctx().WriteFile("/x", "x"));
  ASSERT_OK(ctx().Rename("/x", "/b/g", kRenameExchange));
  EXPECT_EQ(*ctx().ReadFile("/x"), "1\n");
  EXPECT_EQ(HostRead("b/g"), "x");
  EXPECT_ERRNO(ctx().Rename("/x", "/b/g", kRenameNoReplace), kEEXIST);
  ASSERT_OK(ctx().WriteFile("/b/moved/late", "z"));
  EXPECT_EQ(HostRead("b/moved/late"), "z");
}

TEST_F(GoferFileTest, AReplacedOpenFileKeepsItsData) {
  ASSERT_OK(ctx().WriteFile("/a", "old"));
  ASSERT_OK(ctx().WriteFile("/b", "new"));
  RefPtr<FileDescription> file = *ctx().Open("/a");
  ASSERT_OK(ctx().Rename("/b", "/a"));
  EXPECT_EQ(*ctx().Read(*file, 10), "old");
  EXPECT_EQ(file->GetAttributes(ctx())->nlink, 0u);
  EXPECT_EQ(*ctx().ReadFile("/a"), "new");
}

TEST_F(GoferFileTest, LinksAreFollowedInside) {
  Host("ln -s /etc/passwd abs; ln -s d/f rel; mkdir d; echo in > d/f; ln -s .. d/up");
  EXPECT_EQ(*ctx().ReadFile("/rel"), "in\n");
  EXPECT_EQ(*ctx().ReadFile("/d/up/d/f"), "in\n");
  EXPECT_ERRNO(ctx().ReadFile("/abs"), kENOENT);
  EXPECT_EQ(*ReadLink(ctx(), *ctx().Walk("/abs", false)), "/etc/passwd");
}

TEST_F(GoferFileTest, ListsDirectoriesWithStableOffsets) {
  for (int i = 0; i < 700; ++i) Host("true > f" + std::to_string(i));
  EXPECT_EQ(ctx().List("/")->size(), 700u);
  class OneByOne : public DirectorySink {
   public:
    bool Add(absl::string_view name, uint64_t, FileMode, int64_t next) override {
      if (taken) return false;
      taken = true;
      last = std::string(name);
      offset = next;
      return true;
    }
    bool taken = false;
    std::string last;
    int64_t offset = 0;
  };
  RefPtr<FileDescription> dir = *ctx().Open("/", kOpenDirectory);
  std::set<std::string> seen;
  // Removing what was read does not make the rest shift.
  for (;;) {
    OneByOne sink;
    ASSERT_OK(dir->Iterate(ctx(), sink));
    if (!sink.taken) break;
    EXPECT_TRUE(seen.insert(sink.last).second);
    if (sink.last[0] == 'f') ASSERT_OK(ctx().Unlink("/" + sink.last));
  }
  EXPECT_EQ(seen.size(), 702u);
  ASSERT_OK(dir->Seek(ctx(), 0, 0));
  seen.clear();
  for (;;) {
    OneByOne sink;
    ASSERT_OK(dir->Iterate(ctx(), sink));
    if (!sink.taken) break;
    seen.insert(sink.last);
  }
  EXPECT_EQ(seen.size(), 2u);
}

TEST_F(GoferFileTest, UnnamedFilesCanGetAName) {
  VfsPath root = *ctx().Walk("/");
  RefPtr<FileDescription> file = *ctx().Open("/", kOpenTmpfile | kOpenReadWrite, 0600);
  EXPECT_EQ(*ctx().Write(*file, "tmp"), 3u);
  EXPECT_EQ(ctx().List("/")->size(), 0u);
  ASSERT_OK(Link(ctx(), file->path(), root, "named"));
  EXPECT_EQ(HostRead("named"), "tmp");
  EXPECT_EQ(ctx().Stat("/named")->nlink, 1u);
}

TEST_F(GoferFileTest, ExtendedAttributes) {
  ASSERT_OK(ctx().WriteFile("/f", "x"));
  VfsPath path = *ctx().Walk("/f");
  EXPECT_ERRNO(GetXattr(ctx(), path, "user.a"), kENODATA);
  ASSERT_OK(SetXattr(ctx(), path, "user.a", "1", 0));
  EXPECT_EQ(*GetXattr(ctx(), path, "user.a"), "1");
  EXPECT_EQ(ListXattr(ctx(), path)->size(), 1u);
  EXPECT_ERRNO(SetXattr(ctx(), path, "user.a", "2", kXattrCreate), kEEXIST);
  ASSERT_OK(RemoveXattr(ctx(), path, "user.a"));
  EXPECT_ERRNO(GetXattr(ctx(), path, "user.a"), kENODATA);
}

TEST_F(GoferFileTest, MappingsShowWhatIsWritten) {
  ASSERT_OK(ctx().WriteFile("/f", std::string(4096, 'a')));
  RefPtr<FileDescription> reader = *ctx().Open("/f");
  HostMapping m = *reader->Map(ctx(), 0, 4096, true, false);
  EXPECT_FALSE(m.writable);
  EXPECT_EQ(fcntl(m.host_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
  char* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, m.host_fd, 0));
  ASSERT_NE(p, MAP_FAILED);
  RefPtr<FileDescription> writer = *ctx().Open("/f", kOpenReadWrite);
  HostMapping w = *writer->Map(ctx(), 0, 4096, true, true);
  EXPECT_EQ(fcntl(w.host_fd, F_GETFL) & O_ACCMODE, O_RDWR);
  EXPECT_EQ(*ctx().Write(*writer, "b"), 1u);
  EXPECT_EQ(p[0], 'b');
  EXPECT_ERRNO(reader->Map(ctx(), 0, 4096, true, true), kEACCES);
  munmap(p, 4096);
}

TEST_F(GoferFileTest, SpecialFilesAreOnlyPlaces) {
  Host("mkfifo p; mknod n c 1 3");
  EXPECT_ERRNO(ctx().Open("/n"), kENXIO);
  EXPECT_EQ(ctx().Stat("/n")->rdev.minor, 3u);
  ASSERT_OK(Mknod(ctx(), ctx().cwd(), "made", kModeFifo | 0600, {}));
  EXPECT_TRUE(S_ISFIFO(HostStat("made").st_mode));
}

TEST_F(GoferFileTest, FileSystemFiguresAreTheHosts) {
  FsStatistics s = *fs_->Statistics(ctx());
  EXPECT_GT(s.blocks, 0u);
  EXPECT_EQ(s.name_length, 255u);
}

class ReadOnlyGoferTest : public GoferTest {
 protected:
  void SetUp() override { Start({}, true); }
};

TEST_F(ReadOnlyGoferTest, RefusesWrites) {
  Host("echo x > f");
  EXPECT_EQ(*ctx().ReadFile("/f"), "x\n");
  EXPECT_ERRNO(ctx().Open("/f", kOpenWriteOnly), kEROFS);
  EXPECT_ERRNO(ctx().Mkdir("/d"), kEROFS);
  EXPECT_ERRNO(ctx().Unlink("/f"), kEROFS);
}

}  // namespace
}  // namespace caisson::vfs
