// mremap(2), madvise(2), mincore(2).
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

TEST(MremapTest, GrowsInPlaceWhereThereIsRoom) {
  Mapping memory(4 * kPage);
  memory[0] = 'x';
  ASSERT_THAT(munmap(memory.get() + kPage, 3 * kPage), SyscallSucceeds());
  EXPECT_EQ(mremap(memory.get(), kPage, 3 * kPage, 0), memory.get());
  EXPECT_EQ(memory[0], 'x');
  EXPECT_EQ(memory[2 * kPage], 0);
}

TEST(MremapTest, WithoutRoomItNeedsMaymove) {
  Mapping memory(2 * kPage);
  memory[5] = 'm';
  EXPECT_EQ(mremap(memory.get(), kPage, 2 * kPage, 0), MAP_FAILED);
  EXPECT_EQ(errno, ENOMEM);
  char* moved = static_cast<char*>(mremap(memory.get(), kPage, 2 * kPage, MREMAP_MAYMOVE));
  ASSERT_NE(moved, MAP_FAILED);
  EXPECT_EQ(moved[5], 'm');
  munmap(moved, 2 * kPage);
}

TEST(MremapTest, OldPlaceIsGoneAfterAMove) {
  EXPECT_THAT(InChild([] {
                Mapping memory(2 * kPage);
                memory[0] = 1;
                ASSERT_NE(mremap(memory.get(), kPage, 2 * kPage, MREMAP_MAYMOVE), MAP_FAILED);
                Peek(memory.get());
              }),
              DiesOf(SIGSEGV));
}

TEST(MremapTest, ShrinksAndUnmapsTheTail) {
  EXPECT_THAT(InChild([] {
                Mapping memory(2 * kPage);
                memory[kPage] = 1;
                EXPECT_EQ(mremap(memory.get(), 2 * kPage, kPage, 0), memory.get());
                Peek(memory.get());
                Peek(memory.get() + kPage);
              }),
              DiesOf(SIGSEGV));
}

TEST(MremapTest, FixedMovesOverAnotherMapping) {
  Mapping from(kPage), to(2 * kPage);
  from[0] = 'f';
  to[0] = 't';
  to[kPage] = 'u';
  EXPECT_EQ(mremap(from.get(), kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to.get()), to.get());
  EXPECT_EQ(to[0], 'f');
  EXPECT_EQ(to[kPage], 'u');
}

TEST(MremapTest, FileMappingKeepsItsFileAndOffset) {
  TempFile file(std::string(kPage, 'a') + std::string(kPage, 'b'));
  FdCloser fd = file.Open(O_RDWR);
  Mapping map(kPage, kReadWrite, MAP_SHARED, fd, kPage);
  char* moved = static_cast<char*>(mremap(map.get(), kPage, 2 * kPage, MREMAP_MAYMOVE));
  ASSERT_NE(moved, MAP_FAILED);
  EXPECT_EQ(moved[0], 'b');
  moved[0] = 'z';
  EXPECT_EQ(ReadFile(file.path())[kPage], 'z');
  munmap(moved, 2 * kPage);
}

TEST(MremapTest, ZeroOldSizeDuplicatesASharedMapping) {
  SharedMapping memory;
  char* twin = static_cast<char*>(mremap(memory.get(), 0, kPage, MREMAP_MAYMOVE));
  ASSERT_NE(twin, MAP_FAILED);
  memory[7] = '7';
  EXPECT_EQ(twin[7], '7');
  munmap(twin, kPage);
}

TEST(MremapTest, BadArguments) {
  Mapping memory(kPage);
  EXPECT_EQ(mremap(memory.get() + 1, kPage, kPage, 0), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(mremap(memory.get(), kPage, 0, 0), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(mremap(memory.get(), kPage, kPage, 0x100), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
  munmap(memory.get(), kPage);
  EXPECT_EQ(mremap(memory.get(), kPage, 2 * kPage, MREMAP_MAYMOVE), MAP_FAILED);
  EXPECT_EQ(errno, EFAULT);
}

TEST(MadviseTest, DontneedZeroesPrivateMemory) {
  Mapping memory(2 * kPage);
  memory[0] = 'x';
  memory[kPage] = 'y';
  ASSERT_THAT(madvise(memory.get(), kPage, MADV_DONTNEED), SyscallSucceeds());
  EXPECT_EQ(memory[0], 0);
  EXPECT_EQ(memory[kPage], 'y');
}

TEST(MadviseTest, DontneedOfAPrivateFileMappingShowsTheFileAgain) {
  TempFile file("original");
  FdCloser fd = file.Open(O_RDONLY);
  Mapping map(kPage, kReadWrite, MAP_PRIVATE, fd);
  map[0] = 'X';
  ASSERT_THAT(madvise(map.get(), kPage, MADV_DONTNEED), SyscallSucceeds());
  EXPECT_EQ(map[0], 'o');
}

TEST(MadviseTest, DontneedLeavesSharedMemoryAlone) {
  SharedMapping memory;
  memory[0] = 's';
  ASSERT_THAT(madvise(memory.get(), kPage, MADV_DONTNEED), SyscallSucceeds());
  EXPECT_EQ(memory[0], 's');
}

TEST(MadviseTest, RemovePunchesSharedMemory) {
  SharedMapping memory;
  memory[0] = 's';
  ASSERT_THAT(madvise(memory.get(), kPage, MADV_REMOVE), SyscallSucceeds());
  EXPECT_EQ(memory[0], 0);
}

TEST(MadviseTest, UnknownAdviceAndHoles) {
  Mapping memory(2 * kPage);
  EXPECT_THAT(madvise(memory.get(), kPage, 9999), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(madvise(memory.get() + 1, kPage, MADV_DONTNEED), SyscallFailsWithErrno(EINVAL));
  munmap(memory.get() + kPage, kPage);
  EXPECT_THAT(madvise(memory.get(), 2 * kPage, MADV_DONTNEED), SyscallFailsWithErrno(ENOMEM));
}

TEST(MincoreTest, TouchedPagesAreResident) {
  Mapping memory(2 * kPage);
  memory[0] = 1;
  unsigned char resident[2] = {};
  ASSERT_THAT(mincore(memory.get(), 2 * kPage, resident), SyscallSucceeds());
  EXPECT_EQ(resident[0] & 1, 1);
}

TEST(MincoreTest, HoleIsEnomemAndMisalignedInvalid) {
  Mapping memory(kPage);
  unsigned char resident[1];
  EXPECT_THAT(mincore(memory.get() + 1, 1, resident), SyscallFailsWithErrno(EINVAL));
  munmap(memory.get(), kPage);
  EXPECT_THAT(mincore(memory.get(), kPage, resident), SyscallFailsWithErrno(ENOMEM));
}

}  // namespace
}  // namespace caisson::test
