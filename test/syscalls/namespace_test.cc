// setns(2), namespaces(7), time_namespaces(7); membarrier(2).
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>

#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

namespace caisson::test {
namespace {

std::string NsOf(const std::string& who, const std::string& kind) {
  char text[64] = {};
  ssize_t n = readlink(("/proc/" + who + "/ns/" + kind).c_str(), text, sizeof(text) - 1);
  return n > 0 ? std::string(text, static_cast<size_t>(n)) : "";
}

// A child in new namespaces of these kinds, until the object goes.
class Holder {
 public:
  explicit Holder(int kinds) : child_([this, kinds] {
    char go = unshare(kinds) == 0 ? 'y' : 'n';
    (void)!write(pipe_.fds[1], &go, 1);
    for (;;) pause();
  }) {
    char answer = 0;
    (void)!read(pipe_.fds[0], &answer, 1);
    good_ = answer == 'y';
  }
  bool good() const { return good_; }
  pid_t pid() const { return child_.pid(); }
  std::string name() const { return std::to_string(child_.pid()); }

 private:
  struct Pipe {
    Pipe() { (void)!pipe(fds); }
    ~Pipe() { close(fds[0]); close(fds[1]); }
    int fds[2];
  } pipe_;
  Child child_;
  bool good_ = false;
};

TEST(SetnsTest, EntersANamespaceByItsFile) {
  Holder holder(CLONE_NEWUTS);
  ASSERT_TRUE(holder.good());
  EXPECT_THAT(InChild([&] {
    int fd = open(("/proc/" + holder.name() + "/ns/uts").c_str(), O_RDONLY);
    ASSERT_THAT(fd, SyscallSucceeds());
    EXPECT_THAT(setns(fd, CLONE_NEWIPC), SyscallFailsWithErrno(EINVAL));
    EXPECT_THAT(setns(fd, CLONE_NEWUTS), SyscallSucceeds());
    EXPECT_EQ(NsOf("self", "uts"), NsOf(holder.name(), "uts"));
  }), ExitsWith(0));
  EXPECT_NE(NsOf("self", "uts"), NsOf(holder.name(), "uts"));
}

TEST(SetnsTest, EntersSeveralByAPidfd) {
  Holder holder(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP);
  ASSERT_TRUE(holder.good());
  EXPECT_THAT(InChild([&] {
    int fd = static_cast<int>(syscall(SYS_pidfd_open, holder.pid(), 0));
    ASSERT_THAT(fd, SyscallSucceeds());
    EXPECT_THAT(setns(fd, 0), SyscallFailsWithErrno(EINVAL));
    EXPECT_THAT(setns(fd, CLONE_NEWUTS | CLONE_VM), SyscallFailsWithErrno(EINVAL));
    EXPECT_THAT(setns(fd, CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP), SyscallSucceeds());
    for (const char* kind : {"uts", "ipc", "net", "cgroup"})
      EXPECT_EQ(NsOf("self", kind), NsOf(holder.name(), kind)) << kind;
  }), ExitsWith(0));
}

TEST(SetnsTest, AMountNamespaceBringsItsRoot) {
  Holder holder(CLONE_NEWNS);
  ASSERT_TRUE(holder.good());
  EXPECT_THAT(InChild([&] {
    int fd = open(("/proc/" + holder.name() + "/ns/mnt").c_str(), O_RDONLY);
    ASSERT_THAT(chdir("/tmp"), SyscallSucceeds());
    EXPECT_THAT(setns(fd, CLONE_NEWNS), SyscallSucceeds());
    char cwd[100];
    EXPECT_STREQ(getcwd(cwd, sizeof(cwd)), "/");
    EXPECT_EQ(NsOf("self", "mnt"), NsOf(holder.name(), "mnt"));
  }), ExitsWith(0));
}

TEST(SetnsTest, APidNamespaceIsForChildren) {
  EXPECT_THAT(InChild([] {
    int own = open("/proc/self/ns/pid", O_RDONLY);
    ASSERT_THAT(unshare(CLONE_NEWPID), SyscallSucceeds());
    EXPECT_NE(NsOf("self", "pid"), NsOf("self", "pid_for_children"));
    EXPECT_THAT(setns(own, CLONE_NEWPID), SyscallSucceeds());
    EXPECT_EQ(NsOf("self", "pid"), NsOf("self", "pid_for_children"));
    pid_t pid = fork();
    if (pid == 0) _exit(getpid() == 1 ? 1 : 0);
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }), ExitsWith(0));
}

TEST(SetnsTest, NeedsPrivilegeInBothNamespaces) {
  Holder holder(CLONE_NEWUTS);
  ASSERT_TRUE(holder.good());
  int fd = open(("/proc/" + holder.name() + "/ns/uts").c_str(), O_RDONLY);
  EXPECT_THAT(InChild([&] {
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    EXPECT_THAT(setns(fd, 0), SyscallFailsWithErrno(EPERM));
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_THAT(setns(fd, 0), SyscallFailsWithErrno(EPERM));
  }), ExitsWith(0));
  close(fd);
}

TEST(SetnsTest, OwnUserNamespaceAndOtherFilesAreInvalid) {
  int fd = open("/proc/self/ns/user", O_RDONLY);
  EXPECT_THAT(setns(fd, 0), SyscallFailsWithErrno(EINVAL));
  close(fd);
  EXPECT_THAT(setns(0, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(setns(-1, 0), SyscallFailsWithErrno(EBADF));
}

TEST(SetnsTest, AUserNamespaceGivesItsCapabilities) {
  Holder holder(CLONE_NEWUSER);
  ASSERT_TRUE(holder.good());
  EXPECT_THAT(InChild([&] {
    int fd = open(("/proc/" + holder.name() + "/ns/user").c_str(), O_RDONLY);
    ASSERT_THAT(fd, SyscallSucceeds());
    EXPECT_THAT(setns(fd, CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_EQ(NsOf("self", "user"), NsOf(holder.name(), "user"));
    EXPECT_THAT(sethostname("x", 1), SyscallFailsWithErrno(EPERM));  // The old one's.
  }), ExitsWith(0));
}

// A user namespace of one's own gives every capability in it, and none outside.
TEST(UserNamespaceTest, GivesNothingOverWhatIsShared) {
  char name[] = "/tmp/caisson-userns-XXXXXX";
  int fd = mkstemp(name);
  ASSERT_THAT(fd, SyscallSucceeds());
  ASSERT_THAT(fchown(fd, 1000, 1000), SyscallSucceeds());
  Child other([] { for (;;) pause(); });  // Root's.
  EXPECT_THAT(InChild([&] {
    rlimit limit{100, 200};
    ASSERT_THAT(setrlimit(RLIMIT_NOFILE, &limit), SyscallSucceeds());
    ASSERT_THAT(setresgid(1000, 1000, 1000), SyscallSucceeds());
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // Or our files in /proc would be root's.
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << "0 1000 1";
    EXPECT_EQ(geteuid(), 0u);
    EXPECT_THAT(mount("none", "/tmp", "tmpfs", 0, nullptr), SyscallFailsWithErrno(EPERM));
    EXPECT_THAT(mount("/tmp", "/tmp", nullptr, MS_BIND, nullptr), SyscallFailsWithErrno(EPERM));
    EXPECT_THAT(umount2("/proc", MNT_DETACH), SyscallFailsWithErrno(EPERM));
    limit = {100, 300};
    EXPECT_THAT(setrlimit(RLIMIT_NOFILE, &limit), SyscallFailsWithErrno(EPERM));
    EXPECT_THAT(sethostname("x", 1), SyscallFailsWithErrno(EPERM));
    EXPECT_THAT(setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) - 1), SyscallFailsWithErrno(EACCES));
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof(cpus), &cpus);
    EXPECT_THAT(sched_setaffinity(other.pid(), sizeof(cpus), &cpus), SyscallFailsWithErrno(EPERM));
    EXPECT_THAT(setxattr(name, "security.other", "x", 1, 0), SyscallFailsWithEither(EPERM, EOPNOTSUPP));
    EXPECT_THAT(open("/etc/shadow-of-nobody", O_CREAT | O_WRONLY, 0600), SyscallFailsWithEither(EACCES, ENOENT));
  }), ExitsWith(0));
  // Capabilities on a file: none that hold outside.
  EXPECT_THAT(InChild([&] {
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    EXPECT_THAT(InChild([&] {
      ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
      uint32_t caps[5] = {0x02000001, ~0u, 0, 0x1ff, 0};
      (void)setxattr(name, "security.capability", caps, sizeof(caps), 0);
    }), ExitsWith(0));
    uint32_t caps[8] = {};
    ssize_t n = getxattr(name, "security.capability", caps, sizeof(caps));
    EXPECT_TRUE(n < 0 || n == 24);  // Absent, or of that namespace.
  }), ExitsWith(0));
  close(fd);
  unlink(name);
}

int64_t Clock(clockid_t id) {
  timespec t;
  syscall(SYS_clock_gettime, id, &t);
  return t.tv_sec;
}

TEST(TimeNamespaceTest, OffsetsHoldForChildren) {
  EXPECT_THAT(InChild([] {
    ASSERT_THAT(unshare(CLONE_NEWTIME), SyscallSucceeds());
    std::ofstream("/proc/self/timens_offsets") << "monotonic 100000 0\nboottime 200000 0\n";
    const int64_t monotonic = Clock(CLOCK_MONOTONIC), boottime = Clock(CLOCK_BOOTTIME);
    pid_t pid = fork();
    if (pid == 0) {
      const int64_t m = Clock(CLOCK_MONOTONIC) - monotonic, b = Clock(CLOCK_BOOTTIME) - boottime;
      double up = 0;
      std::ifstream("/proc/uptime") >> up;
      // An absolute sleep until a time that has passed here.
      timespec until{static_cast<time_t>(monotonic + 50000), 0};
      const bool slept = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == 0;
      _exit(m >= 100000 && m < 100100 && b >= 200000 && b < 200100 && up >= 200000 && slept ? 0 : 1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
    // A process has entered it.
    std::ofstream late("/proc/self/timens_offsets");
    late << "monotonic 1 0\n" << std::flush;
    EXPECT_FALSE(late.good());
  }), ExitsWith(0));
}

TEST(TimeNamespaceTest, OffsetsAreChecked) {
  EXPECT_THAT(InChild([] {
    ASSERT_THAT(unshare(CLONE_NEWTIME), SyscallSucceeds());
    EXPECT_NE(NsOf("self", "time"), NsOf("self", "time_for_children"));
    int fd = open("/proc/self/timens_offsets", O_RDWR);
    ASSERT_THAT(fd, SyscallSucceeds());
    auto write_text = [&](const char* text) {
      int out = open("/proc/self/timens_offsets", O_WRONLY);
      ssize_t n = write(out, text, strlen(text));
      int error = errno;
      close(out);
      errno = error;
      return n;
    };
    EXPECT_THAT(write_text("monotonic 1 1000000000\n"), SyscallFailsWithErrno(EINVAL));
    EXPECT_THAT(write_text("realtime 1 0\n"), SyscallFailsWithErrno(EINVAL));
    EXPECT_THAT(write_text("monotonic -99999999999 0\n"), SyscallFailsWithErrno(ERANGE));
    EXPECT_THAT(write_text("monotonic 5 7\n"), SyscallSucceeds());
    char text[200] = {};
    EXPECT_GT(read(fd, text, sizeof(text) - 1), 0);
    EXPECT_EQ(std::string(text), "monotonic           5         7\nboottime            0         0\n");
  }), ExitsWith(0));
}

int Membarrier(int command) { return static_cast<int>(syscall(SYS_membarrier, command, 0, 0)); }

TEST(MembarrierTest, PrivateExpeditedNeedsRegistration) {
  EXPECT_THAT(InChild([] {
    EXPECT_NE(Membarrier(MEMBARRIER_CMD_QUERY) & MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0);
    EXPECT_THAT(Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED), SyscallFailsWithErrno(EPERM));
    EXPECT_THAT(Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED), SyscallSucceeds());
    EXPECT_THAT(Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED), SyscallSucceeds());
    EXPECT_THAT(Membarrier(1 << 20), SyscallFailsWithErrno(EINVAL));
  }), ExitsWith(0));
}

// Dekker with the fences of one side replaced: without barriers both would read 0 now and then.
TEST(MembarrierTest, OrdersARunningThread) {
  EXPECT_THAT(InChild([] {
    ASSERT_THAT(Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED), SyscallSucceeds());
    static std::atomic<int> x, y, round, seen, done;
    std::thread fast([] {
      for (int r = 1; r <= 300; ++r) {
        while (round.load(std::memory_order_acquire) != r) {
        }
        x.store(1, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        seen.store(y.load(std::memory_order_relaxed), std::memory_order_relaxed);
        done.store(r, std::memory_order_release);
      }
    });
    for (int r = 1; r <= 300; ++r) {
      x = y = 0;
      round.store(r, std::memory_order_release);
      y.store(1, std::memory_order_relaxed);
      EXPECT_THAT(Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED), SyscallSucceeds());
      int mine = x.load(std::memory_order_relaxed);
      while (done.load(std::memory_order_acquire) != r) {
      }
      EXPECT_TRUE(mine == 1 || seen.load() == 1);
    }
    fast.join();
  }), ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
