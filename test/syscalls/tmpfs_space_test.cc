// The space of a tmpfs that has a size: write(2), fallocate(2) and what they leave where there is too little.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

constexpr off_t kMiB = 1 << 20;

// Every body runs in a child with a tmpfs of 4 MiB of its own.
class TmpfsSpaceTest : public testing::Test {
 protected:
  int Run(const std::function<void()>& body, const char* options = "size=4m") {
    return InChild([&] {
      ASSERT_THAT(unshare(CLONE_NEWNS), SyscallSucceeds());
      ASSERT_THAT(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), SyscallSucceeds());
      ASSERT_THAT(mount("none", dir_.c_str(), "tmpfs", 0, options), SyscallSucceeds());
      body();
    });
  }
  FdCloser New(const char* name) {
    return FdCloser(open((dir_ / name).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
  }
  uint64_t FreePages() {
    struct statfs fs = {};
    EXPECT_THAT(statfs(dir_.c_str(), &fs), SyscallSucceeds());
    return fs.f_bfree;
  }
  static struct stat Stat(int fd) {
    struct stat st = {};
    EXPECT_THAT(fstat(fd, &st), SyscallSucceeds());
    return st;
  }
  TempDir dir_;
};

TEST_F(TmpfsSpaceTest, AnAllocationThatDoesNotFitLeavesNothing) {
  EXPECT_THAT(Run([&] {
                FdCloser fd = New("file");
                const uint64_t before = FreePages();
                EXPECT_THAT(fallocate(fd, 0, 0, 8 * kMiB), SyscallFailsWithErrno(ENOSPC));
                EXPECT_EQ(Stat(fd).st_size, 0);
                EXPECT_EQ(Stat(fd).st_blocks, 0);
                EXPECT_EQ(FreePages(), before);
                ASSERT_THAT(fallocate(fd, 0, 0, 4 * kMiB), SyscallSucceeds());
                EXPECT_EQ(FreePages(), 0u);
              }),
              ExitsWith(0));
}

TEST_F(TmpfsSpaceTest, AFailedAllocationKeepsWhatWasThere) {
  EXPECT_THAT(Run([&] {
                FdCloser other = New("other"), fd = New("file");
                ASSERT_THAT(fallocate(other, 0, 0, 2 * kMiB), SyscallSucceeds());
                // Islands of data, which the allocation goes around.
                for (off_t at : {off_t{0}, kMiB, 2 * kMiB})
                  ASSERT_THAT(pwrite(fd, "data", 4, at + 100), SyscallSucceedsWithValue(4));
                const auto blocks = Stat(fd).st_blocks;
                const uint64_t before = FreePages();
                EXPECT_THAT(fallocate(fd, 0, 0, 3 * kMiB), SyscallFailsWithErrno(ENOSPC));
                EXPECT_EQ(Stat(fd).st_size, 2 * kMiB + 104);
                EXPECT_EQ(Stat(fd).st_blocks, blocks);
                EXPECT_EQ(FreePages(), before);
                char data[4];
                for (off_t at : {off_t{0}, kMiB, 2 * kMiB}) {
                  ASSERT_THAT(pread(fd, data, 4, at + 100), SyscallSucceedsWithValue(4));
                  EXPECT_EQ(std::string(data, 4), "data");
                }
                // What fits around them does.
                ASSERT_THAT(fallocate(fd, 0, kMiB / 2, kMiB), SyscallSucceeds());
                ASSERT_THAT(pread(fd, data, 4, kMiB + 100), SyscallSucceedsWithValue(4));
                EXPECT_EQ(std::string(data, 4), "data");
                EXPECT_EQ(FreePages(), before - kMiB / kPage + 1);
              }),
              ExitsWith(0));
}

TEST_F(TmpfsSpaceTest, WritesFillWhatIsLeftAndThenFail) {
  EXPECT_THAT(Run([&] {
                FdCloser fd = New("file");
                const std::string piece(3 * kMiB, 'x');
                ASSERT_THAT(write(fd, piece.data(), piece.size()), SyscallSucceedsWithValue(3 * kMiB));
                EXPECT_THAT(write(fd, piece.data(), piece.size()), SyscallSucceedsWithValue(kMiB));
                EXPECT_THAT(write(fd, "x", 1), SyscallFailsWithErrno(ENOSPC));
                // What is there can be written anew.
                EXPECT_THAT(pwrite(fd, piece.data(), piece.size(), 0), SyscallSucceedsWithValue(3 * kMiB));
                ASSERT_THAT(ftruncate(fd, kMiB), SyscallSucceeds());
                EXPECT_EQ(FreePages(), static_cast<uint64_t>(3 * kMiB / static_cast<off_t>(kPage)));
              }),
              ExitsWith(0));
}

TEST_F(TmpfsSpaceTest, AFileWithHolesIsWrittenAnewWhereNothingIsLeft) {
  EXPECT_THAT(Run([&] {
                FdCloser fd = New("file"), rest = New("rest");
                ASSERT_THAT(ftruncate(fd, 8 * kMiB), SyscallSucceeds());
                const std::string piece(kMiB, 'x');
                ASSERT_THAT(pwrite(fd, piece.data(), piece.size(), 5 * kMiB), SyscallSucceedsWithValue(kMiB));
                ASSERT_THAT(fallocate(rest, 0, 0, 3 * kMiB), SyscallSucceeds());
                ASSERT_EQ(FreePages(), 0u);
                EXPECT_THAT(pwrite(fd, piece.data(), piece.size(), 5 * kMiB), SyscallSucceedsWithValue(kMiB));
                EXPECT_THAT(pwrite(fd, "x", 1, kMiB), SyscallFailsWithErrno(ENOSPC));
                // The first half is there, the second is not.
                EXPECT_THAT(pwrite(fd, piece.data(), piece.size(), 5 * kMiB + kMiB / 2),
                            SyscallSucceedsWithValue(kMiB / 2));
                ASSERT_THAT(ftruncate(rest, 2 * kMiB), SyscallSucceeds());
                EXPECT_THAT(pwrite(fd, "x", 1, kMiB), SyscallSucceedsWithValue(1));
              }),
              ExitsWith(0));
}

// What fallocate(2) is for.
TEST_F(TmpfsSpaceTest, WhatIsAllocatedCanBeWrittenWhereNothingIsLeft) {
  EXPECT_THAT(Run([&] {
                FdCloser fd = New("file"), rest = New("rest");
                ASSERT_THAT(fallocate(fd, 0, 0, 2 * kMiB), SyscallSucceeds());
                ASSERT_THAT(fallocate(rest, 0, 0, 2 * kMiB), SyscallSucceeds());
                ASSERT_EQ(FreePages(), 0u);
                const std::string piece(kMiB, 'x');
                EXPECT_THAT(fallocate(fd, 0, 0, 2 * kMiB), SyscallSucceeds()) << "once more";
                EXPECT_THAT(pwrite(fd, piece.data(), piece.size(), 0), SyscallSucceedsWithValue(kMiB));
                EXPECT_THAT(pwrite(fd, piece.data(), piece.size(), 3 * kMiB / 2 - 100),
                            SyscallSucceedsWithValue(kMiB / 2 + 100));
                EXPECT_THAT(pwrite(fd, "x", 1, 2 * kMiB), SyscallFailsWithErrno(ENOSPC));
                EXPECT_THAT(fallocate(fd, 0, kMiB, kMiB + 1), SyscallFailsWithErrno(ENOSPC));
                EXPECT_EQ(Stat(fd).st_size, 2 * kMiB);
                EXPECT_EQ(FreePages() * kPage + static_cast<uint64_t>(Stat(fd).st_blocks) * 512, 2ul * kMiB);
              }),
              ExitsWith(0));
}

TEST_F(TmpfsSpaceTest, PagesBeyondTheEndAreAllocatedAndGoWithTheNextTruncation) {
  EXPECT_THAT(Run([&] {
                FdCloser fd = New("file");
                ASSERT_THAT(fallocate(fd, FALLOC_FL_KEEP_SIZE, kMiB, kMiB), SyscallSucceeds());
                EXPECT_EQ(Stat(fd).st_size, 0);
                EXPECT_EQ(Stat(fd).st_blocks, kMiB / 512);
                EXPECT_EQ(FreePages(), static_cast<uint64_t>(3 * kMiB / static_cast<off_t>(kPage)));
                EXPECT_THAT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8 * kMiB), SyscallFailsWithErrno(ENOSPC));
                EXPECT_EQ(Stat(fd).st_blocks, kMiB / 512);
              }),
              ExitsWith(0));
}

TEST_F(TmpfsSpaceTest, TheFileSizeLimitCountsAlsoWhereTheSizeIsKept) {
  EXPECT_THAT(Run([&] {
                ScopedAction action(SIGXFSZ, CountDelivery);
                const rlimit limit = {kMiB, kMiB};
                ASSERT_THAT(setrlimit(RLIMIT_FSIZE, &limit), SyscallSucceeds());
                FdCloser fd = New("file");
                const int before = g_deliveries;
                EXPECT_THAT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * kMiB), SyscallFailsWithErrno(EFBIG));
                EXPECT_EQ(g_deliveries, before + 1);
                EXPECT_THAT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, kMiB), SyscallSucceeds());
              }),
              ExitsWith(0));
}

TEST_F(TmpfsSpaceTest, ASealAgainstGrowthCountsAlsoWhereTheSizeIsKept) {
  FdCloser fd(memfd_create("sealed", MFD_ALLOW_SEALING));
  ASSERT_THAT(ftruncate(fd, kPage), SyscallSucceeds());
  ASSERT_THAT(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), SyscallSucceeds());
  EXPECT_THAT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * kPage), SyscallFailsWithErrno(EPERM));
  EXPECT_THAT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, kPage), SyscallSucceeds());
}

// What another thread stores in the new pages meanwhile is kept, whatever becomes of the call.
TEST_F(TmpfsSpaceTest, StoresThroughAMappingSurviveAFailedAllocation) {
  EXPECT_THAT(Run([&] {
                FdCloser fd = New("file");
                ASSERT_THAT(ftruncate(fd, 4 * kMiB), SyscallSucceeds());
                Mapping map(4 * kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
                ASSERT_TRUE(map.ok());
                std::atomic<bool> done{false};
                ScopedThread failing([&] {
                  for (int i = 0; i < 50; ++i)
                    EXPECT_THAT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8 * kMiB), SyscallFailsWithErrno(ENOSPC));
                  done = true;
                });
                size_t stored = 0;
                while (!done) {
                  map[stored % (2 * kMiB)] = 1;
                  ASSERT_EQ(map[stored % (2 * kMiB)], 1) << stored;
                  stored += kPage;
                }
                failing.Join();
                for (size_t at = 0; at < std::min<size_t>(stored, 2 * kMiB); at += kPage) ASSERT_EQ(map[at], 1);
              }),
              ExitsWith(0));
}

// A periodic timer must not keep a long call from ever ending.
TEST_F(TmpfsSpaceTest, SignalsWithHandlersDoNotInterruptAnAllocation) {
  EXPECT_THAT(Run(
                  [&] {
                    ScopedAction action(SIGALRM, CountDelivery);
                    const itimerval often = {{0, 200}, {0, 200}};
                    FdCloser fd = New("file");
                    ASSERT_THAT(setitimer(ITIMER_REAL, &often, nullptr), SyscallSucceeds());
                    for (int i = 0; i < 5; ++i) {
                      EXPECT_THAT(fallocate(fd, 0, 0, 24 * kMiB), SyscallSucceeds());
                      EXPECT_THAT(ftruncate(fd, 0), SyscallSucceeds());
                    }
                    const itimerval off = {};
                    ASSERT_THAT(setitimer(ITIMER_REAL, &off, nullptr), SyscallSucceeds());
                  },
                  "size=32m"),
              ExitsWith(0));
}

// SIGKILL ends the call, and the file is not left half allocated.
TEST_F(TmpfsSpaceTest, AnAllocationOfAKilledProcessIsUndone) {
  EXPECT_THAT(Run(
                  [&] {
                    FdCloser fd = New("file");
                    for (int delay = 0; delay < 4000; delay += 400) {
                      Child child([&] { fallocate(fd, 0, 0, 64 * kMiB); });
                      usleep(static_cast<useconds_t>(delay));
                      child.Kill(SIGKILL);
                      child.Wait();
                      const struct stat st = Stat(fd);
                      ASSERT_TRUE(st.st_size == 0 || st.st_size == 64 * kMiB) << st.st_size;
                      EXPECT_EQ(st.st_blocks * 512, st.st_size);
                      ASSERT_THAT(ftruncate(fd, 0), SyscallSucceeds());
                    }
                    EXPECT_EQ(FreePages(), static_cast<uint64_t>(64 * kMiB / static_cast<off_t>(kPage)));
                  },
                  "size=64m"),
              ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
