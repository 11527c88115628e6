// chmod(2), chown(2), utimensat(2), umask(2), and the times that other calls change.
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

struct stat Stat(const std::string& path) {
  struct stat st = {};
  EXPECT_THAT(lstat(path.c_str(), &st), SyscallSucceeds());
  return st;
}
mode_t Mode(const std::string& path) { return Stat(path).st_mode & 07777; }

// Sets both times of `path` to a fixed past, so that a change shows without waiting.
void Age(const std::string& path) {
  timespec past[2] = {{1000, 0}, {1000, 0}};
  ASSERT_THAT(utimensat(AT_FDCWD, path.c_str(), past, AT_SYMLINK_NOFOLLOW), SyscallSucceeds());
}

TEST(ChmodTest, SetsAllTwelveBits) {
  TempFile file;
  ASSERT_THAT(chmod(file.c_str(), 07531), SyscallSucceeds());
  EXPECT_EQ(Mode(file.path()), 07531u);
}

TEST(ChmodTest, ThroughADescriptor) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY);
  ASSERT_THAT(fchmod(fd, 0400), SyscallSucceeds());
  EXPECT_EQ(Mode(file.path()), 0400u);
}

TEST(ChmodTest, OnlyTheOwnerMay) {
  TempFile file;
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(chmod(file.c_str(), 0777), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

TEST(ChmodTest, SetgidIsDroppedForAForeignGroup) {
  TempFile file;
  ASSERT_THAT(chown(file.c_str(), 1000, 2000), SyscallSucceeds());
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setgroups(0, nullptr), SyscallSucceeds());
                ASSERT_THAT(setresgid(1000, 1000, 1000), SyscallSucceeds());
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(chmod(file.c_str(), 02755), SyscallSucceeds());
              }),
              ExitsWith(0));
  EXPECT_EQ(Mode(file.path()), 0755u);
}

TEST(ChownTest, MinusOneLeavesAnIdAlone) {
  TempFile file;
  ASSERT_THAT(chown(file.c_str(), 11, 22), SyscallSucceeds());
  ASSERT_THAT(chown(file.c_str(), -1, 33), SyscallSucceeds());
  EXPECT_EQ(Stat(file.path()).st_uid, 11u);
  EXPECT_EQ(Stat(file.path()).st_gid, 33u);
}

TEST(ChownTest, ClearsSetuidAndSetgidOfPrograms) {
  TempFile file;
  ASSERT_THAT(chmod(file.c_str(), 06755), SyscallSucceeds());
  ASSERT_THAT(chown(file.c_str(), 11, 22), SyscallSucceeds());
  EXPECT_EQ(Mode(file.path()), 0755u);
}

TEST(ChownTest, LchownChangesTheLink) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", ""));
  ASSERT_THAT(symlink("f", (dir / "l").c_str()), SyscallSucceeds());
  ASSERT_THAT(lchown((dir / "l").c_str(), 11, 22), SyscallSucceeds());
  EXPECT_EQ(Stat(dir / "l").st_uid, 11u);
  EXPECT_EQ(Stat(dir / "f").st_uid, getuid());
}

TEST(ChownTest, OwnerCannotGiveAwayButMayUseHisGroups) {
  TempFile file;
  ASSERT_THAT(chown(file.c_str(), 1000, 1000), SyscallSucceeds());
  EXPECT_THAT(InChild([&] {
                gid_t groups[] = {3000};
                ASSERT_THAT(setgroups(1, groups), SyscallSucceeds());
                ASSERT_THAT(setresgid(1000, 1000, 1000), SyscallSucceeds());
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(chown(file.c_str(), 1001, -1), SyscallFailsWithErrno(EPERM));
                EXPECT_THAT(chown(file.c_str(), -1, 4000), SyscallFailsWithErrno(EPERM));
                EXPECT_THAT(chown(file.c_str(), -1, 3000), SyscallSucceeds());
              }),
              ExitsWith(0));
}

TEST(WriteTest, ClearsSetuidForTheUnprivileged) {
  TempFile file;
  ASSERT_THAT(chown(file.c_str(), 1000, 1000), SyscallSucceeds());
  ASSERT_THAT(chmod(file.c_str(), 04777), SyscallSucceeds());
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                FdCloser fd = file.Open(O_WRONLY);
                EXPECT_THAT(write(fd, "x", 1), SyscallSucceedsWithValue(1));
              }),
              ExitsWith(0));
  EXPECT_EQ(Mode(file.path()), 0777u);
}

TEST(UtimensatTest, SetsNanoseconds) {
  TempFile file;
  timespec times[2] = {{1234567, 123456789}, {7654321, 987654321}};
  ASSERT_THAT(utimensat(AT_FDCWD, file.c_str(), times, 0), SyscallSucceeds());
  struct stat st = Stat(file.path());
  EXPECT_EQ(st.st_atim.tv_sec, 1234567);
  EXPECT_EQ(st.st_atim.tv_nsec, 123456789);
  EXPECT_EQ(st.st_mtim.tv_sec, 7654321);
  EXPECT_EQ(st.st_mtim.tv_nsec, 987654321);
}

TEST(UtimensatTest, OmitLeavesOneAlone) {
  TempFile file;
  timespec first[2] = {{100, 0}, {200, 0}}, second[2] = {{0, UTIME_OMIT}, {300, 0}};
  ASSERT_THAT(utimensat(AT_FDCWD, file.c_str(), first, 0), SyscallSucceeds());
  ASSERT_THAT(utimensat(AT_FDCWD, file.c_str(), second, 0), SyscallSucceeds());
  EXPECT_EQ(Stat(file.path()).st_atim.tv_sec, 100);
  EXPECT_EQ(Stat(file.path()).st_mtim.tv_sec, 300);
}

TEST(UtimensatTest, NullMeansNow) {
  TempFile file;
  Age(file.path());
  ASSERT_THAT(utimensat(AT_FDCWD, file.c_str(), nullptr, 0), SyscallSucceeds());
  EXPECT_GT(Stat(file.path()).st_mtim.tv_sec, 1000);
  EXPECT_GT(Stat(file.path()).st_atim.tv_sec, 1000);
}

TEST(UtimensatTest, BadNanosecondsAreInvalid) {
  TempFile file;
  timespec bad[2] = {{0, 1000000000}, {0, 0}};
  EXPECT_THAT(utimensat(AT_FDCWD, file.c_str(), bad, 0), SyscallFailsWithErrno(EINVAL));
}

TEST(UtimensatTest, AWriterMaySetNowButNotAnyTime) {
  TempFile file("", 0666);
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                timespec times[2] = {{1, 0}, {1, 0}};
                EXPECT_THAT(utimensat(AT_FDCWD, file.c_str(), times, 0),
                            SyscallFailsWithErrno(EPERM));
                EXPECT_THAT(utimensat(AT_FDCWD, file.c_str(), nullptr, 0), SyscallSucceeds());
              }),
              ExitsWith(0));
}

TEST(TimesTest, WriteChangesModification) {
  TempFile file;
  Age(file.path());
  FdCloser fd = file.Open(O_WRONLY);
  ASSERT_THAT(write(fd, "x", 1), SyscallSucceedsWithValue(1));
  EXPECT_GT(Stat(file.path()).st_mtim.tv_sec, 1000);
}

TEST(TimesTest, CreatingAnEntryChangesTheDirectory) {
  TempDir dir;
  Age(dir.path());
  ASSERT_TRUE(WriteFile(dir / "f", ""));
  EXPECT_GT(Stat(dir.path()).st_mtim.tv_sec, 1000);
}

TEST(TimesTest, ChmodLeavesModificationAlone) {
  TempFile file;
  Age(file.path());
  ASSERT_THAT(chmod(file.c_str(), 0600), SyscallSucceeds());
  EXPECT_EQ(Stat(file.path()).st_mtim.tv_sec, 1000);
  EXPECT_GT(Stat(file.path()).st_ctim.tv_sec, 1000);
}

TEST(UmaskTest, ReturnsTheOldAndMasksPermissionBitsOnly) {
  EXPECT_THAT(InChild([] {
                umask(022);
                EXPECT_EQ(umask(07777), 022u);
                EXPECT_EQ(umask(0), 0777u);
              }),
              ExitsWith(0));
}

TEST(SetgidDirectoryTest, NewEntriesInheritTheGroup) {
  TempDir dir;
  ASSERT_THAT(chown(dir.c_str(), 0, 777), SyscallSucceeds());
  ASSERT_THAT(chmod(dir.c_str(), 02755), SyscallSucceeds());
  ASSERT_TRUE(WriteFile(dir / "f", ""));
  ASSERT_THAT(mkdir((dir / "d").c_str(), 0755), SyscallSucceeds());
  EXPECT_EQ(Stat(dir / "f").st_gid, 777u);
  EXPECT_EQ(Stat(dir / "d").st_gid, 777u);
  EXPECT_TRUE(Stat(dir / "d").st_mode & S_ISGID);
}

}  // namespace
}  // namespace caisson::test
