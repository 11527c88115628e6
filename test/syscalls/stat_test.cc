// stat(2), lstat(2), fstat(2), fstatat(2), statx(2), access(2), statfs(2).
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(StatTest, RegularFile) {
  TempFile file("12345", 0640);
  struct stat st;
  ASSERT_THAT(stat(file.c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(st.st_mode, static_cast<mode_t>(S_IFREG | 0640));
  EXPECT_EQ(st.st_size, 5);
  EXPECT_EQ(st.st_nlink, 1u);
  EXPECT_EQ(st.st_uid, getuid());
}

TEST(StatTest, DirectoryLinksCountItsSubdirectories) {
  TempDir dir;
  ASSERT_THAT(mkdir((dir / "a").c_str(), 0755), SyscallSucceeds());
  ASSERT_THAT(mkdir((dir / "b").c_str(), 0755), SyscallSucceeds());
  struct stat st;
  ASSERT_THAT(stat(dir.c_str(), &st), SyscallSucceeds());
  EXPECT_TRUE(S_ISDIR(st.st_mode));
  EXPECT_EQ(st.st_nlink, 4u);
}

TEST(StatTest, DevicesHaveTheirNumbers) {
  struct stat st;
  ASSERT_THAT(stat("/dev/null", &st), SyscallSucceeds());
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(st.st_rdev, makedev(1, 3));
  ASSERT_THAT(stat("/dev/zero", &st), SyscallSucceeds());
  EXPECT_EQ(st.st_rdev, makedev(1, 5));
}

TEST(StatTest, LstatSeesTheLinkAndStatItsTarget) {
  TempDir dir;
  ASSERT_THAT(symlink("/dev/null", (dir / "l").c_str()), SyscallSucceeds());
  struct stat st;
  ASSERT_THAT(lstat((dir / "l").c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(st.st_mode, static_cast<mode_t>(S_IFLNK | 0777));
  EXPECT_EQ(st.st_size, 9);
  ASSERT_THAT(stat((dir / "l").c_str(), &st), SyscallSucceeds());
  EXPECT_TRUE(S_ISCHR(st.st_mode));
}

TEST(StatTest, PipeIsAFifo) {
  Pipe pipe;
  struct stat st;
  ASSERT_THAT(fstat(pipe.reader, &st), SyscallSucceeds());
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
}

TEST(StatTest, InodeNumbersTellFilesApart) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", ""));
  ASSERT_TRUE(WriteFile(dir / "b", ""));
  ASSERT_THAT(link((dir / "a").c_str(), (dir / "c").c_str()), SyscallSucceeds());
  struct stat a, b, c;
  ASSERT_THAT(stat((dir / "a").c_str(), &a), SyscallSucceeds());
  ASSERT_THAT(stat((dir / "b").c_str(), &b), SyscallSucceeds());
  ASSERT_THAT(stat((dir / "c").c_str(), &c), SyscallSucceeds());
  EXPECT_EQ(a.st_dev, b.st_dev);
  EXPECT_NE(a.st_ino, b.st_ino);
  EXPECT_EQ(a.st_ino, c.st_ino);
}

TEST(StatTest, BlocksCountOnlyWhatIsAllocated) {
  TempFile file;
  ASSERT_THAT(truncate(file.c_str(), 1 << 24), SyscallSucceeds());
  struct stat st;
  ASSERT_THAT(stat(file.c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(st.st_size, 1 << 24);
  EXPECT_LT(st.st_blocks, 100);
}

TEST(FstatatTest, EmptyPathMeansTheDescriptor) {
  TempFile file("123");
  FdCloser fd = file.Open(O_RDONLY);
  struct stat st;
  ASSERT_THAT(fstatat(fd, "", &st, AT_EMPTY_PATH), SyscallSucceeds());
  EXPECT_EQ(st.st_size, 3);
  EXPECT_THAT(fstatat(fd, "", &st, 0), SyscallFailsWithErrno(ENOENT));
}

TEST(FstatatTest, UnknownFlagIsInvalid) {
  struct stat st;
  EXPECT_THAT(fstatat(AT_FDCWD, "/tmp", &st, 0x8), SyscallFailsWithErrno(EINVAL));
}

TEST(StatxTest, FillsTheBasicFields) {
  TempFile file("12345", 0600);
  struct statx sx = {};
  ASSERT_THAT(statx(AT_FDCWD, file.c_str(), 0, STATX_BASIC_STATS, &sx), SyscallSucceeds());
  EXPECT_EQ(sx.stx_mask & STATX_BASIC_STATS, static_cast<uint32_t>(STATX_BASIC_STATS));
  EXPECT_EQ(sx.stx_size, 5u);
  EXPECT_EQ(sx.stx_mode, S_IFREG | 0600);
  EXPECT_EQ(sx.stx_nlink, 1u);
  struct stat st;
  ASSERT_THAT(stat(file.c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(sx.stx_ino, st.st_ino);
  EXPECT_EQ(makedev(sx.stx_dev_major, sx.stx_dev_minor), st.st_dev);
}

TEST(StatxTest, ReservedMaskAndConflictingSyncFlagsAreInvalid) {
  struct statx sx;
  EXPECT_THAT(statx(AT_FDCWD, "/tmp", 0, 0x80000000u, &sx), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(statx(AT_FDCWD, "/tmp", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, 0, &sx),
              SyscallFailsWithErrno(EINVAL));
}

TEST(AccessTest, RootMayReadAllButExecuteOnlyWithAnXBit) {
  TempFile file("x", 0000);
  EXPECT_THAT(access(file.c_str(), R_OK | W_OK), SyscallSucceeds());
  EXPECT_THAT(access(file.c_str(), X_OK), SyscallFailsWithErrno(EACCES));
  ASSERT_THAT(chmod(file.c_str(), 0001), SyscallSucceeds());
  EXPECT_THAT(access(file.c_str(), X_OK), SyscallSucceeds());
}

TEST(AccessTest, UsesTheRealUserAndFaccessatCanUseTheEffective) {
  TempFile file("x", 0600);
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(0, 1000, 0), SyscallSucceeds());
                EXPECT_THAT(access(file.c_str(), R_OK), SyscallSucceeds());
                EXPECT_THAT(syscall(SYS_faccessat2, AT_FDCWD, file.c_str(), R_OK, AT_EACCESS),
                            SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

TEST(AccessTest, UnknownModeIsInvalid) {
  EXPECT_THAT(access("/tmp", 8), SyscallFailsWithErrno(EINVAL));
}

TEST(StatfsTest, TellsTypeAndBlockSize) {
  struct statfs fs;
  ASSERT_THAT(statfs("/proc", &fs), SyscallSucceeds());
  EXPECT_EQ(fs.f_type, 0x9fa0);
  ASSERT_THAT(statfs("/tmp", &fs), SyscallSucceeds());
  EXPECT_GT(fs.f_bsize, 0);
  EXPECT_EQ(fs.f_namelen, 255);
  EXPECT_GT(fs.f_blocks, 0u);
}

TEST(StatfsTest, DescriptorAndPathAgree) {
  FdCloser fd(open("/tmp", O_RDONLY));
  struct statfs a, b;
  ASSERT_THAT(fstatfs(fd, &a), SyscallSucceeds());
  ASSERT_THAT(statfs("/tmp", &b), SyscallSucceeds());
  EXPECT_EQ(a.f_type, b.f_type);
  EXPECT_EQ(a.f_blocks, b.f_blocks);
}

}  // namespace
}  // namespace caisson::test
