// Mappings of files: coherence with read and write, copies on write, SIGBUS past the end, msync(2).
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;

char Peek(volatile char* address) { return *address; }

class MmapFileTest : public testing::Test {
 protected:
  TempFile file_{std::string(2 * kPage, 'f')};
  FdCloser fd_ = file_.Open(O_RDWR);
};

TEST_F(MmapFileTest, SharedStoreIsSeenByRead) {
  Mapping map(2 * kPage, kReadWrite, MAP_SHARED, fd_);
  ASSERT_TRUE(map.ok());
  map[kPage] = 'm';
  char byte = 0;
  EXPECT_THAT(pread(fd_, &byte, 1, kPage), SyscallSucceedsWithValue(1));
  EXPECT_EQ(byte, 'm');
}

TEST_F(MmapFileTest, WriteIsSeenBySharedAndUntouchedPrivateMappings) {
  Mapping shared(kPage, PROT_READ, MAP_SHARED, fd_);
  Mapping priv(kPage, PROT_READ, MAP_PRIVATE, fd_);
  EXPECT_EQ(shared[10], 'f');
  ASSERT_THAT(pwrite(fd_, "w", 1, 10), SyscallSucceedsWithValue(1));
  EXPECT_EQ(shared[10], 'w');
  EXPECT_EQ(priv[10], 'w');
}

TEST_F(MmapFileTest, TwoSharedMappingsAreOneMemory) {
  FdCloser other = file_.Open(O_RDWR);
  Mapping a(kPage, kReadWrite, MAP_SHARED, fd_), b(kPage, kReadWrite, MAP_SHARED, other);
  a[1] = '1';
  EXPECT_EQ(b[1], '1');
}

TEST_F(MmapFileTest, SharedMappingIsSharedWithChildren) {
  Mapping map(kPage, kReadWrite, MAP_SHARED, fd_);
  EXPECT_THAT(InChild([&] { map[0] = 'c'; }), ExitsWith(0));
  EXPECT_EQ(map[0], 'c');
}

// Code that comes by way of the file, as a translator's with two mappings does.
TEST_F(MmapFileTest, CodeWrittenToTheFileIsSeenByASharedMappingThatRunsOften) {
  constexpr int kOften = 200;
  // mov eax, NUMBER; syscall; ret
  auto code = [](int number) {
    return std::string("\xb8", 1) + static_cast<char>(number) + std::string("\0\0\0\x0f\x05\xc3", 6);
  };
  constexpr int kGetppid = 110, kGetpgrp = 111;
  // Not in /tmp, which is no file system of the host's.
  char path[] = "/mmap_file_test-XXXXXX";
  FdCloser writer(mkstemp(path));
  FdCloser reader(open(path, O_RDONLY));
  ASSERT_THAT(unlink(path), SyscallSucceeds());
  ASSERT_THAT(ftruncate(writer, kPage), SyscallSucceeds());
  ASSERT_THAT(pwrite(writer, code(kGetppid).data(), 8, 64), SyscallSucceedsWithValue(8));
  Mapping map(kPage, PROT_READ | PROT_EXEC, MAP_SHARED, reader);
  ASSERT_TRUE(map.ok());
  auto run = [&map] {
    long result;
    asm volatile("call *%1" : "=&a"(result) : "r"(&map[64]) : "rcx", "r11", "memory");
    return result;
  };
  for (int i = 0; i < kOften; ++i) ASSERT_EQ(run(), getppid());
  ASSERT_THAT(pwrite(writer, code(kGetpgrp).data(), 8, 64), SyscallSucceedsWithValue(8));
  EXPECT_EQ(run(), getpgrp());
}

TEST_F(MmapFileTest, MremapOfNothingMapsAReadOnlySharedMappingOnceMore) {
  FdCloser reader = file_.Open(O_RDONLY);
  Mapping map(kPage, PROT_READ, MAP_SHARED, reader);
  ASSERT_TRUE(map.ok());
  void* twice = mremap(map.get(), 0, kPage, MREMAP_MAYMOVE);
  ASSERT_NE(twice, MAP_FAILED);
  ASSERT_THAT(pwrite(fd_, "w", 1, 10), SyscallSucceedsWithValue(1));
  EXPECT_EQ(map[10], 'w');
  EXPECT_EQ(Peek(static_cast<char*>(twice) + 10), 'w');
  EXPECT_THAT(munmap(twice, kPage), SyscallSucceeds());
}

TEST_F(MmapFileTest, PrivateStoreStaysPrivate) {
  Mapping map(kPage, kReadWrite, MAP_PRIVATE, fd_);
  map[0] = 'p';
  EXPECT_EQ(ReadFile(file_.path())[0], 'f');
  ASSERT_THAT(pwrite(fd_, "w", 1, 0), SyscallSucceedsWithValue(1));
  EXPECT_EQ(map[0], 'p');
}

TEST_F(MmapFileTest, OutlivesDescriptorAndName) {
  Mapping map(kPage, kReadWrite, MAP_SHARED, fd_);
  fd_.Close();
  unlink(file_.c_str());
  EXPECT_EQ(map[100], 'f');
}

TEST_F(MmapFileTest, OffsetSelectsThePage) {
  ASSERT_THAT(pwrite(fd_, "2", 1, kPage), SyscallSucceedsWithValue(1));
  Mapping map(kPage, PROT_READ, MAP_SHARED, fd_, kPage);
  EXPECT_EQ(map[0], '2');
}

TEST_F(MmapFileTest, RestOfTheLastPageIsZero) {
  ASSERT_THAT(ftruncate(fd_, 100), SyscallSucceeds());
  Mapping map(kPage, PROT_READ, MAP_SHARED, fd_);
  EXPECT_EQ(map[99], 'f');
  EXPECT_EQ(map[100], 0);
  EXPECT_EQ(map[kPage - 1], 0);
}

TEST_F(MmapFileTest, PageBehindTheEndIsSigbus) {
  Mapping map(4 * kPage, PROT_READ, MAP_SHARED, fd_);
  EXPECT_EQ(map[2 * kPage - 1], 'f');
  EXPECT_THAT(InChild([&] { Peek(map.get() + 2 * kPage); }), DiesOf(SIGBUS));
}

TEST_F(MmapFileTest, ShrinkingTheFileUnderAMappingIsSigbus) {
  Mapping map(2 * kPage, PROT_READ, MAP_SHARED, fd_);
  EXPECT_EQ(map[kPage], 'f');
  ASSERT_THAT(ftruncate(fd_, kPage), SyscallSucceeds());
  EXPECT_THAT(InChild([&] { Peek(map.get() + kPage); }), DiesOf(SIGBUS));
  EXPECT_EQ(map[0], 'f');
}

TEST_F(MmapFileTest, GrowingTheFileMakesThePageAccessible) {
  Mapping map(4 * kPage, PROT_READ, MAP_SHARED, fd_);
  ASSERT_THAT(ftruncate(fd_, 3 * kPage), SyscallSucceeds());
  EXPECT_EQ(map[2 * kPage], 0);
}

TEST_F(MmapFileTest, ShrinkDropsPrivateCopiesToo) {
  Mapping map(2 * kPage, kReadWrite, MAP_PRIVATE, fd_);
  map[kPage] = 'p';
  ASSERT_THAT(ftruncate(fd_, kPage), SyscallSucceeds());
  EXPECT_THAT(InChild([&] { Peek(map.get() + kPage); }), DiesOf(SIGBUS));
}

TEST_F(MmapFileTest, AccessModeOfTheDescriptorLimits) {
  FdCloser reader = file_.Open(O_RDONLY), writer = file_.Open(O_WRONLY);
  EXPECT_EQ(mmap(nullptr, kPage, kReadWrite, MAP_SHARED, reader, 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  EXPECT_EQ(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, writer, 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  Mapping ok(kPage, kReadWrite, MAP_PRIVATE, reader);
  EXPECT_TRUE(ok.ok());
}

TEST_F(MmapFileTest, MprotectCannotExceedTheDescriptor) {
  FdCloser reader = file_.Open(O_RDONLY);
  Mapping map(kPage, PROT_READ, MAP_SHARED, reader);
  ASSERT_TRUE(map.ok());
  EXPECT_THAT(mprotect(map.get(), kPage, kReadWrite), SyscallFailsWithErrno(EACCES));
}

// By write(2), by other mappings and other processes, in pages that were there and in new ones.
TEST_F(MmapFileTest, AReadOnlySharedMappingSeesWhatOthersWrite) {
  FdCloser memory(memfd_create("memory", MFD_CLOEXEC));
  ASSERT_THAT(ftruncate(memory, kPage), SyscallSucceeds());
  FdCloser memory_reader(open(("/proc/self/fd/" + std::to_string(memory)).c_str(), O_RDONLY));
  FdCloser file_reader = file_.Open(O_RDONLY);
  for (auto [writer, reader] : {std::pair<int, int>{fd_, file_reader}, {memory, memory_reader}}) {
    Mapping map(3 * kPage, PROT_READ, MAP_SHARED, reader), all(3 * kPage, kReadWrite, MAP_SHARED, writer);
    ASSERT_TRUE(map.ok() && all.ok());
    Peek(map.get());
    ASSERT_THAT(pwrite(writer, "w", 1, 10), SyscallSucceedsWithValue(1));
    EXPECT_EQ(map[10], 'w');
    all[11] = 'm';
    EXPECT_EQ(map[11], 'm');
    ASSERT_THAT(ftruncate(writer, 3 * kPage), SyscallSucceeds());
    EXPECT_EQ(map[2 * kPage], '\0');
    EXPECT_THAT(InChild([&] {
                  all[2 * kPage] = 'c';
                  _exit(map[2 * kPage] == 'c' ? 0 : 1);
                }),
                ExitsWith(0));
    EXPECT_EQ(map[2 * kPage], 'c');
    ASSERT_THAT(ftruncate(writer, kPage), SyscallSucceeds());
    EXPECT_THAT(InChild([&] { Peek(map.get() + kPage); }), DiesOf(SIGBUS));
  }
}

TEST_F(MmapFileTest, PipeAndClosedDescriptor) {
  Pipe pipe;
  EXPECT_EQ(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, pipe.reader, 0), MAP_FAILED);
  EXPECT_EQ(errno, ENODEV);
  EXPECT_EQ(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, 1000, 0), MAP_FAILED);
  EXPECT_EQ(errno, EBADF);
}

TEST_F(MmapFileTest, ReadIntoItsOwnMapping) {
  // The buffer of the read is the very page that the file's data comes from.
  Mapping map(2 * kPage, kReadWrite, MAP_SHARED, fd_);
  map[kPage] = 'b';
  EXPECT_THAT(pread(fd_, map.get(), kPage, kPage), SyscallSucceedsWithValue(4096));
  EXPECT_EQ(map[0], 'b');
}

TEST_F(MmapFileTest, ReadIntoAMappingPastTheEndIsEfault) {
  Mapping map(4 * kPage, kReadWrite, MAP_SHARED, fd_);
  EXPECT_THAT(pread(fd_, map.get() + 3 * kPage, 10, 0), SyscallFailsWithErrno(EFAULT));
}

TEST_F(MmapFileTest, ZeroDeviceGivesMemory) {
  FdCloser zero(open("/dev/zero", O_RDWR));
  Mapping map(kPage, kReadWrite, MAP_PRIVATE, zero);
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(map[0], 0);
  map[0] = 1;
}

TEST_F(MmapFileTest, MsyncChecksItsArguments) {
  Mapping map(2 * kPage, kReadWrite, MAP_SHARED, fd_);
  map[0] = 's';
  EXPECT_THAT(msync(map.get(), kPage, MS_SYNC), SyscallSucceeds());
  EXPECT_THAT(msync(map.get(), kPage, MS_SYNC | MS_ASYNC), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(msync(map.get() + 1, kPage, MS_SYNC), SyscallFailsWithErrno(EINVAL));
  munmap(map.get() + kPage, kPage);
  EXPECT_THAT(msync(map.get(), 2 * kPage, MS_ASYNC), SyscallFailsWithErrno(ENOMEM));
}

}  // namespace
}  // namespace caisson::test
