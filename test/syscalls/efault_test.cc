// Hostile pointers and sizes: every kind of bad address for every kind of argument.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// Each address that no call may accept. The last is accessible but for what lies behind it.
enum AddressKind { kUnmapped, kKernel, kNonCanonical, kWrapping, kCrossing };

class BadAddressTest : public testing::TestWithParam<int> {
 protected:
  void* Bad() const {
    switch (GetParam()) {
      case kUnmapped:
        return reinterpret_cast<void*>(8);
      case kKernel:
        return kKernelAddress;
      case kNonCanonical:
        return kNonCanonicalAddress;
      case kWrapping:
        return kWrappingAddress;
      default:
        return page_.At(1);
    }
  }
  GuardedPage page_;
};
std::string AddressName(const testing::TestParamInfo<int>& info) {
  const char* names[] = {"Unmapped", "Kernel", "NonCanonical", "Wrapping", "Crossing"};
  return names[info.param];
}
INSTANTIATE_TEST_SUITE_P(Addresses, BadAddressTest, testing::Range(0, 5), AddressName);

TEST_P(BadAddressTest, StructuresWritten) {
  FdCloser fd(open("/dev/null", O_RDONLY));
  EXPECT_THAT(syscall(SYS_fstat, int{fd}, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_uname, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_getrusage, 0, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_sysinfo, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_getrlimit, RLIMIT_NOFILE, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_getitimer, ITIMER_REAL, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_pipe, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_times, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_statfs, "/", Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_rt_sigaction, SIGUSR1, nullptr, Bad(), 8), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_sigaltstack, nullptr, Bad()), SyscallFailsWithErrno(EFAULT));
}

TEST_P(BadAddressTest, StructuresRead) {
  EXPECT_THAT(syscall(SYS_nanosleep, Bad(), nullptr), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_rt_sigaction, SIGUSR1, Bad(), nullptr, 8), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_rt_sigprocmask, SIG_BLOCK, Bad(), nullptr, 8),
              SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_setrlimit, RLIMIT_NOFILE, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_setitimer, ITIMER_REAL, Bad(), nullptr), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_rt_sigtimedwait, Bad(), nullptr, nullptr, 8),
              SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_setgroups, 4, Bad()), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_capget, Bad(), nullptr), SyscallFailsWithErrno(EFAULT));
}

TEST_P(BadAddressTest, Paths) {
  char* bad = static_cast<char*>(Bad());
  if (GetParam() == kCrossing) *bad = 'x';  // Not terminated before the forbidden page.
  EXPECT_THAT(syscall(SYS_open, bad, O_RDONLY), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_stat, bad, nullptr), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_mkdir, bad, 0755), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_unlink, bad), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_chdir, bad), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_rename, bad, "/tmp/x"), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_symlink, bad, "/tmp/x"), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_execve, bad, nullptr, nullptr), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_truncate, bad, 0), SyscallFailsWithErrno(EFAULT));
}

TEST_P(BadAddressTest, BuffersOfFilesAndPipes) {
  // A partly accessible buffer gives a short count: read_write_test.
  void* bad = GetParam() == kCrossing ? page_.guard() : Bad();
  TempFile file(std::string(100, 'x'));
  FdCloser fd = file.Open(O_RDWR), root(open("/", O_RDONLY));
  Pipe pipe;
  ASSERT_TRUE(WriteAll(pipe.writer, std::string(100, 'x')));
  EXPECT_THAT(syscall(SYS_read, int{fd}, bad, 50), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_write, int{fd}, bad, 50), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_read, int{pipe.reader}, bad, 50), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_write, int{pipe.writer}, bad, 50), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_getdents64, int{root}, bad, 4096), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_getcwd, bad, 4096), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_readlink, "/proc/self", bad, 100), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_getrandom, bad, 100, 0), SyscallFailsWithErrno(EFAULT));
}

TEST_P(BadAddressTest, VectorsAndMessages) {
  FdCloser zero(open("/dev/zero", O_RDWR));
  EXPECT_THAT(syscall(SYS_readv, int{zero}, Bad(), 1), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_writev, int{zero}, Bad(), 1), SyscallFailsWithErrno(EFAULT));
  int pair[2];
  ASSERT_THAT(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), SyscallSucceeds());
  FdCloser a(pair[0]), b(pair[1]);
  EXPECT_THAT(syscall(SYS_sendmsg, int{a}, Bad(), 0), SyscallFailsWithErrno(EFAULT));
  ASSERT_THAT(send(b, "x", 1, 0), SyscallSucceeds());
  EXPECT_THAT(syscall(SYS_recvmsg, int{a}, Bad(), MSG_DONTWAIT), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, Bad()),
              SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_connect, int{a}, Bad(), sizeof(sockaddr_un)),
              SyscallFailsWithErrno(EFAULT));
  int value = 0;
  EXPECT_THAT(syscall(SYS_getsockopt, int{a}, SOL_SOCKET, SO_TYPE, &value, Bad()),
              SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_setsockopt, int{a}, SOL_SOCKET, SO_PASSCRED, Bad(), 4),
              SyscallFailsWithErrno(EFAULT));
}

TEST_P(BadAddressTest, PollSets) {
  EXPECT_THAT(syscall(SYS_poll, Bad(), 2, 0), SyscallFailsWithErrno(EFAULT));
  timeval zero = {};
  EXPECT_THAT(syscall(SYS_select, 64, Bad(), nullptr, nullptr, &zero),
              SyscallFailsWithErrno(EFAULT));
  FdCloser epoll(epoll_create1(0));
  Pipe pipe;
  EXPECT_THAT(syscall(SYS_epoll_ctl, int{epoll}, EPOLL_CTL_ADD, int{pipe.reader}, Bad()),
              SyscallFailsWithErrno(EFAULT));
  epoll_event event = {};
  event.events = EPOLLOUT;
  ASSERT_THAT(epoll_ctl(epoll, EPOLL_CTL_ADD, pipe.writer, &event), SyscallSucceeds());
  EXPECT_THAT(syscall(SYS_epoll_wait, int{epoll}, Bad(), 1, 0), SyscallFailsWithErrno(EFAULT));
}

TEST_P(BadAddressTest, WaitStatus) {
  Child child([] {});
  ASSERT_TRUE(WaitUntil([&] { return ProcessState(child.pid()) == 'Z'; }));
  EXPECT_THAT(syscall(SYS_wait4, child.pid(), Bad(), 0, nullptr), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(waitpid(child.pid(), nullptr, 0), SyscallFailsWithErrno(ECHILD));  // Reaped anyway.
  child.Reaped();
}

TEST(ReadOnlyPageTest, ResultsIntoItAreEfault) {
  Mapping page(kPage, PROT_READ);
  EXPECT_THAT(syscall(SYS_uname, page.get()), SyscallFailsWithErrno(EFAULT));
  FdCloser zero(open("/dev/zero", O_RDONLY));
  EXPECT_THAT(syscall(SYS_read, int{zero}, page.get(), 10), SyscallFailsWithErrno(EFAULT));
  EXPECT_EQ(page[0], 0);
}

TEST(ExactFitTest, StructureAtTheEndOfAPageWorks) {
  GuardedPage page;
  EXPECT_THAT(syscall(SYS_uname, page.At(sizeof(utsname))), SyscallSucceeds());
  EXPECT_THAT(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, page.At(sizeof(timespec))),
              SyscallSucceeds());
  char* path = page.At(5);
  memcpy(path, "/tmp", 5);
  EXPECT_THAT(access(path, F_OK), SyscallSucceeds());
}

TEST(ExactFitTest, MisalignedStructureWorks) {
  char buffer[sizeof(timespec) + 1];
  EXPECT_THAT(syscall(SYS_clock_gettime, CLOCK_REALTIME, buffer + 1), SyscallSucceeds());
  Mapping two(2 * kPage);
  EXPECT_THAT(syscall(SYS_uname, two.get() + kPage - 100), SyscallSucceeds());
}

TEST(HugeSizeTest, IsRefused) {
  char byte = 0;
  Pipe pipe(O_NONBLOCK);
  EXPECT_THAT(syscall(SYS_read, int{pipe.reader}, &byte, 1UL << 62), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_poll, nullptr, 0x7fffffff, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_setgroups, 1 << 20, &byte), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_sethostname, &byte, -1), SyscallFailsWithErrno(EINVAL));
  epoll_event event;
  FdCloser epoll(epoll_create1(0));
  EXPECT_THAT(syscall(SYS_epoll_wait, int{epoll}, &event, 0x7fffffff, 0),
              SyscallFailsWithErrno(EINVAL));
}

TEST(HugeSizeTest, VectorsThatAddUpTooFarAreCut) {
  FdCloser null(open("/dev/null", O_WRONLY));
  Mapping memory(kPage);
  iovec iov[2] = {{memory.get(), 0x7fffffff}, {memory.get(), 0x7fffffff}};
  EXPECT_THAT(writev(null, iov, 2), SyscallSucceedsWithValue(0x7ffff000L));
}

TEST(HugeSizeTest, DescriptorNumbersOfAnySizeAreBad) {
  struct stat st;
  for (long fd : {-1L, -100L, 0x7fffffffL, 0x80000000L}) {
    EXPECT_THAT(syscall(SYS_close, fd), SyscallFailsWithErrno(EBADF)) << fd;
    EXPECT_THAT(syscall(SYS_fstat, fd, &st), SyscallFailsWithErrno(EBADF)) << fd;
  }
}

TEST(HugeSizeTest, UpperHalfOfADescriptorIsIgnored) {
  FdCloser fd(open("/dev/null", O_RDONLY));
  EXPECT_THAT(syscall(SYS_fcntl, (5UL << 32) | static_cast<unsigned>(int{fd}), F_GETFD),
              SyscallSucceeds());
}

}  // namespace
}  // namespace caisson::test
