// splice(2), tee(2), vmsplice(2), sendfile(2), copy_file_range(2).
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(SpliceTest, FromFileToPipeMovesTheOffset) {
  TempFile file("0123456789");
  FdCloser fd = file.Open(O_RDONLY);
  Pipe pipe;
  EXPECT_THAT(splice(fd, nullptr, pipe.writer, nullptr, 4, 0), SyscallSucceedsWithValue(4));
  EXPECT_EQ(ReadOnce(pipe.reader), "0123");
  EXPECT_THAT(lseek(fd, 0, SEEK_CUR), SyscallSucceedsWithValue(4));
}

TEST(SpliceTest, ExplicitOffsetIsUpdatedInsteadOfTheFile) {
  TempFile file("0123456789");
  FdCloser fd = file.Open(O_RDONLY);
  Pipe pipe;
  loff_t offset = 6;
  EXPECT_THAT(splice(fd, &offset, pipe.writer, nullptr, 100, 0), SyscallSucceedsWithValue(4));
  EXPECT_EQ(offset, 10);
  EXPECT_THAT(lseek(fd, 0, SEEK_CUR), SyscallSucceedsWithValue(0));
}

TEST(SpliceTest, FromPipeToFile) {
  TempFile file;
  FdCloser fd = file.Open(O_WRONLY);
  Pipe pipe;
  ASSERT_TRUE(WriteAll(pipe.writer, "moved"));
  EXPECT_THAT(splice(pipe.reader, nullptr, fd, nullptr, 100, 0), SyscallSucceedsWithValue(5));
  EXPECT_EQ(ReadFile(file.path()), "moved");
}

TEST(SpliceTest, BetweenPipes) {
  Pipe from, to;
  ASSERT_TRUE(WriteAll(from.writer, "through"));
  EXPECT_THAT(splice(from.reader, nullptr, to.writer, nullptr, 4, 0), SyscallSucceedsWithValue(4));
  EXPECT_EQ(ReadOnce(to.reader), "thro");
  EXPECT_EQ(ReadOnce(from.reader), "ugh");
}

TEST(SpliceTest, WithoutAPipeIsInvalid) {
  TempFile a("x"), b;
  FdCloser in = a.Open(O_RDONLY), out = b.Open(O_WRONLY);
  EXPECT_THAT(splice(in, nullptr, out, nullptr, 1, 0), SyscallFailsWithErrno(EINVAL));
}

TEST(SpliceTest, OffsetForAPipeIsEspipe) {
  TempFile a("x");
  FdCloser in = a.Open(O_RDONLY);
  Pipe pipe;
  loff_t offset = 0;
  EXPECT_THAT(splice(in, nullptr, pipe.writer, &offset, 1, 0), SyscallFailsWithErrno(ESPIPE));
}

TEST(SpliceTest, EmptyPipeWithNonblockFlagIsEagain) {
  TempFile file;
  FdCloser fd = file.Open(O_WRONLY);
  Pipe pipe;
  EXPECT_THAT(splice(pipe.reader, nullptr, fd, nullptr, 1, SPLICE_F_NONBLOCK),
              SyscallFailsWithErrno(EAGAIN));
}

TEST(SpliceTest, SamePipeIsInvalid) {
  Pipe pipe;
  ASSERT_TRUE(WriteAll(pipe.writer, "x"));
  EXPECT_THAT(splice(pipe.reader, nullptr, pipe.writer, nullptr, 1, 0),
              SyscallFailsWithErrno(EINVAL));
}

TEST(TeeTest, DuplicatesWithoutConsuming) {
  Pipe from, to;
  ASSERT_TRUE(WriteAll(from.writer, "both"));
  EXPECT_THAT(tee(from.reader, to.writer, 100, 0), SyscallSucceedsWithValue(4));
  EXPECT_EQ(ReadOnce(to.reader), "both");
  EXPECT_EQ(ReadOnce(from.reader), "both");
}

TEST(VmspliceTest, PutsUserMemoryIntoAPipe) {
  Pipe pipe;
  char text[] = "user";
  iovec iov = {text, 4};
  EXPECT_THAT(vmsplice(pipe.writer, &iov, 1, 0), SyscallSucceedsWithValue(4));
  EXPECT_EQ(ReadOnce(pipe.reader), "user");
}

TEST(SendfileTest, FileToPipe) {
  TempFile file("0123456789");
  FdCloser fd = file.Open(O_RDONLY);
  Pipe pipe;
  off_t offset = 2;
  EXPECT_THAT(sendfile(pipe.writer, fd, &offset, 3), SyscallSucceedsWithValue(3));
  EXPECT_EQ(offset, 5);
  EXPECT_EQ(ReadOnce(pipe.reader), "234");
}

TEST(SendfileTest, FileToFile) {
  TempFile from("copy me"), to;
  FdCloser in = from.Open(O_RDONLY), out = to.Open(O_WRONLY);
  EXPECT_THAT(sendfile(out, in, nullptr, 1000), SyscallSucceedsWithValue(7));
  EXPECT_EQ(ReadFile(to.path()), "copy me");
}

TEST(SendfileTest, ToASocket) {
  TempFile from("socket");
  FdCloser in = from.Open(O_RDONLY);
  int pair[2];
  ASSERT_THAT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), SyscallSucceeds());
  FdCloser a(pair[0]), b(pair[1]);
  EXPECT_THAT(sendfile(a, in, nullptr, 1000), SyscallSucceedsWithValue(6));
  EXPECT_EQ(ReadOnce(b), "socket");
}

TEST(SendfileTest, AppendTargetIsInvalid) {
  TempFile from("x"), to;
  FdCloser in = from.Open(O_RDONLY), out = to.Open(O_WRONLY | O_APPEND);
  EXPECT_THAT(sendfile(out, in, nullptr, 1), SyscallFailsWithErrno(EINVAL));
}

TEST(SendfileTest, WrongAccessModesAreBad) {
  TempFile from("x"), to;
  FdCloser in = from.Open(O_WRONLY), out = to.Open(O_RDONLY);
  EXPECT_THAT(sendfile(out, in, nullptr, 1), SyscallFailsWithErrno(EBADF));
}

TEST(CopyFileRangeTest, CopiesBetweenOffsets) {
  TempFile from("0123456789"), to("abcdef");
  FdCloser in = from.Open(O_RDONLY), out = to.Open(O_RDWR);
  loff_t in_offset = 5, out_offset = 2;
  EXPECT_THAT(copy_file_range(in, &in_offset, out, &out_offset, 3, 0), SyscallSucceedsWithValue(3));
  EXPECT_EQ(in_offset, 8);
  EXPECT_EQ(out_offset, 5);
  EXPECT_EQ(ReadFile(to.path()), "ab567f");
}

TEST(CopyFileRangeTest, FlagsAreInvalid) {
  TempFile from("x"), to;
  FdCloser in = from.Open(O_RDONLY), out = to.Open(O_WRONLY);
  EXPECT_THAT(copy_file_range(in, nullptr, out, nullptr, 1, 1), SyscallFailsWithErrno(EINVAL));
}

TEST(CopyFileRangeTest, OverlapInOneFileIsInvalid) {
  TempFile file("0123456789");
  FdCloser fd = file.Open(O_RDWR);
  loff_t in_offset = 0, out_offset = 2;
  EXPECT_THAT(copy_file_range(fd, &in_offset, fd, &out_offset, 5, 0),
              SyscallFailsWithErrno(EINVAL));
}

TEST(CopyFileRangeTest, PipeIsInvalid) {
  TempFile to;
  FdCloser out = to.Open(O_WRONLY);
  Pipe pipe;
  EXPECT_THAT(copy_file_range(pipe.reader, nullptr, out, nullptr, 1, 0),
              SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
