// What a hostile guest makes too many of: descriptors, files, names, locks, watches, mounts, messages.
// Each ends in the errno of Linux, the sandbox goes on, and what was made goes away. Run in 1 GiB.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

double Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void SetLimit(int what, rlim_t value) {
  rlimit limit{value, value};
  ASSERT_THAT(setrlimit(static_cast<__rlimit_resource>(what), &limit), SyscallSucceeds());
}

int SendFile(int socket, int file) {
  char byte = 'x';
  iovec iov{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &file, sizeof(int));
  return static_cast<int>(sendmsg(socket, &message, MSG_DONTWAIT));
}

// A chain of sockets, each in a message to the next one. Returns how many.
int MakeChain(int length) {
  int last[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM, 0, last) != 0) return -1;
  int made = 0;
  for (; made < length; ++made) {
    int next[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, next) != 0) return -1;
    bool sent = SendFile(next[0], last[1]) == 1;
    int error = errno;
    close(last[0]);
    close(last[1]);
    last[0] = next[0];
    last[1] = next[1];
    if (!sent) {
      errno = error;
      break;
    }
  }
  close(last[0]);
  close(last[1]);
  return made;
}

TEST(FileBombs, AChainOfSocketsInFlightEndsAtRlimitNofile) {
  EXPECT_THAT(InChild([] {
    SetLimit(RLIMIT_NOFILE, 500);
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    int made = MakeChain(5000);
    EXPECT_EQ(errno, ETOOMANYREFS);
    EXPECT_LE(made, 502);
  }), ExitsWith(0));
}

TEST(FileBombs, AChainOfAHundredThousandSocketsEndsSoon) {
  const double start = Now();
  EXPECT_THAT(InChild([] { EXPECT_EQ(MakeChain(100'000), 100'000); }), ExitsWith(0));
  printf("chain: %.1f s\n", Now() - start);
  EXPECT_LT(Now() - start, 60);
}

TEST(FileBombs, CyclesOfSocketsInFlightAreCollected) {
  EXPECT_THAT(InChild([] {
    for (int i = 0; i < 20'000; ++i) {
      int s[2];
      ASSERT_THAT(socketpair(AF_UNIX, SOCK_STREAM, 0, s), SyscallSucceeds());
      ASSERT_EQ(SendFile(s[0], s[1]), 1);
      ASSERT_EQ(SendFile(s[1], s[0]), 1);
      close(s[0]);
      close(s[1]);
    }
  }), ExitsWith(0));
}

TEST(FileBombs, DescriptorsEndAtRlimitNofile) {
  EXPECT_THAT(InChild([] {
    int made = 0;
    while (made < 10'000 && eventfd(0, 0) >= 0) ++made;
    EXPECT_EQ(errno, EMFILE);
    EXPECT_LT(made, 1024);
  }), ExitsWith(0));
}

TEST(FileBombs, InodesOfATmpfsEndAtItsLimit) {
  TempDir dir;
  ASSERT_THAT(mount("bomb", dir.path().c_str(), "tmpfs", 0, "nr_inodes=2000,size=16m"), SyscallSucceeds());
  int made = 0, fd = 0;
  for (; made < 5000; ++made) {
    fd = open((dir.path() + "/" + std::to_string(made)).c_str(), O_CREAT | O_WRONLY, 0600);
    if (fd < 0) break;
    close(fd);
  }
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(made, 1999);
  EXPECT_THAT(umount(dir.path().c_str()), SyscallSucceeds());
}

TEST(FileBombs, BytesOfATmpfsEndAtItsSizeXattrsIncluded) {
  TempDir dir;
  ASSERT_THAT(mount("bomb", dir.path().c_str(), "tmpfs", 0, "size=1m"), SyscallSucceeds());
  std::string file = dir.path() + "/f", value(60'000, 'v');
  ASSERT_THAT(close(open(file.c_str(), O_CREAT | O_WRONLY, 0600)), SyscallSucceeds());
  int made = 0;
  for (; made < 1000; ++made)
    if (setxattr(file.c_str(), ("trusted.x" + std::to_string(made)).c_str(), value.data(), value.size(), 0) != 0) break;
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_LT(made, 20);
  EXPECT_THAT(umount(dir.path().c_str()), SyscallSucceeds());
}

TEST(FileBombs, NamesThatDoNotExistAreForgotten) {
  TempDir dir;
  struct stat st;
  std::string prefix = dir.path() + "/" + std::string(200, 'n');
  for (int i = 0; i < 100'000; ++i)
    if (stat((prefix + std::to_string(i)).c_str(), &st) != -1) FAIL();
}

TEST(FileBombs, DirectoriesDeeperThanAnyStackAreMadeAndLeft) {
  EXPECT_THAT(InChild([] {
    TempDir dir;
    ASSERT_THAT(mount("bomb", dir.path().c_str(), "tmpfs", 0, nullptr), SyscallSucceeds());
    ASSERT_THAT(chdir(dir.path().c_str()), SyscallSucceeds());
    for (int i = 0; i < 30'000; ++i) {
      ASSERT_THAT(mkdir("d", 0700), SyscallSucceeds());
      ASSERT_THAT(chdir("d"), SyscallSucceeds());
    }
    char name[64];
    EXPECT_THAT(syscall(SYS_getcwd, name, sizeof(name)), SyscallFailsWithErrno(ENAMETOOLONG));
    ASSERT_THAT(chdir("/"), SyscallSucceeds());
    EXPECT_THAT(umount2(dir.path().c_str(), MNT_DETACH), SyscallSucceeds());
  }), ExitsWith(0));
}

TEST(FileBombs, RecordLocksManyAndScattered) {
  TempDir dir;
  int fd = open((dir.path() + "/f").c_str(), O_CREAT | O_RDWR, 0600);
  for (int kind : {F_SETLK, 37 /* F_OFD_SETLK */}) {
    for (int i = 0; i < 10'000; ++i) {
      struct flock lock{};
      lock.l_type = i % 2 != 0 ? F_RDLCK : F_WRLCK;
      lock.l_start = i * 2;
      lock.l_len = 1;
      ASSERT_THAT(fcntl(fd, kind, &lock), SyscallSucceeds());
    }
    struct flock all{};
    all.l_type = F_UNLCK;
    ASSERT_THAT(fcntl(fd, kind, &all), SyscallSucceeds());
  }
  std::vector<int> fds;
  for (int i = 0; i < 500; ++i) {
    int other = open((dir.path() + "/f").c_str(), O_RDONLY);
    ASSERT_THAT(flock(other, LOCK_SH), SyscallSucceeds());
    fds.push_back(other);
  }
  for (int other : fds) close(other);
  close(fd);
}

TEST(FileBombs, ArgumentsEndInE2big) {
  EXPECT_THAT(InChild([] {
    std::string big(131'072, 'a');
    char* one[] = {const_cast<char*>("x"), big.data(), nullptr};
    char* none[] = {nullptr};
    EXPECT_THAT(execve(SelfPath().c_str(), one, none), SyscallFailsWithErrno(E2BIG));
    big.resize(100'000);
    std::vector<char*> many(400, big.data());
    many.push_back(nullptr);
    EXPECT_THAT(execve(SelfPath().c_str(), many.data(), none), SyscallFailsWithErrno(E2BIG));
    EXPECT_THAT(execve(SelfPath().c_str(), none, many.data()), SyscallFailsWithErrno(E2BIG));
    std::vector<char*> empty(3'000'000, const_cast<char*>(""));
    empty.push_back(nullptr);
    EXPECT_THAT(execve(SelfPath().c_str(), empty.data(), none), SyscallFailsWithErrno(E2BIG));
    // An array without an end, in memory that ends.
    EXPECT_THAT(execve(SelfPath().c_str(), empty.data() + 10, empty.data()), SyscallFailsWithErrno(E2BIG));
  }), ExitsWith(0));
}

TEST(FileBombs, MountsEndAtMountMax) {
  EXPECT_THAT(InChild([] {
    ASSERT_THAT(unshare(CLONE_NEWNS), SyscallSucceeds());
    TempDir dir;
    ASSERT_THAT(mount("bomb", dir.path().c_str(), "tmpfs", 0, nullptr), SyscallSucceeds());
    ASSERT_THAT(mount(nullptr, dir.path().c_str(), nullptr, MS_SHARED, nullptr), SyscallSucceeds());
    // Every bind of the whole into itself doubles it, by propagation.
    int error = 0;
    for (int i = 0; i < 40 && error == 0; ++i) {
      std::string at = dir.path() + "/" + std::to_string(i);
      mkdir(at.c_str(), 0700);
      if (mount(dir.path().c_str(), at.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) error = errno;
    }
    EXPECT_EQ(error, ENOSPC);
    EXPECT_THAT(umount2(dir.path().c_str(), MNT_DETACH), SyscallSucceeds());
  }), ExitsWith(0));
}

TEST(FileBombs, MountsOnTopOfEachOther) {
  EXPECT_THAT(InChild([] {
    ASSERT_THAT(unshare(CLONE_NEWNS), SyscallSucceeds());
    ASSERT_THAT(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), SyscallSucceeds());
    TempDir dir;
    for (int i = 0; i < 5'000; ++i)
      ASSERT_THAT(mount("bomb", dir.path().c_str(), "tmpfs", 0, nullptr), SyscallSucceeds());
    for (int i = 0; i < 5'000; ++i)
      ASSERT_THAT(umount2(dir.path().c_str(), MNT_DETACH), SyscallSucceeds());
  }), ExitsWith(0));
}

TEST(FileBombs, InotifyInstancesAndWatchesEnd) {
  EXPECT_THAT(InChild([] {
    SetLimit(RLIMIT_NOFILE, 4096);
    int made = 0;
    while (made < 2000 && inotify_init() >= 0) ++made;
    EXPECT_EQ(errno, EMFILE);
    EXPECT_LE(made, 128);
  }), ExitsWith(0));
}

TEST(FileBombs, AnInotifyQueueOverflowsOnce) {
  TempDir dir;
  int fd = inotify_init1(IN_NONBLOCK);
  ASSERT_GE(inotify_add_watch(fd, dir.path().c_str(), IN_ALL_EVENTS), 0);
  for (int i = 0; i < 20'000; ++i) {
    std::string name = dir.path() + "/" + std::to_string(i % 2);
    close(open(name.c_str(), O_CREAT | O_WRONLY, 0600));
  }
  std::vector<char> buffer(65536);
  uint64_t events = 0, overflows = 0;
  for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) > 0;)
    for (ssize_t at = 0; at < n;) {
      auto* event = reinterpret_cast<inotify_event*>(&buffer[at]);
      ++events;
      overflows += (event->mask & IN_Q_OVERFLOW) != 0;
      at += static_cast<ssize_t>(sizeof(*event) + event->len);
    }
  EXPECT_EQ(overflows, 1u);
  EXPECT_LE(events, 16'385u);
  close(fd);
}

TEST(FileBombs, EpollInstancesInEachOther) {
  std::vector<int> fds;
  int error = 0;
  fds.push_back(epoll_create1(0));
  for (int i = 0; i < 20 && error == 0; ++i) {
    int outer = epoll_create1(0);
    epoll_event event{EPOLLIN, {}};
    if (epoll_ctl(outer, EPOLL_CTL_ADD, fds.back(), &event) != 0) error = errno;
    fds.push_back(outer);
  }
  EXPECT_THAT(error, ::testing::AnyOf(EINVAL, ELOOP));
  epoll_event event{EPOLLIN, {}};
  EXPECT_THAT(epoll_ctl(fds[0], EPOLL_CTL_ADD, fds[1], &event), SyscallFailsWithErrno(ELOOP));
  for (int fd : fds) close(fd);
}

TEST(FileBombs, PipesOfAUserEndAtTheirPages) {
  EXPECT_THAT(InChild([] {
    SetLimit(RLIMIT_NOFILE, 4096);
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    int p[2];
    ASSERT_THAT(pipe(p), SyscallSucceeds());
    EXPECT_THAT(fcntl(p[1], F_SETPIPE_SZ, 2 << 20), SyscallFailsWithErrno(EPERM));
    int grown = 0;
    for (; grown < 200; ++grown) {
      ASSERT_THAT(pipe(p), SyscallSucceeds());
      if (fcntl(p[1], F_SETPIPE_SZ, 1 << 20) < 0) break;
    }
    EXPECT_EQ(errno, EPERM);
    EXPECT_LE(grown, 64);
    // New ones still come, but small.
    int small = 0;
    for (int i = 0; i < 100 && small == 0; ++i) {
      ASSERT_THAT(pipe(p), SyscallSucceeds());
      if (fcntl(p[1], F_GETPIPE_SZ) <= 8192) small = 1;
    }
    EXPECT_EQ(small, 1);
  }), ExitsWith(0));
}

TEST(FileBombs, SystemVObjectsEnd) {
  EXPECT_THAT(InChild([] {
    ASSERT_THAT(unshare(CLONE_NEWIPC), SyscallSucceeds());
    int made = 0;
    while (made < 50'000 && shmget(IPC_PRIVATE, 4096, 0600) >= 0) ++made;
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_EQ(made, 4096);
    EXPECT_THAT(shmget(IPC_PRIVATE, size_t{1} << 60, 0600), SyscallFailsWithErrno(ENOSPC));
    made = 0;
    while (made < 50'000 && msgget(IPC_PRIVATE, 0600) >= 0) ++made;
    EXPECT_EQ(errno, ENOSPC);
    made = 0;
    while (made < 50'000 && semget(IPC_PRIVATE, 32'000, 0600) >= 0) ++made;
    EXPECT_THAT(errno, ::testing::AnyOf(ENOSPC, ENOMEM));
  }), ExitsWith(0));
}

TEST(FileBombs, MappingsEndAtMaxMapCount) {
  EXPECT_THAT(InChild([] {
    const size_t n = 140'000;
    char* p = static_cast<char*>(mmap(nullptr, n * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ASSERT_NE(p, MAP_FAILED);
    int error = 0;
    for (size_t i = 0; i < n && error == 0; i += 2)
      if (mprotect(p + i * 4096, 4096, PROT_READ) != 0) error = errno;
    EXPECT_EQ(error, ENOMEM);
    EXPECT_THAT(munmap(p, n * 4096), SyscallSucceeds());
  }), ExitsWith(0));
}

TEST(FileBombs, HugeCountsAreRefusedBeforeTheyCost) {
  iovec huge[2] = {{nullptr, 1}, {nullptr, ~size_t{0}}};
  int fd = open("/dev/zero", O_RDWR);
  EXPECT_THAT(readv(fd, huge, 2), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_readv, fd, huge, 1025), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_poll, nullptr, 1u << 30, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_setgroups, 65537, nullptr), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_read, fd, nullptr, ~0ul), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_read, fd, nullptr, ~0ul >> 1), SyscallFailsWithErrno(EFAULT));
  close(fd);
}

}  // namespace
}  // namespace caisson::test
