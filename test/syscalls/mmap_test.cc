// mmap(2), munmap(2), mprotect(2), brk(2), MAP_GROWSDOWN, fork's copies.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

void Touch(volatile char* address) { *address = 1; }
char Peek(volatile char* address) { return *address; }

TEST(MmapTest, AnonymousMemoryIsZero) {
  Mapping memory(64 * kPage);
  ASSERT_TRUE(memory.ok());
  for (size_t i = 0; i < memory.size(); i += 512) ASSERT_EQ(memory[i], 0);
}

TEST(MmapTest, ZeroLengthIsInvalid) {
  EXPECT_EQ(mmap(nullptr, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
}

TEST(MmapTest, NeitherSharedNorPrivateIsInvalid) {
  EXPECT_EQ(mmap(nullptr, kPage, PROT_READ, MAP_ANONYMOUS, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
}

TEST(MmapTest, MisalignedOffsetIsInvalid) {
  TempFile file("x");
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_EQ(
      reinterpret_cast<void*>(syscall(SYS_mmap, 0, kPage, PROT_READ, MAP_PRIVATE, int{fd}, 1)),
      MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
}

TEST(MmapTest, HugeLengthIsEnomem) {
  EXPECT_EQ(mmap(nullptr, 1UL << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(mmap(nullptr, -1UL, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, ENOMEM);
}

TEST(MmapTest, FixedReplacesWhatIsThere) {
  Mapping memory(3 * kPage);
  memory[kPage] = 'x';
  memory[2 * kPage] = 'y';
  EXPECT_EQ(mmap(memory.get() + kPage, kPage, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
            memory.get() + kPage);
  EXPECT_EQ(memory[kPage], 0);
  EXPECT_EQ(memory[2 * kPage], 'y');
}

TEST(MmapTest, FixedNoReplaceRefusesWhatIsThere) {
  Mapping memory(kPage);
  EXPECT_EQ(mmap(memory.get(), kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                 -1, 0),
            MAP_FAILED);
  EXPECT_EQ(errno, EEXIST);
}

TEST(MmapTest, HintIsHonouredWhenFree) {
  char* free_address;
  {
    Mapping memory(4 * kPage);
    free_address = memory.get() + kPage;
  }
  void* address = mmap(free_address, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_EQ(address, free_address);
  munmap(address, kPage);
}

TEST(MmapTest, FixedAtAMisalignedOrKernelAddress) {
  EXPECT_EQ(mmap(reinterpret_cast<void*>(0x10001), kPage, PROT_READ,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
            MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(mmap(kKernelAddress, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
            MAP_FAILED);
  EXPECT_EQ(errno, ENOMEM);
}

TEST(MunmapTest, AccessAfterwardsIsSigsegv) {
  EXPECT_THAT(InChild([] {
                Mapping memory(kPage);
                munmap(memory.get(), kPage);
                Touch(memory.get());
              }),
              DiesOf(SIGSEGV));
}

TEST(MunmapTest, HoleIsFineAndNothingOrMisalignedIsInvalid) {
  Mapping memory(3 * kPage);
  EXPECT_THAT(munmap(memory.get() + kPage, kPage), SyscallSucceeds());
  EXPECT_THAT(munmap(memory.get(), 3 * kPage), SyscallSucceeds());
  EXPECT_THAT(munmap(memory.get(), 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(munmap(memory.get() + 1, kPage), SyscallFailsWithErrno(EINVAL));
}

TEST(MprotectTest, ReadOnlyMemoryFaultsOnWrite) {
  EXPECT_THAT(InChild([] {
                Mapping memory(kPage);
                memory[0] = 1;
                ASSERT_THAT(mprotect(memory.get(), kPage, PROT_READ), SyscallSucceeds());
                EXPECT_EQ(Peek(memory.get()), 1);
                Touch(memory.get());
              }),
              DiesOf(SIGSEGV));
}

TEST(MprotectTest, WritableAgainKeepsContent) {
  Mapping memory(kPage);
  memory[5] = 'k';
  ASSERT_THAT(mprotect(memory.get(), kPage, PROT_NONE), SyscallSucceeds());
  ASSERT_THAT(mprotect(memory.get(), kPage, PROT_READ | PROT_WRITE), SyscallSucceeds());
  EXPECT_EQ(memory[5], 'k');
  Touch(memory.get());
}

TEST(MprotectTest, HoleIsEnomem) {
  Mapping memory(3 * kPage);
  ASSERT_THAT(munmap(memory.get() + kPage, kPage), SyscallSucceeds());
  EXPECT_THAT(mprotect(memory.get(), 3 * kPage, PROT_READ), SyscallFailsWithErrno(ENOMEM));
}

TEST(MprotectTest, MisalignedIsInvalid) {
  Mapping memory(kPage);
  EXPECT_THAT(mprotect(memory.get() + 1, kPage, PROT_READ), SyscallFailsWithErrno(EINVAL));
}

TEST(MprotectTest, CodeWrittenToMemoryRuns) {
  Mapping memory(kPage);
  const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};  // mov eax, 42; ret
  memcpy(memory.get(), code, sizeof(code));
  ASSERT_THAT(mprotect(memory.get(), kPage, PROT_READ | PROT_EXEC), SyscallSucceeds());
  EXPECT_EQ(reinterpret_cast<int (*)()>(memory.get())(), 42);
}

TEST(MprotectTest, JumpIntoDataIsSigsegv) {
  EXPECT_THAT(InChild([] {
                Mapping memory(kPage);
                memory[0] = static_cast<char>(0xc3);
                reinterpret_cast<void (*)()>(memory.get())();
              }),
              DiesOf(SIGSEGV));
}

TEST(BrkTest, GrowsWithZeroesAndShrinks) {
  EXPECT_THAT(InChild([] {
                char* start = static_cast<char*>(sbrk(0));
                ASSERT_THAT(brk(start + 3 * kPage), SyscallSucceeds());
                EXPECT_EQ(sbrk(0), start + 3 * kPage);
                EXPECT_EQ(start[2 * kPage], 0);
                start[2 * kPage] = 1;
                ASSERT_THAT(brk(start), SyscallSucceeds());
                ASSERT_THAT(brk(start + 3 * kPage), SyscallSucceeds());
                EXPECT_EQ(start[2 * kPage], 0);
              }),
              ExitsWith(0));
}

TEST(BrkTest, FailureReturnsTheOldBreak) {
  const long now = syscall(SYS_brk, 0);
  EXPECT_EQ(syscall(SYS_brk, -1L), now);
  EXPECT_EQ(syscall(SYS_brk, 4096), now);
}

TEST(GrowsDownTest, TouchingBelowExtendsTheMapping) {
  EXPECT_THAT(InChild([] {
                char* area;
                {
                  Mapping reserve(2048 * kPage, PROT_NONE);  // Finds room, more than a stack gap.
                  area = reserve.get();
                }
                char* top = area + 2047 * kPage;
                ASSERT_EQ(mmap(top, kPage, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0),
                          top);
                for (int page = 0; page < 10; page++) Touch(top - page * kPage);
                EXPECT_EQ(Peek(top - 9 * kPage), 1);
              }),
              ExitsWith(0));
}

TEST(StackTest, GrowsToAMegabyte) {
  EXPECT_THAT(InChild([] {
                volatile char* block = static_cast<char*>(__builtin_alloca(1 << 20));
                for (int i = (1 << 20) - 1; i >= 0; i -= 4096) block[i] = 1;
              }),
              ExitsWith(0));
}

int Recurse(int depth) {
  volatile char block[4096];
  block[0] = 1;
  return depth > 1000000 ? 0 : Recurse(depth + 1) + block[0];
}

TEST(StackTest, EndlessRecursionIsSigsegv) {
  EXPECT_THAT(InChild([] { _exit(Recurse(0) == 0); }), DiesOf(SIGSEGV));
}

TEST(ForkMemoryTest, PrivateMemoryIsCopiedOnWriteBothWays) {
  Mapping memory(kPage);
  memory[0] = 'a';
  Pipe go;
  Child child([&] {
    EXPECT_EQ(ReadOnce(go.reader, 1), "g");
    EXPECT_EQ(memory[0], 'a');
    memory[0] = 'c';
  });
  memory[0] = 'p';
  ASSERT_TRUE(WriteAll(go.writer, "g"));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
  EXPECT_EQ(memory[0], 'p');
}

TEST(ForkMemoryTest, SharedAnonymousMemoryIsShared) {
  SharedMapping memory;
  EXPECT_THAT(InChild([&] { memory[0] = 's'; }), ExitsWith(0));
  EXPECT_EQ(memory[0], 's');
}

TEST(ForkMemoryTest, DontforkMemoryIsMissingInTheChild) {
  Mapping memory(kPage);
  memory[0] = 1;
  ASSERT_THAT(madvise(memory.get(), kPage, MADV_DONTFORK), SyscallSucceeds());
  EXPECT_THAT(InChild([&] { Peek(memory.get()); }), DiesOf(SIGSEGV));
}

TEST(ForkMemoryTest, WipeOnForkMemoryIsZeroInTheChild) {
  Mapping memory(kPage);
  memory[0] = 1;
  ASSERT_THAT(madvise(memory.get(), kPage, MADV_WIPEONFORK), SyscallSucceeds());
  EXPECT_THAT(InChild([&] { EXPECT_EQ(memory[0], 0); }), ExitsWith(0));
  EXPECT_EQ(memory[0], 1);
}

TEST(MlockTest, LocksAndUnlocks) {
  Mapping memory(2 * kPage);
  EXPECT_THAT(mlock(memory.get(), kPage), SyscallSucceeds());
  EXPECT_THAT(munlock(memory.get(), kPage), SyscallSucceeds());
  munmap(memory.get(), kPage);
  EXPECT_THAT(mlock(memory.get(), kPage), SyscallFailsWithErrno(ENOMEM));
}

}  // namespace
}  // namespace caisson::test
