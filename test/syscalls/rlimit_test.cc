// getrlimit(2), prlimit(2), and what the limits do; getrusage(2), getpriority(2).
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

void Limit(__rlimit_resource resource, rlim_t soft) {
  rlimit limit;
  ASSERT_THAT(getrlimit(resource, &limit), SyscallSucceeds());
  limit.rlim_cur = soft;
  ASSERT_THAT(setrlimit(resource, &limit), SyscallSucceeds());
}

TEST(RlimitTest, SoftAboveHardIsInvalid) {
  rlimit limit = {20, 10};
  EXPECT_THAT(setrlimit(RLIMIT_NOFILE, &limit), SyscallFailsWithErrno(EINVAL));
}

TEST(RlimitTest, UnknownResourceIsInvalid) {
  rlimit limit;
  EXPECT_THAT(syscall(SYS_getrlimit, 16, &limit), SyscallFailsWithErrno(EINVAL));
}

TEST(RlimitTest, LoweredHardLimitStaysForTheUnprivileged) {
  EXPECT_THAT(InChild([] {
                setresuid(1000, 1000, 1000);
                rlimit low = {10, 10}, high = {10, 20};
                EXPECT_THAT(setrlimit(RLIMIT_NOFILE, &low), SyscallSucceeds());
                EXPECT_THAT(setrlimit(RLIMIT_NOFILE, &high), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

TEST(RlimitTest, InheritedByForkAndVisibleInProc) {
  EXPECT_THAT(InChild([] {
                Limit(RLIMIT_NOFILE, 77);
                EXPECT_THAT(InChild([] {
                              rlimit limit;
                              getrlimit(RLIMIT_NOFILE, &limit);
                              EXPECT_EQ(limit.rlim_cur, 77u);
                              EXPECT_THAT(ReadFile("/proc/self/limits"),
                                          testing::ContainsRegex("Max open files  *77 "));
                            }),
                            ExitsWith(0));
              }),
              ExitsWith(0));
}

TEST(RlimitTest, PrlimitReadsAndSetsAnother) {
  Child child([] { pause(); });
  rlimit old, limit;
  ASSERT_THAT(prlimit(child.pid(), RLIMIT_NOFILE, nullptr, &old), SyscallSucceeds());
  limit = {33, old.rlim_max};
  ASSERT_THAT(prlimit(child.pid(), RLIMIT_NOFILE, &limit, nullptr), SyscallSucceeds());
  ASSERT_THAT(prlimit(child.pid(), RLIMIT_NOFILE, nullptr, &old), SyscallSucceeds());
  EXPECT_EQ(old.rlim_cur, 33u);
  EXPECT_THAT(prlimit(1 << 22, RLIMIT_NOFILE, nullptr, &old), SyscallFailsWithErrno(ESRCH));
}

TEST(RlimitTest, OpenFilesAreEmfile) {
  EXPECT_THAT(InChild([] {
                Limit(RLIMIT_NOFILE, 3);
                EXPECT_THAT(open("/dev/null", O_RDONLY), SyscallFailsWithErrno(EMFILE));
                EXPECT_THAT(dup(0), SyscallFailsWithErrno(EMFILE));
                int fds[2];
                EXPECT_THAT(pipe(fds), SyscallFailsWithErrno(EMFILE));
              }),
              ExitsWith(0));
}

TEST(RlimitTest, FileSizeIsSignalledAndEfbig) {
  TempFile file;
  EXPECT_THAT(InChild([&] {
                ScopedAction action(SIGXFSZ, CountDelivery);
                Limit(RLIMIT_FSIZE, 10);
                FdCloser fd = file.Open(O_WRONLY);
                EXPECT_THAT(write(fd, "0123456789ab", 12), SyscallSucceedsWithValue(10));
                EXPECT_EQ(g_deliveries, 0);
                EXPECT_THAT(write(fd, "x", 1), SyscallFailsWithErrno(EFBIG));
                EXPECT_EQ(g_deliveries, 1);
                EXPECT_THAT(ftruncate(fd, 11), SyscallFailsWithErrno(EFBIG));
                EXPECT_EQ(g_deliveries, 2);
              }),
              ExitsWith(0));
}

TEST(RlimitTest, FileSizeKillsByDefault) {
  TempFile file;
  EXPECT_THAT(InChild([&] {
                Limit(RLIMIT_FSIZE, 0);
                FdCloser fd = file.Open(O_WRONLY);
                write(fd, "x", 1);
              }),
              DiesOf(SIGXFSZ));
}

TEST(RlimitTest, AddressSpaceIsEnomem) {
  EXPECT_THAT(InChild([] {
                Limit(RLIMIT_AS, 64 << 20);
                Mapping memory(128 << 20);
                EXPECT_FALSE(memory.ok());
                EXPECT_EQ(errno, ENOMEM);
              }),
              ExitsWith(0));
}

TEST(RlimitTest, DataLimitsBrk) {
  EXPECT_THAT(InChild([] {
                Limit(RLIMIT_DATA, 16 << 20);
                EXPECT_EQ(sbrk(32 << 20), reinterpret_cast<void*>(-1));
                EXPECT_EQ(errno, ENOMEM);
              }),
              ExitsWith(0));
}

TEST(RlimitTest, ProcessesAreEagain) {
  EXPECT_THAT(InChild([] {
                // A user of this test's own: the limit counts all of his processes.
                ASSERT_THAT(setresuid(54321, 54321, 54321), SyscallSucceeds());
                Limit(RLIMIT_NPROC, 1);
                EXPECT_THAT(fork(), SyscallFailsWithErrno(EAGAIN));
              }),
              ExitsWith(0));
}

TEST(RlimitTest, CpuTimeIsSignalled) {
  EXPECT_THAT(InChild([] {
                Limit(RLIMIT_CPU, 1);
                for (;;) {
                }
              }),
              DiesOf(SIGXCPU));
}

TEST(RlimitTest, PendingSignalsBoundTheRealtimeQueue) {
  EXPECT_THAT(InChild([] {
                setresuid(54322, 54322, 54322);
                Limit(RLIMIT_SIGPENDING, 5);
                Block({SIGRTMIN});
                sigval value = {};
                for (int i = 0; i < 5; i++) {
                  EXPECT_THAT(sigqueue(getpid(), SIGRTMIN, value), SyscallSucceeds());
                }
                EXPECT_THAT(sigqueue(getpid(), SIGRTMIN, value), SyscallFailsWithErrno(EAGAIN));
              }),
              ExitsWith(0));
}

TEST(RusageTest, FieldsAreFilled) {
  rusage usage;
  ASSERT_THAT(getrusage(RUSAGE_SELF, &usage), SyscallSucceeds());
  EXPECT_GT(usage.ru_maxrss, 100);
  EXPECT_GT(usage.ru_minflt, 0);
  EXPECT_THAT(getrusage(static_cast<__rusage_who>(7), &usage), SyscallFailsWithErrno(EINVAL));
}

TEST(PriorityTest, NiceIsKeptAndClamped) {
  EXPECT_THAT(InChild([] {
                ASSERT_THAT(setpriority(PRIO_PROCESS, 0, 5), SyscallSucceeds());
                errno = 0;
                EXPECT_EQ(getpriority(PRIO_PROCESS, 0), 5);
                ASSERT_THAT(setpriority(PRIO_PROCESS, 0, 100), SyscallSucceeds());
                EXPECT_EQ(getpriority(PRIO_PROCESS, 0), 19);
              }),
              ExitsWith(0));
}

TEST(PriorityTest, UnprivilegedCannotRaise) {
  EXPECT_THAT(InChild([] {
                setresuid(1000, 1000, 1000);
                EXPECT_THAT(setpriority(PRIO_PROCESS, 0, -20), SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
