// link(2), symlink(2), readlink(2), unlink(2), mkdir(2), rmdir(2), mknod(2).
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

nlink_t Links(const std::string& path) {
  struct stat st = {};
  lstat(path.c_str(), &st);
  return st.st_nlink;
}

TEST(LinkTest, BothNamesAreOneFile) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "one"));
  ASSERT_THAT(link((dir / "a").c_str(), (dir / "b").c_str()), SyscallSucceeds());
  EXPECT_EQ(Links(dir / "a"), 2u);
  ASSERT_TRUE(WriteFile(dir / "b", "two"));
  EXPECT_EQ(ReadFile(dir / "a"), "two");
}

TEST(LinkTest, ExistingTargetIsEexist) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", ""));
  EXPECT_THAT(link((dir / "a").c_str(), (dir / "a").c_str()), SyscallFailsWithErrno(EEXIST));
}

TEST(LinkTest, DirectoryIsEperm) {
  TempDir dir;
  EXPECT_THAT(link(dir.c_str(), (dir / "x").c_str()), SyscallFailsWithErrno(EPERM));
}

TEST(LinkTest, ToAnotherFileSystemIsExdev) {
  TempFile file;
  EXPECT_THAT(link(file.c_str(), "/dev/shm/guest_test_never"), SyscallFailsWithErrno(EXDEV));
}

TEST(LinkTest, DoesNotFollowALinkUnlessAsked) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", ""));
  ASSERT_THAT(symlink("f", (dir / "l").c_str()), SyscallSucceeds());
  ASSERT_THAT(link((dir / "l").c_str(), (dir / "hard").c_str()), SyscallSucceeds());
  EXPECT_EQ(Links(dir / "f"), 1u);
  ASSERT_THAT(
      linkat(AT_FDCWD, (dir / "l").c_str(), AT_FDCWD, (dir / "h2").c_str(), AT_SYMLINK_FOLLOW),
      SyscallSucceeds());
  EXPECT_EQ(Links(dir / "f"), 2u);
}

TEST(LinkTest, EmptyPathLinksADescriptor) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "via fd"));
  FdCloser fd(open((dir / "f").c_str(), O_RDONLY));
  ASSERT_THAT(linkat(fd, "", AT_FDCWD, (dir / "g").c_str(), AT_EMPTY_PATH), SyscallSucceeds());
  EXPECT_EQ(ReadFile(dir / "g"), "via fd");
}

TEST(SymlinkTest, KeepsTheTextWhateverItIs) {
  TempDir dir;
  ASSERT_THAT(symlink("//no/such//place/", (dir / "l").c_str()), SyscallSucceeds());
  char text[64];
  EXPECT_THAT(readlink((dir / "l").c_str(), text, sizeof(text)), SyscallSucceedsWithValue(17));
  EXPECT_EQ(std::string(text, 17), "//no/such//place/");
}

TEST(SymlinkTest, EmptyTargetIsEnoent) {
  TempDir dir;
  EXPECT_THAT(symlink("", (dir / "l").c_str()), SyscallFailsWithErrno(ENOENT));
}

TEST(SymlinkTest, ExistingNameIsEexist) {
  TempFile file;
  EXPECT_THAT(symlink("x", file.c_str()), SyscallFailsWithErrno(EEXIST));
}

TEST(SymlinkTest, RelativeTargetStartsAtTheLinksDirectory) {
  TempDir dir;
  ASSERT_THAT(mkdir((dir / "d").c_str(), 0755), SyscallSucceeds());
  ASSERT_TRUE(WriteFile(dir / "f", "up"));
  ASSERT_THAT(symlink("../f", (dir / "d/l").c_str()), SyscallSucceeds());
  EXPECT_EQ(ReadFile(dir / "d/l"), "up");
}

TEST(ReadlinkTest, TruncatesSilently) {
  TempDir dir;
  ASSERT_THAT(symlink("abcdef", (dir / "l").c_str()), SyscallSucceeds());
  char text[4] = {};
  EXPECT_THAT(readlink((dir / "l").c_str(), text, 3), SyscallSucceedsWithValue(3));
  EXPECT_STREQ(text, "abc");
}

TEST(ReadlinkTest, NonLinkAndNoRoomAreInvalid) {
  TempDir dir;
  char text[4];
  EXPECT_THAT(readlink(dir.c_str(), text, 4), SyscallFailsWithErrno(EINVAL));
  ASSERT_THAT(symlink("x", (dir / "l").c_str()), SyscallSucceeds());
  EXPECT_THAT(syscall(SYS_readlink, (dir / "l").c_str(), text, 0), SyscallFailsWithErrno(EINVAL));
}

TEST(UnlinkTest, OpenFileLivesOn) {
  TempFile file("still here");
  FdCloser fd = file.Open(O_RDONLY);
  ASSERT_THAT(unlink(file.c_str()), SyscallSucceeds());
  EXPECT_FALSE(Exists(file.path()));
  EXPECT_EQ(ReadAll(fd), "still here");
  struct stat st;
  ASSERT_THAT(fstat(fd, &st), SyscallSucceeds());
  EXPECT_EQ(st.st_nlink, 0u);
}

TEST(UnlinkTest, RemovesTheLinkAndNotItsTarget) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", ""));
  ASSERT_THAT(symlink("f", (dir / "l").c_str()), SyscallSucceeds());
  ASSERT_THAT(unlink((dir / "l").c_str()), SyscallSucceeds());
  EXPECT_TRUE(Exists(dir / "f"));
}

TEST(UnlinkTest, DirectoryIsEisdirAndMissingEnoent) {
  TempDir dir;
  EXPECT_THAT(unlink(dir.c_str()), SyscallFailsWithErrno(EISDIR));
  EXPECT_THAT(unlink((dir / "none").c_str()), SyscallFailsWithErrno(ENOENT));
}

TEST(UnlinkTest, AtFlagRemovesADirectory) {
  TempDir dir;
  ASSERT_THAT(mkdir((dir / "d").c_str(), 0755), SyscallSucceeds());
  FdCloser at(open(dir.c_str(), O_RDONLY));
  EXPECT_THAT(unlinkat(at, "d", 0), SyscallFailsWithErrno(EISDIR));
  EXPECT_THAT(unlinkat(at, "d", AT_REMOVEDIR), SyscallSucceeds());
  EXPECT_THAT(unlinkat(at, "d", 1), SyscallFailsWithErrno(EINVAL));
}

TEST(UnlinkTest, StickyDirectoryProtectsOthersFiles) {
  TempDir dir;
  ASSERT_THAT(chmod(dir.c_str(), 01777), SyscallSucceeds());
  ASSERT_TRUE(WriteFile(dir / "f", "", 0666));
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(unlink((dir / "f").c_str()), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

TEST(MkdirTest, AppliesUmaskAndSticky) {
  TempDir dir;
  ASSERT_THAT(mkdir((dir / "d").c_str(), 01777), SyscallSucceeds());
  struct stat st;
  ASSERT_THAT(stat((dir / "d").c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(st.st_mode, static_cast<mode_t>(S_IFDIR | 01755));
}

TEST(MkdirTest, TrailingSlashIsFineAndExistingIsEexist) {
  TempDir dir;
  EXPECT_THAT(mkdir((dir / "d/").c_str(), 0755), SyscallSucceeds());
  EXPECT_THAT(mkdir((dir / "d").c_str(), 0755), SyscallFailsWithErrno(EEXIST));
  EXPECT_THAT(mkdir((dir / ".").c_str(), 0755), SyscallFailsWithErrno(EEXIST));
  EXPECT_THAT(mkdir("/", 0755), SyscallFailsWithErrno(EEXIST));
}

TEST(MkdirTest, DanglingLinkIsEexist) {
  TempDir dir;
  ASSERT_THAT(symlink("none", (dir / "l").c_str()), SyscallSucceeds());
  EXPECT_THAT(mkdir((dir / "l").c_str(), 0755), SyscallFailsWithErrno(EEXIST));
}

TEST(RmdirTest, OnlyEmptyOnes) {
  TempDir dir;
  ASSERT_THAT(mkdir((dir / "d").c_str(), 0755), SyscallSucceeds());
  ASSERT_TRUE(WriteFile(dir / "d/f", ""));
  EXPECT_THAT(rmdir((dir / "d").c_str()), SyscallFailsWithErrno(ENOTEMPTY));
  ASSERT_THAT(unlink((dir / "d/f").c_str()), SyscallSucceeds());
  EXPECT_THAT(rmdir((dir / "d").c_str()), SyscallSucceeds());
}

TEST(RmdirTest, DotsAndFilesAreRefused) {
  TempDir dir;
  ASSERT_THAT(mkdir((dir / "d").c_str(), 0755), SyscallSucceeds());
  ASSERT_TRUE(WriteFile(dir / "f", ""));
  EXPECT_THAT(rmdir((dir / "d/.").c_str()), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(rmdir((dir / "d/..").c_str()), SyscallFailsWithErrno(ENOTEMPTY));
  EXPECT_THAT(rmdir((dir / "f").c_str()), SyscallFailsWithErrno(ENOTDIR));
}

TEST(MknodTest, MakesEachKind) {
  TempDir dir;
  struct stat st;
  for (mode_t kind : {S_IFREG, S_IFIFO, S_IFSOCK}) {
    const std::string path = dir / std::to_string(kind);
    ASSERT_THAT(mknod(path.c_str(), kind | 0600, 0), SyscallSucceeds());
    ASSERT_THAT(lstat(path.c_str(), &st), SyscallSucceeds());
    EXPECT_EQ(st.st_mode & S_IFMT, kind);
  }
}

TEST(MknodTest, DirectoryIsEpermAndNonsenseInvalid) {
  TempDir dir;
  EXPECT_THAT(mknod((dir / "d").c_str(), S_IFDIR | 0755, 0), SyscallFailsWithErrno(EPERM));
  EXPECT_THAT(mknod((dir / "l").c_str(), S_IFLNK | 0755, 0), SyscallFailsWithErrno(EINVAL));
}

TEST(MknodTest, OpeningASocketFileIsEnxio) {
  TempDir dir;
  ASSERT_THAT(mknod((dir / "s").c_str(), S_IFSOCK | 0600, 0), SyscallSucceeds());
  EXPECT_THAT(open((dir / "s").c_str(), O_RDWR), SyscallFailsWithErrno(ENXIO));
}

}  // namespace
}  // namespace caisson::test
