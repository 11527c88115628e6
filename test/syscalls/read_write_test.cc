// read(2), write(2), pread(2), readv(2), preadv2(2) and their counterparts.
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(ReadTest, ShortAtTheEndThenZero) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_RDONLY);
  char buffer[8];
  EXPECT_THAT(read(fd, buffer, sizeof(buffer)), SyscallSucceedsWithValue(3));
  EXPECT_THAT(read(fd, buffer, sizeof(buffer)), SyscallSucceedsWithValue(0));
}

TEST(ReadTest, WriteOnlyDescriptorIsBad) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_WRONLY);
  char byte;
  EXPECT_THAT(read(fd, &byte, 1), SyscallFailsWithErrno(EBADF));
}

TEST(ReadTest, DirectoryIsEisdir) {
  FdCloser fd(open("/tmp", O_RDONLY));
  char byte;
  EXPECT_THAT(read(fd, &byte, 1), SyscallFailsWithErrno(EISDIR));
}

TEST(ReadTest, ZeroBytesIntoABadAddressSucceeds) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(read(fd, nullptr, 0), SyscallSucceedsWithValue(0));
}

TEST(ReadTest, PartlyAccessibleBufferGivesTheAccessiblePart) {
  TempFile file(std::string(100, 'x'));
  FdCloser fd = file.Open(O_RDONLY);
  GuardedPage page;
  // The kernel may stop at the fault with what it has copied, or refuse; it never overruns.
  EXPECT_THAT(read(fd, page.At(10), 100), SyscallSucceedsWithValue(10));
  EXPECT_THAT(lseek(fd, 0, SEEK_CUR), SyscallSucceedsWithValue(10));
}

TEST(ReadTest, NegativeLengthIsRefused) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_RDONLY);
  char byte;
  EXPECT_THAT(syscall(SYS_read, static_cast<int>(fd), &byte, -1L),
              SyscallFailsWithEither(EFAULT, EINVAL));
}

// Large enough for every shortcut that a large read can take.
constexpr size_t kLarge = size_t{6} << 20;

std::string Pattern(size_t size) {
  std::string s(size, 0);
  for (size_t i = 0; i < size; ++i) s[i] = static_cast<char>(i * 31 + i / 4096);
  return s;
}

FdCloser LargeFile(const std::string& content) {
  FdCloser fd(memfd_create("large", 0));
  EXPECT_THAT(write(fd, content.data(), content.size()), SyscallSucceedsWithValue(content.size()));
  return fd;
}

TEST(LargeReadTest, VectorsOfAllSizesGetTheirBytes) {
  const std::string want = Pattern(kLarge);
  FdCloser fd = LargeFile(want);
  std::string to(kLarge, '?');
  char* at = &to[0];
  std::vector<iovec> vec;
  for (size_t size : {size_t{1}, size_t{100}, size_t{3000}, size_t{0}, size_t{4097}, size_t{1} << 20,
                      size_t{5}, size_t{4} << 20}) {
    vec.push_back({at, size});
    at += size;
  }
  const size_t total = static_cast<size_t>(at - &to[0]);
  for (size_t offset : {size_t{0}, size_t{4095}, kLarge - total}) {
    ASSERT_THAT(preadv(fd, vec.data(), static_cast<int>(vec.size()), static_cast<off_t>(offset)),
                SyscallSucceedsWithValue(total));
    EXPECT_TRUE(memcmp(to.data(), want.data() + offset, total) == 0);
  }
  ASSERT_THAT(pread(fd, &to[0], kLarge, kLarge - 100000), SyscallSucceedsWithValue(100000));
  EXPECT_TRUE(memcmp(to.data(), want.data() + kLarge - 100000, 100000) == 0);
}

TEST(LargeReadTest, EndsWhereTheBufferDoes) {
  const std::string want = Pattern(kLarge);
  FdCloser fd = LargeFile(want);
  char* to = static_cast<char*>(
      mmap(nullptr, kLarge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(to, MAP_FAILED);
  constexpr size_t kGood = (size_t{5} << 20) + 4096;
  ASSERT_THAT(munmap(to + kGood, kLarge - kGood), SyscallSucceeds());
  EXPECT_THAT(pread(fd, to, kLarge, 0), SyscallSucceedsWithValue(kGood));
  EXPECT_TRUE(memcmp(to, want.data(), kGood) == 0);
  ASSERT_THAT(mprotect(to, kGood, PROT_READ), SyscallSucceeds());
  EXPECT_THAT(pread(fd, to, kLarge, 1), SyscallFailsWithErrno(EFAULT));
  EXPECT_TRUE(memcmp(to, want.data(), kGood) == 0);
  munmap(to, kGood);
}

TEST(LargeReadTest, RacesWithTruncation) {
  const std::string want = Pattern(kLarge);
  FdCloser fd = LargeFile(want);
  std::atomic<bool> done{false};
  std::thread cutter([&] {
    for (int i = 0; i < 50; ++i) {
      EXPECT_THAT(ftruncate(fd, 300000), SyscallSucceeds());
      EXPECT_THAT(pwrite(fd, want.data(), want.size(), 0), SyscallSucceedsWithValue(want.size()));
    }
    done.store(true);
  });
  std::string to(kLarge, '?');
  while (!done.load()) {
    EXPECT_GE(pread(fd, &to[0], kLarge, 0), 300000);
    EXPECT_TRUE(memcmp(to.data(), want.data(), 300000) == 0);
  }
  cutter.join();
}

TEST(WriteTest, ReadOnlyDescriptorIsBad) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_THAT(write(fd, "x", 1), SyscallFailsWithErrno(EBADF));
}

TEST(WriteTest, PastTheEndLeavesAHoleOfZeroes) {
  TempFile file("a");
  FdCloser fd = file.Open(O_RDWR);
  ASSERT_THAT(lseek(fd, 4, SEEK_SET), SyscallSucceeds());
  ASSERT_THAT(write(fd, "b", 1), SyscallSucceedsWithValue(1));
  EXPECT_EQ(ReadFile(file.path()), std::string("a\0\0\0b", 5));
}

TEST(WriteTest, ToFullDeviceIsEnospc) {
  FdCloser fd(open("/dev/full", O_WRONLY));
  EXPECT_THAT(write(fd, "x", 1), SyscallFailsWithErrno(ENOSPC));
}

TEST(WriteTest, LengthIsCappedBelowTwoGigabytes) {
  FdCloser fd(open("/dev/null", O_WRONLY));
  Mapping huge(3UL << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  ASSERT_TRUE(huge.ok());
  EXPECT_THAT(write(fd, huge.get(), 3UL << 30), SyscallSucceedsWithValue(0x7ffff000L));
}

TEST(PreadTest, LeavesTheOffsetAlone) {
  TempFile file("0123456789");
  FdCloser fd = file.Open(O_RDONLY);
  char buffer[3];
  EXPECT_THAT(pread(fd, buffer, 3, 5), SyscallSucceedsWithValue(3));
  EXPECT_EQ(std::string(buffer, 3), "567");
  EXPECT_THAT(lseek(fd, 0, SEEK_CUR), SyscallSucceedsWithValue(0));
}

TEST(PreadTest, NegativeOffsetIsInvalid) {
  TempFile file("x");
  FdCloser fd = file.Open(O_RDWR);
  char byte = 0;
  EXPECT_THAT(pread(fd, &byte, 1, -1), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(pwrite(fd, &byte, 1, -1), SyscallFailsWithErrno(EINVAL));
}

TEST(PreadTest, PipeIsEspipe) {
  Pipe pipe;
  char byte = 0;
  EXPECT_THAT(pread(pipe.reader, &byte, 1, 0), SyscallFailsWithErrno(ESPIPE));
  EXPECT_THAT(pwrite(pipe.writer, &byte, 1, 0), SyscallFailsWithErrno(ESPIPE));
}

TEST(PwriteTest, AppendModeIgnoresTheOffset) {
  // pwrite(2), BUGS: Linux appends, whatever POSIX says.
  TempFile file("abc");
  FdCloser fd = file.Open(O_WRONLY | O_APPEND);
  EXPECT_THAT(pwrite(fd, "X", 1, 0), SyscallSucceedsWithValue(1));
  EXPECT_EQ(ReadFile(file.path()), "abcX");
}

TEST(PwriteTest, PastTheLargestFileIsEfbig) {
  TempFile file;
  FdCloser fd = file.Open(O_WRONLY);
  EXPECT_THAT(pwrite(fd, "xy", 2, LLONG_MAX), SyscallFailsWithEither(EFBIG, EINVAL));
}

TEST(ReadvTest, FillsBuffersInOrder) {
  TempFile file("abcdef");
  FdCloser fd = file.Open(O_RDONLY);
  char one[2], two[8];
  iovec iov[] = {{one, 2}, {nullptr, 0}, {two, 8}};
  EXPECT_THAT(readv(fd, iov, 3), SyscallSucceedsWithValue(6));
  EXPECT_EQ(std::string(one, 2), "ab");
  EXPECT_EQ(std::string(two, 4), "cdef");
}

TEST(ReadvTest, MoreThan1024BuffersAreInvalid) {
  FdCloser fd(open("/dev/zero", O_RDONLY));
  char byte;
  std::vector<iovec> iov(1025, iovec{&byte, 1});
  EXPECT_THAT(readv(fd, iov.data(), 1024), SyscallSucceedsWithValue(1024));
  EXPECT_THAT(readv(fd, iov.data(), 1025), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(readv(fd, iov.data(), -1), SyscallFailsWithErrno(EINVAL));
}

TEST(ReadvTest, NegativeBufferLengthIsInvalid) {
  FdCloser fd(open("/dev/zero", O_RDONLY));
  char byte;
  iovec iov[] = {{&byte, static_cast<size_t>(-1)}, {&byte, 1}};
  EXPECT_THAT(readv(fd, iov, 2), SyscallFailsWithErrno(EINVAL));
}

TEST(WritevTest, GathersBuffersInOrder) {
  TempFile file;
  FdCloser fd = file.Open(O_WRONLY);
  char a[] = "ab", b[] = "cde";
  iovec iov[] = {{a, 2}, {b, 3}};
  EXPECT_THAT(writev(fd, iov, 2), SyscallSucceedsWithValue(5));
  EXPECT_EQ(ReadFile(file.path()), "abcde");
}

TEST(WritevTest, BadSecondBufferWritesTheFirst) {
  TempFile file;
  FdCloser fd = file.Open(O_WRONLY);
  char a[] = "ab";
  iovec iov[] = {{a, 2}, {reinterpret_cast<void*>(8), 4}};
  EXPECT_THAT(writev(fd, iov, 2), SyscallSucceedsWithValue(2));
  EXPECT_EQ(ReadFile(file.path()), "ab");
}

TEST(WritevTest, NoBuffersWriteNothing) {
  FdCloser fd(open("/dev/null", O_WRONLY));
  EXPECT_THAT(writev(fd, nullptr, 0), SyscallSucceedsWithValue(0));
}

TEST(PreadvTest, ReadsAtTheOffset) {
  TempFile file("0123456789");
  FdCloser fd = file.Open(O_RDONLY);
  char a[2], b[2];
  iovec iov[] = {{a, 2}, {b, 2}};
  EXPECT_THAT(preadv(fd, iov, 2, 3), SyscallSucceedsWithValue(4));
  EXPECT_EQ(std::string(b, 2), "56");
  EXPECT_THAT(lseek(fd, 0, SEEK_CUR), SyscallSucceedsWithValue(0));
}

TEST(Preadv2Test, OffsetMinusOneUsesAndMovesTheFileOffset) {
  TempFile file("0123456789");
  FdCloser fd = file.Open(O_RDONLY);
  char a[4];
  iovec iov = {a, 4};
  EXPECT_THAT(preadv2(fd, &iov, 1, -1, 0), SyscallSucceedsWithValue(4));
  EXPECT_THAT(lseek(fd, 0, SEEK_CUR), SyscallSucceedsWithValue(4));
}

TEST(Preadv2Test, UnknownFlagIsNotSupported) {
  TempFile file("x");
  FdCloser fd = file.Open(O_RDONLY);
  char a;
  iovec iov = {&a, 1};
  EXPECT_THAT(preadv2(fd, &iov, 1, 0, 0x40000000), SyscallFailsWithErrno(EOPNOTSUPP));
}

TEST(Pwritev2Test, AppendFlagWritesAtTheEnd) {
  TempFile file("abc");
  FdCloser fd = file.Open(O_WRONLY);
  char x[] = "X";
  iovec iov = {x, 1};
  EXPECT_THAT(pwritev2(fd, &iov, 1, 0, RWF_APPEND), SyscallSucceedsWithValue(1));
  EXPECT_EQ(ReadFile(file.path()), "abcX");
}

TEST(FsyncTest, WorksOnFilesAndIsInvalidOnPipes) {
  TempFile file("x");
  FdCloser fd = file.Open(O_RDWR);
  EXPECT_THAT(fsync(fd), SyscallSucceeds());
  EXPECT_THAT(fdatasync(fd), SyscallSucceeds());
  Pipe pipe;
  EXPECT_THAT(fsync(pipe.writer), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(fsync(1000), SyscallFailsWithErrno(EBADF));
}

TEST(DeviceTest, ZeroReadsZeroesAndNullReadsNothing) {
  FdCloser zero(open("/dev/zero", O_RDWR));
  FdCloser null(open("/dev/null", O_RDWR));
  char buffer[4] = {1, 2, 3, 4};
  EXPECT_THAT(read(zero, buffer, 4), SyscallSucceedsWithValue(4));
  EXPECT_EQ(buffer[3], 0);
  EXPECT_THAT(read(null, buffer, 4), SyscallSucceedsWithValue(0));
  EXPECT_THAT(write(null, buffer, 4), SyscallSucceedsWithValue(4));
}

}  // namespace
}  // namespace caisson::test
