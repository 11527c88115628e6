// truncate(2), ftruncate(2), fallocate(2).
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

off_t Size(int fd) {
  struct stat st = {};
  fstat(fd, &st);
  return st.st_size;
}

TEST(TruncateTest, ShrinksAndGrowsWithZeroes) {
  TempFile file("abcdef");
  ASSERT_THAT(truncate(file.c_str(), 3), SyscallSucceeds());
  EXPECT_EQ(ReadFile(file.path()), "abc");
  ASSERT_THAT(truncate(file.c_str(), 5), SyscallSucceeds());
  EXPECT_EQ(ReadFile(file.path()), std::string("abc\0\0", 5));
}

TEST(TruncateTest, OffsetStays) {
  TempFile file("abcdef");
  FdCloser fd = file.Open(O_RDWR);
  ASSERT_THAT(lseek(fd, 5, SEEK_SET), SyscallSucceeds());
  ASSERT_THAT(ftruncate(fd, 2), SyscallSucceeds());
  EXPECT_THAT(lseek(fd, 0, SEEK_CUR), SyscallSucceedsWithValue(5));
}

TEST(TruncateTest, NegativeLengthIsInvalid) {
  TempFile file;
  FdCloser fd = file.Open(O_RDWR);
  EXPECT_THAT(truncate(file.c_str(), -1), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(ftruncate(fd, -1), SyscallFailsWithErrno(EINVAL));
}

TEST(TruncateTest, DirectoryIsEisdir) {
  EXPECT_THAT(truncate("/tmp", 0), SyscallFailsWithErrno(EISDIR));
}

TEST(TruncateTest, ReadOnlyDescriptorAndPipeAreInvalid) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(ftruncate(fd, 0), SyscallFailsWithErrno(EINVAL));
  Pipe pipe;
  EXPECT_THAT(ftruncate(pipe.writer, 0), SyscallFailsWithErrno(EINVAL));
}

TEST(TruncateTest, NeedsWritePermission) {
  TempFile file("x", 0644);
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(truncate(file.c_str(), 0), SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

TEST(FallocateTest, ExtendsTheFile) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_RDWR);
  ASSERT_THAT(fallocate(fd, 0, 0, 10000), SyscallSucceeds());
  EXPECT_EQ(Size(fd), 10000);
  EXPECT_EQ(ReadOnce(fd, 3), "abc");
}

TEST(FallocateTest, KeepSizeKeepsIt) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_RDWR);
  ASSERT_THAT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 10000), SyscallSucceeds());
  EXPECT_EQ(Size(fd), 3);
}

TEST(FallocateTest, PunchedHoleReadsZeroes) {
  TempFile file(std::string(3 * kPage, 'x'));
  FdCloser fd = file.Open(O_RDWR);
  ASSERT_THAT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, kPage),
              SyscallSucceeds());
  const std::string content = ReadFile(file.path());
  EXPECT_EQ(content,
            std::string(100, 'x') + std::string(kPage, '\0') + std::string(2 * kPage - 100, 'x'));
}

TEST(FallocateTest, PunchWithoutKeepSizeIsNotSupported) {
  TempFile file("x");
  FdCloser fd = file.Open(O_RDWR);
  EXPECT_THAT(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), SyscallFailsWithErrno(EOPNOTSUPP));
}

TEST(FallocateTest, BadRangesAndDescriptors) {
  TempFile file;
  FdCloser fd = file.Open(O_RDWR), reader = file.Open(O_RDONLY);
  EXPECT_THAT(fallocate(fd, 0, -1, 10), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(fallocate(fd, 0, 0, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(fallocate(fd, 0, 1L << 62, 1L << 62), SyscallFailsWithErrno(EFBIG));
  EXPECT_THAT(fallocate(reader, 0, 0, 10), SyscallFailsWithErrno(EBADF));
  Pipe pipe;
  EXPECT_THAT(fallocate(pipe.writer, 0, 0, 10), SyscallFailsWithErrno(ESPIPE));
}

}  // namespace
}  // namespace caisson::test
