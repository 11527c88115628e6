// lseek(2), with SEEK_DATA and SEEK_HOLE.
#include <fcntl.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(LseekTest, SetCurrentAndEnd) {
  TempFile file("0123456789");
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(lseek(fd, 4, SEEK_SET), SyscallSucceedsWithValue(4));
  EXPECT_THAT(lseek(fd, -1, SEEK_CUR), SyscallSucceedsWithValue(3));
  EXPECT_THAT(lseek(fd, -2, SEEK_END), SyscallSucceedsWithValue(8));
  EXPECT_EQ(ReadOnce(fd), "89");
}

TEST(LseekTest, PastTheEndIsAllowedAndReadsNothing) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(lseek(fd, 100, SEEK_SET), SyscallSucceedsWithValue(100));
  EXPECT_EQ(ReadOnce(fd), "");
}

TEST(LseekTest, NegativeResultIsInvalidAndMovesNothing) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_RDONLY);
  ASSERT_THAT(lseek(fd, 2, SEEK_SET), SyscallSucceeds());
  EXPECT_THAT(lseek(fd, -1, SEEK_SET), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(lseek(fd, -3, SEEK_CUR), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(lseek(fd, 0, SEEK_CUR), SyscallSucceedsWithValue(2));
}

TEST(LseekTest, UnknownWhenceIsInvalid) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(lseek(fd, 0, 99), SyscallFailsWithErrno(EINVAL));
}

TEST(LseekTest, PipeIsEspipe) {
  Pipe pipe;
  EXPECT_THAT(lseek(pipe.reader, 0, SEEK_CUR), SyscallFailsWithErrno(ESPIPE));
}

TEST(LseekTest, OffsetIsSharedAcrossFork) {
  TempFile file("abcdef");
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(InChild([&] { EXPECT_EQ(ReadOnce(fd, 4), "abcd"); }), ExitsWith(0));
  EXPECT_EQ(ReadOnce(fd), "ef");
}

// One page of data at 1 MiB, and a hole on both sides of it.
class SeekHoleTest : public testing::Test {
 protected:
  static constexpr off_t kData = 1 << 20;
  SeekHoleTest() : fd_(file_.Open(O_RDWR)) {
    pwrite(fd_, std::string(kPage, 'd').data(), kPage, kData);
    ftruncate(fd_, 3 * kData);
  }
  TempFile file_;
  FdCloser fd_;
};

TEST_F(SeekHoleTest, DataSkipsTheHole) {
  EXPECT_THAT(lseek(fd_, 0, SEEK_DATA), SyscallSucceedsWithValue(static_cast<long>(kData)));
}

TEST_F(SeekHoleTest, HoleIsFoundAfterTheData) {
  EXPECT_THAT(lseek(fd_, 0, SEEK_HOLE), SyscallSucceedsWithValue(0));
  EXPECT_THAT(lseek(fd_, kData, SEEK_HOLE), SyscallSucceedsWithValue(kData + 4096L));
}

TEST_F(SeekHoleTest, DataAfterTheLastIsEnxio) {
  EXPECT_THAT(lseek(fd_, 2 * kData, SEEK_DATA), SyscallFailsWithErrno(ENXIO));
}

TEST_F(SeekHoleTest, PastTheEndIsEnxio) {
  EXPECT_THAT(lseek(fd_, 3 * kData, SEEK_HOLE), SyscallFailsWithErrno(ENXIO));
  EXPECT_THAT(lseek(fd_, 4 * kData, SEEK_DATA), SyscallFailsWithErrno(ENXIO));
}

TEST_F(SeekHoleTest, EndOfFileIsAHole) {
  TempFile file("full");
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(lseek(fd, 0, SEEK_HOLE), SyscallSucceedsWithValue(4));
}

}  // namespace
}  // namespace caisson::test
