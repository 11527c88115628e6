// open(2), openat(2), creat(2): flags, O_TMPFILE, O_PATH, errnos.
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(OpenTest, MissingFileIsEnoent) {
  TempDir dir;
  EXPECT_THAT(open((dir / "none").c_str(), O_RDONLY), SyscallFailsWithErrno(ENOENT));
  EXPECT_THAT(open("", O_RDONLY), SyscallFailsWithErrno(ENOENT));
}

TEST(OpenTest, CreateAppliesUmaskToMode) {
  TempDir dir;
  EXPECT_THAT(InChild([&] {
                umask(027);
                FdCloser fd(open((dir / "f").c_str(), O_CREAT | O_RDWR, 0777));
                struct stat st;
                ASSERT_THAT(fstat(fd, &st), SyscallSucceeds());
                EXPECT_EQ(st.st_mode, static_cast<mode_t>(S_IFREG | 0750));
              }),
              ExitsWith(0));
}

TEST(OpenTest, CreatedReadOnlyFileIsWritableThroughItsDescriptor) {
  TempDir dir;
  FdCloser fd(open((dir / "f").c_str(), O_CREAT | O_RDWR, 0400));
  EXPECT_THAT(write(fd, "x", 1), SyscallSucceedsWithValue(1));
}

TEST(OpenTest, ExclusiveCreateOfExistingFileIsEexist) {
  TempFile file;
  EXPECT_THAT(open(file.c_str(), O_CREAT | O_EXCL | O_RDWR, 0644), SyscallFailsWithErrno(EEXIST));
}

TEST(OpenTest, ExclusiveCreateDoesNotFollowADanglingLink) {
  TempDir dir;
  ASSERT_THAT(symlink("target", (dir / "link").c_str()), SyscallSucceeds());
  EXPECT_THAT(open((dir / "link").c_str(), O_CREAT | O_EXCL | O_RDWR, 0644),
              SyscallFailsWithErrno(EEXIST));
  EXPECT_FALSE(Exists(dir / "target"));
}

TEST(OpenTest, CreateFollowsADanglingLink) {
  TempDir dir;
  ASSERT_THAT(symlink("target", (dir / "link").c_str()), SyscallSucceeds());
  FdCloser fd(open((dir / "link").c_str(), O_CREAT | O_RDWR, 0644));
  EXPECT_THAT(static_cast<int>(fd), SyscallSucceeds());
  EXPECT_TRUE(Exists(dir / "target"));
}

TEST(OpenTest, TruncateEmptiesTheFile) {
  TempFile file("content");
  FdCloser fd = file.Open(O_WRONLY | O_TRUNC);
  EXPECT_EQ(ReadFile(file.path()), "");
}

TEST(OpenTest, AppendWritesAtTheEndWhateverTheOffset) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_WRONLY | O_APPEND);
  ASSERT_THAT(lseek(fd, 0, SEEK_SET), SyscallSucceeds());
  ASSERT_THAT(write(fd, "d", 1), SyscallSucceedsWithValue(1));
  EXPECT_EQ(ReadFile(file.path()), "abcd");
  EXPECT_THAT(lseek(fd, 0, SEEK_CUR), SyscallSucceedsWithValue(4));
}

TEST(OpenTest, DirectoryFlagOnAFileIsEnotdir) {
  TempFile file;
  EXPECT_THAT(open(file.c_str(), O_RDONLY | O_DIRECTORY), SyscallFailsWithErrno(ENOTDIR));
}

TEST(OpenTest, WritingADirectoryIsEisdir) {
  TempDir dir;
  EXPECT_THAT(open(dir.c_str(), O_WRONLY), SyscallFailsWithErrno(EISDIR));
  EXPECT_THAT(open(dir.c_str(), O_RDONLY | O_CREAT, 0644), SyscallFailsWithErrno(EISDIR));
}

TEST(OpenTest, NoFollowOnALinkIsEloop) {
  TempFile file;
  TempDir dir;
  ASSERT_THAT(symlink(file.c_str(), (dir / "link").c_str()), SyscallSucceeds());
  EXPECT_THAT(open((dir / "link").c_str(), O_RDONLY | O_NOFOLLOW), SyscallFailsWithErrno(ELOOP));
}

TEST(OpenTest, LinkCycleIsEloop) {
  TempDir dir;
  ASSERT_THAT(symlink("b", (dir / "a").c_str()), SyscallSucceeds());
  ASSERT_THAT(symlink("a", (dir / "b").c_str()), SyscallSucceeds());
  EXPECT_THAT(open((dir / "a").c_str(), O_RDONLY), SyscallFailsWithErrno(ELOOP));
}

TEST(OpenTest, FortyLinksAreFollowedAndFortyOneAreNot) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "0", "end"));
  for (int i = 1; i <= 41; i++) {
    ASSERT_THAT(symlink(std::to_string(i - 1).c_str(), (dir / std::to_string(i)).c_str()),
                SyscallSucceeds());
  }
  FdCloser fd(open((dir / "40").c_str(), O_RDONLY));
  EXPECT_THAT(static_cast<int>(fd), SyscallSucceeds());
  EXPECT_THAT(open((dir / "41").c_str(), O_RDONLY), SyscallFailsWithErrno(ELOOP));
}

TEST(OpenTest, FileAsAPathComponentIsEnotdir) {
  TempFile file;
  EXPECT_THAT(open((file.path() + "/x").c_str(), O_RDONLY), SyscallFailsWithErrno(ENOTDIR));
  EXPECT_THAT(open((file.path() + "/").c_str(), O_RDONLY), SyscallFailsWithErrno(ENOTDIR));
  EXPECT_THAT(open((file.path() + "/.").c_str(), O_RDONLY), SyscallFailsWithErrno(ENOTDIR));
}

TEST(OpenTest, CreateWithTrailingSlashIsEisdir) {
  TempDir dir;
  EXPECT_THAT(open((dir / "new/").c_str(), O_CREAT | O_RDWR, 0644), SyscallFailsWithErrno(EISDIR));
}

TEST(OpenTest, NameOf255BytesWorksAnd256IsEnametoolong) {
  TempDir dir;
  FdCloser fd(open((dir / std::string(255, 'n')).c_str(), O_CREAT | O_RDWR, 0644));
  EXPECT_THAT(static_cast<int>(fd), SyscallSucceeds());
  EXPECT_THAT(open((dir / std::string(256, 'n')).c_str(), O_CREAT | O_RDWR, 0644),
              SyscallFailsWithErrno(ENAMETOOLONG));
}

TEST(OpenTest, PathOf4095BytesWorksAnd4096IsEnametoolong) {
  std::string path = "/tmp";
  while (path.size() < 4095) path += "/";
  FdCloser fd(open(path.c_str(), O_RDONLY));
  EXPECT_THAT(static_cast<int>(fd), SyscallSucceeds());
  path += "/";
  EXPECT_THAT(open(path.c_str(), O_RDONLY), SyscallFailsWithErrno(ENAMETOOLONG));
}

TEST(OpenTest, ModeForbidsOthers) {
  TempFile file("secret", 0600);
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(open(file.c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

TEST(OpenTest, SearchPermissionIsNeededOnEveryDirectory) {
  TempDir dir;
  ASSERT_THAT(mkdir((dir / "d").c_str(), 0700), SyscallSucceeds());
  ASSERT_TRUE(WriteFile(dir / "d/f", "x"));
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(open((dir / "d/f").c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
                EXPECT_THAT(open((dir / "d/none").c_str(), O_RDONLY),
                            SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

TEST(OpenTest, WritingARunningProgramIsEtxtbsy) {
  EXPECT_THAT(open(SelfPath().c_str(), O_WRONLY), SyscallFailsWithErrno(ETXTBSY));
}

TEST(OpenTest, AccessModeThreeAllowsNeitherReadNorWrite) {
  TempFile file("x");
  FdCloser fd = file.Open(O_ACCMODE);
  ASSERT_THAT(static_cast<int>(fd), SyscallSucceeds());
  char byte;
  EXPECT_THAT(read(fd, &byte, 1), SyscallFailsWithErrno(EBADF));
  EXPECT_THAT(write(fd, &byte, 1), SyscallFailsWithErrno(EBADF));
}

TEST(OpenTest, UnknownFlagsAreIgnored) {
  TempFile file;
  FdCloser fd(syscall(SYS_open, file.c_str(), O_RDONLY | 0x20000000, 0));
  EXPECT_THAT(static_cast<int>(fd), SyscallSucceeds());
}

TEST(OpenatTest, RelativeToADescriptor) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "here"));
  FdCloser at(open(dir.c_str(), O_RDONLY | O_DIRECTORY));
  FdCloser fd(openat(at, "f", O_RDONLY));
  EXPECT_EQ(ReadAll(fd), "here");
}

TEST(OpenatTest, AbsolutePathIgnoresTheDescriptor) {
  FdCloser fd(openat(-5, "/dev/null", O_RDONLY));
  EXPECT_THAT(static_cast<int>(fd), SyscallSucceeds());
}

TEST(OpenatTest, RelativeToAFileIsEnotdirAndToNothingEbadf) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(openat(fd, "x", O_RDONLY), SyscallFailsWithErrno(ENOTDIR));
  EXPECT_THAT(openat(1000, "x", O_RDONLY), SyscallFailsWithErrno(EBADF));
}

TEST(OpenatTest, RemovedDirectoryHasNoEntries) {
  TempDir dir;
  ASSERT_THAT(mkdir((dir / "d").c_str(), 0755), SyscallSucceeds());
  FdCloser at(open((dir / "d").c_str(), O_RDONLY));
  ASSERT_THAT(rmdir((dir / "d").c_str()), SyscallSucceeds());
  EXPECT_THAT(openat(at, "x", O_CREAT | O_RDWR, 0644), SyscallFailsWithErrno(ENOENT));
}

TEST(TmpfileTest, HasNoNameUntilLinked) {
  TempDir dir;
  FdCloser fd(open(dir.c_str(), O_TMPFILE | O_RDWR, 0640));
  ASSERT_THAT(static_cast<int>(fd), SyscallSucceeds());
  EXPECT_TRUE(ListDir(dir.path()).empty());
  struct stat st;
  ASSERT_THAT(fstat(fd, &st), SyscallSucceeds());
  EXPECT_EQ(st.st_nlink, 0u);
  ASSERT_TRUE(WriteAll(fd, "late"));
  std::string proc = "/proc/self/fd/" + std::to_string(fd);
  ASSERT_THAT(linkat(AT_FDCWD, proc.c_str(), AT_FDCWD, (dir / "named").c_str(), AT_SYMLINK_FOLLOW),
              SyscallSucceeds());
  EXPECT_EQ(ReadFile(dir / "named"), "late");
}

TEST(TmpfileTest, ExclusiveOneCannotBeLinked) {
  TempDir dir;
  FdCloser fd(open(dir.c_str(), O_TMPFILE | O_RDWR | O_EXCL, 0640));
  ASSERT_THAT(static_cast<int>(fd), SyscallSucceeds());
  std::string proc = "/proc/self/fd/" + std::to_string(fd);
  EXPECT_THAT(linkat(AT_FDCWD, proc.c_str(), AT_FDCWD, (dir / "named").c_str(), AT_SYMLINK_FOLLOW),
              SyscallFailsWithErrno(ENOENT));
}

TEST(TmpfileTest, ReadOnlyIsInvalid) {
  TempDir dir;
  EXPECT_THAT(open(dir.c_str(), O_TMPFILE | O_RDONLY, 0640), SyscallFailsWithErrno(EINVAL));
}

TEST(OpathTest, ReadAndWriteAreBad) {
  TempFile file("x");
  FdCloser fd = file.Open(O_PATH);
  char byte;
  EXPECT_THAT(read(fd, &byte, 1), SyscallFailsWithErrno(EBADF));
  EXPECT_THAT(fchmod(fd, 0600), SyscallFailsWithErrno(EBADF));
  EXPECT_THAT(ftruncate(fd, 0), SyscallFailsWithErrno(EBADF));
  EXPECT_THAT(fcntl(fd, F_GETFL), SyscallSucceedsWithValue(O_PATH));
}

TEST(OpathTest, NeedsNoPermissionOnTheFileItself) {
  TempFile file("x", 0000);
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(open(file.c_str(), O_PATH), SyscallSucceeds());
              }),
              ExitsWith(0));
}

TEST(OpathTest, NoFollowOpensTheLinkItself) {
  TempDir dir;
  ASSERT_THAT(symlink("nowhere", (dir / "l").c_str()), SyscallSucceeds());
  FdCloser fd(open((dir / "l").c_str(), O_PATH | O_NOFOLLOW));
  struct stat st;
  ASSERT_THAT(fstat(fd, &st), SyscallSucceeds());
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  char target[16] = {};
  EXPECT_THAT(readlinkat(fd, "", target, sizeof(target)), SyscallSucceedsWithValue(7));
}

TEST(OpathTest, ReopensThroughProc) {
  TempFile file("again");
  FdCloser fd = file.Open(O_PATH);
  EXPECT_EQ(ReadFile("/proc/self/fd/" + std::to_string(fd)), "again");
}

}  // namespace
}  // namespace caisson::test
