// pipe(2), pipe2(2), FIFOs, pipe(7).
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// Fills a non-blocking pipe; how many bytes it took.
size_t Fill(int fd) {
  size_t total = 0;
  char block[4096] = {};
  ssize_t n;
  while ((n = write(fd, block, sizeof(block))) > 0) total += n;
  return total;
}

TEST(PipeTest, CarriesBytesInOrder) {
  Pipe pipe;
  ASSERT_THAT(write(pipe.writer, "abc", 3), SyscallSucceedsWithValue(3));
  ASSERT_THAT(write(pipe.writer, "def", 3), SyscallSucceedsWithValue(3));
  EXPECT_EQ(ReadOnce(pipe.reader, 4), "abcd");
  EXPECT_EQ(ReadOnce(pipe.reader, 4), "ef");
}

TEST(PipeTest, EndsAreOneWay) {
  Pipe pipe;
  char byte = 0;
  EXPECT_THAT(read(pipe.writer, &byte, 1), SyscallFailsWithErrno(EBADF));
  EXPECT_THAT(write(pipe.reader, &byte, 1), SyscallFailsWithErrno(EBADF));
}

TEST(PipeTest, EmptyNonblockingReadIsEagain) {
  Pipe pipe(O_NONBLOCK);
  char byte;
  EXPECT_THAT(read(pipe.reader, &byte, 1), SyscallFailsWithErrno(EAGAIN));
}

TEST(PipeTest, FullNonblockingWriteIsEagain) {
  Pipe pipe(O_NONBLOCK);
  EXPECT_EQ(Fill(pipe.writer), 65536u);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(PipeTest, LastWriterGoneIsEndOfFile) {
  Pipe pipe;
  ASSERT_TRUE(WriteAll(pipe.writer, "x"));
  pipe.writer.Close();
  EXPECT_EQ(ReadOnce(pipe.reader), "x");
  char byte;
  EXPECT_THAT(read(pipe.reader, &byte, 1), SyscallSucceedsWithValue(0));
}

TEST(PipeTest, NoReaderIsEpipeWhenTheSignalIsIgnored) {
  ScopedAction ignore(SIGPIPE, SIG_IGN);
  Pipe pipe;
  pipe.reader.Close();
  EXPECT_THAT(write(pipe.writer, "x", 1), SyscallFailsWithErrno(EPIPE));
}

TEST(PipeTest, NoReaderKillsByDefault) {
  EXPECT_THAT(InChild([] {
                Pipe pipe;
                pipe.reader.Close();
                write(pipe.writer, "x", 1);
              }),
              DiesOf(SIGPIPE));
}

TEST(PipeTest, AtomicWriteIsAllOrNothing) {
  Pipe pipe(O_NONBLOCK);
  Fill(pipe.writer);
  // Room for a page exists again only after a page has been read.
  EXPECT_EQ(ReadOnce(pipe.reader, PIPE_BUF - 1).size(), PIPE_BUF - 1u);
  char block[PIPE_BUF] = {};
  EXPECT_THAT(write(pipe.writer, block, PIPE_BUF), SyscallFailsWithErrno(EAGAIN));
}

TEST(PipeTest, LargeNonblockingWriteIsPartial) {
  Pipe pipe(O_NONBLOCK);
  std::string big(100000, 'b');
  EXPECT_THAT(write(pipe.writer, big.data(), big.size()), SyscallSucceedsWithValue(65536));
}

TEST(PipeTest, BlockedWriterGoesOnWhenThereIsRoom) {
  Pipe pipe;
  std::string big(200000, 'b');
  Child writer([&] {
    pipe.reader.Close();
    EXPECT_THAT(write(pipe.writer, big.data(), big.size()), SyscallSucceedsWithValue(200000));
  });
  ASSERT_TRUE(WaitUntilSleeping(writer.pid()));
  pipe.writer.Close();
  EXPECT_EQ(ReadAll(pipe.reader).size(), big.size());
  EXPECT_THAT(writer.Wait(), ExitsWith(0));
}

TEST(PipeTest, BlockedReaderWakesOnData) {
  Pipe pipe;
  Child reader([&] { EXPECT_EQ(ReadOnce(pipe.reader), "data"); });
  ASSERT_TRUE(WaitUntilSleeping(reader.pid()));
  ASSERT_TRUE(WriteAll(pipe.writer, "data"));
  EXPECT_THAT(reader.Wait(), ExitsWith(0));
}

TEST(PipeTest, FionreadCountsTheBytes) {
  Pipe pipe;
  ASSERT_TRUE(WriteAll(pipe.writer, "12345"));
  int count = 0;
  ASSERT_THAT(ioctl(pipe.reader, FIONREAD, &count), SyscallSucceeds());
  EXPECT_EQ(count, 5);
}

TEST(PipeTest, SizeCanGrowAndRoundsUp) {
  Pipe pipe(O_NONBLOCK);
  EXPECT_THAT(fcntl(pipe.writer, F_GETPIPE_SZ), SyscallSucceedsWithValue(65536));
  EXPECT_THAT(fcntl(pipe.writer, F_SETPIPE_SZ, 100000), SyscallSucceedsWithValue(131072));
  EXPECT_EQ(Fill(pipe.writer), 131072u);
}

TEST(PipeTest, SizeBelowContentIsBusy) {
  Pipe pipe(O_NONBLOCK);
  Fill(pipe.writer);
  EXPECT_THAT(fcntl(pipe.writer, F_SETPIPE_SZ, 4096), SyscallFailsWithErrno(EBUSY));
}

TEST(PipeTest, SizeOfAFileIsBad) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(fcntl(fd, F_GETPIPE_SZ), SyscallFailsWithErrno(EBADF));
}

TEST(PipeTest, PacketModeKeepsBoundaries) {
  Pipe pipe(O_DIRECT);
  ASSERT_TRUE(WriteAll(pipe.writer, "one"));
  ASSERT_TRUE(WriteAll(pipe.writer, "two"));
  EXPECT_EQ(ReadOnce(pipe.reader), "one");
  EXPECT_EQ(ReadOnce(pipe.reader, 1), "t");  // The rest of the packet is discarded.
  ASSERT_TRUE(WriteAll(pipe.writer, "x"));
  EXPECT_EQ(ReadOnce(pipe.reader), "x");
}

TEST(Pipe2Test, UnknownFlagIsInvalid) {
  int fds[2];
  EXPECT_THAT(pipe2(fds, O_APPEND), SyscallFailsWithErrno(EINVAL));
}

TEST(Pipe2Test, BadPointerLeaksNoDescriptor) {
  const size_t before = ListDir("/proc/self/fd").size();
  EXPECT_THAT(syscall(SYS_pipe2, kKernelAddress, 0), SyscallFailsWithErrno(EFAULT));
  EXPECT_EQ(ListDir("/proc/self/fd").size(), before);
}

TEST(Pipe2Test, FlagsReachBothEnds) {
  Pipe pipe(O_CLOEXEC | O_NONBLOCK);
  for (int fd : {static_cast<int>(pipe.reader), static_cast<int>(pipe.writer)}) {
    EXPECT_THAT(fcntl(fd, F_GETFD), SyscallSucceedsWithValue(FD_CLOEXEC));
    EXPECT_TRUE(fcntl(fd, F_GETFL) & O_NONBLOCK);
  }
}

TEST(FifoTest, OpenForReadingWaitsForAWriter) {
  TempDir dir;
  ASSERT_THAT(mkfifo((dir / "fifo").c_str(), 0600), SyscallSucceeds());
  Child reader([&] {
    FdCloser fd(open((dir / "fifo").c_str(), O_RDONLY));
    EXPECT_EQ(ReadAll(fd), "hello");
  });
  ASSERT_TRUE(WaitUntilSleeping(reader.pid()));
  ASSERT_TRUE(WriteFile(dir / "fifo", "hello"));
  EXPECT_THAT(reader.Wait(), ExitsWith(0));
}

// The writer waits first; it may have written and closed before the reader looks.
TEST(FifoTest, AWriterThatWentAtOnceIsNotMissed) {
  TempDir dir;
  ASSERT_THAT(mkfifo((dir / "fifo").c_str(), 0600), SyscallSucceeds());
  for (int i = 0; i < 50; ++i) {
    Child writer([&] { EXPECT_TRUE(WriteFile(dir / "fifo", "quick")); });
    ASSERT_TRUE(WaitUntilSleeping(writer.pid()));
    Child reader([&] {
      alarm(10);
      FdCloser fd(open((dir / "fifo").c_str(), O_RDONLY));
      EXPECT_EQ(ReadAll(fd), "quick");
    });
    ASSERT_THAT(reader.Wait(), ExitsWith(0));
    ASSERT_THAT(writer.Wait(), ExitsWith(0));
  }
}

TEST(FifoTest, NonblockingWriterWithoutReaderIsEnxio) {
  TempDir dir;
  ASSERT_THAT(mkfifo((dir / "fifo").c_str(), 0600), SyscallSucceeds());
  EXPECT_THAT(open((dir / "fifo").c_str(), O_WRONLY | O_NONBLOCK), SyscallFailsWithErrno(ENXIO));
  FdCloser reader(open((dir / "fifo").c_str(), O_RDONLY | O_NONBLOCK));
  EXPECT_THAT(static_cast<int>(reader), SyscallSucceeds());
}

TEST(FifoTest, ReadWriteOpenDoesNotBlock) {
  TempDir dir;
  ASSERT_THAT(mkfifo((dir / "fifo").c_str(), 0600), SyscallSucceeds());
  FdCloser fd(open((dir / "fifo").c_str(), O_RDWR));
  ASSERT_TRUE(WriteAll(fd, "self"));
  EXPECT_EQ(ReadOnce(fd), "self");
}

TEST(FifoTest, ReaderWithoutWriterSeesHangupOnlyAfterOneWasThere) {
  TempDir dir;
  ASSERT_THAT(mkfifo((dir / "fifo").c_str(), 0600), SyscallSucceeds());
  FdCloser reader(open((dir / "fifo").c_str(), O_RDONLY | O_NONBLOCK));
  pollfd poller = {reader, POLLIN, 0};
  EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(0));
  FdCloser writer(open((dir / "fifo").c_str(), O_WRONLY));
  writer.Close();
  EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(1));
  EXPECT_EQ(poller.revents, POLLHUP);
}

}  // namespace
}  // namespace caisson::test
