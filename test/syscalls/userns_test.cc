// user_namespaces(7): /proc/PID/uid_map, gid_map, projid_map, setgroups; what ids are called elsewhere.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"
#include "test/util/unix_socket_util.h"

namespace caisson::test {
namespace {

void BecomeUser(uid_t uid) {
  ASSERT_THAT(syscall(SYS_setgroups, 0, nullptr), SyscallSucceeds());
  ASSERT_THAT(setresgid(uid, uid, uid), SyscallSucceeds());
  ASSERT_THAT(setresuid(uid, uid, uid), SyscallSucceeds());
  prctl(PR_SET_DUMPABLE, 1);  // Or our files in /proc would be root's.
}
void DropEffective(int cap) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  ASSERT_THAT(syscall(SYS_capget, &header, data), SyscallSucceeds());
  data[cap / 32].effective &= ~(1u << (cap % 32));
  ASSERT_THAT(syscall(SYS_capset, &header, data), SyscallSucceeds());
}

// 0, or the errno.
int WriteText(int fd, const std::string& text) {
  if (lseek(fd, 0, SEEK_SET) != 0) return errno;
  return write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : errno;
}
int WriteText(const std::string& path, const std::string& text) {
  FdCloser fd(open(path.c_str(), O_WRONLY));
  return fd < 0 ? errno : WriteText(fd, text);
}
std::string Line(unsigned first, unsigned lower, unsigned count) {
  char text[64];
  snprintf(text, sizeof(text), "%10u %10u %10u\n", first, lower, count);
  return text;
}

// A process in a user namespace that `uid` has made in ours; it does nothing, or what it is told to.
class Inner {
 public:
  explicit Inner(uid_t uid, const std::function<void()>& body = [] { pause(); }) : child_([this, uid, body] {
    if (uid != 0) BecomeUser(uid);
    const char good = unshare(CLONE_NEWUSER) == 0 ? 'y' : 'n';
    (void)!write(ready_.writer, &good, 1);
    char go;
    (void)!read(go_.reader, &go, 1);
    body();
  }) {
    EXPECT_EQ(ReadOnce(ready_.reader, 1), "y");
  }
  void Go() { (void)!write(go_.writer, "x", 1); }
  int Wait() {
    Go();
    return child_.Wait();
  }
  pid_t pid() const { return child_.pid(); }
  std::string File(const char* name) const { return "/proc/" + std::to_string(pid()) + "/" + name; }

 private:
  Pipe ready_, go_;
  Child child_;
};

constexpr const char* kMaps[] = {"uid_map", "gid_map", "projid_map"};

TEST(IdMapTest, TheInitialNamespaceHasAllIds) {
  for (const char* map : kMaps) {
    const std::string path = std::string("/proc/self/") + map;
    EXPECT_EQ(ReadFile(path), Line(0, 0, ~0u)) << map;
    EXPECT_EQ(WriteText(path, "0 0 1"), EPERM) << map;
  }
  EXPECT_EQ(ReadFile("/proc/self/setgroups"), "allow\n");
}

TEST(IdMapTest, ShowsItsReadersOuterIds) {
  Inner inner(1000, [] {
    for (const char* map : kMaps) EXPECT_EQ(ReadFile(std::string("/proc/self/") + map), Line(5, 1000, 10)) << map;
    // Its id 0 has no name here.
    EXPECT_EQ(ReadFile("/proc/" + std::to_string(getppid()) + "/uid_map"), Line(0, ~0u, ~0u));
    // One further down.
    Child deeper([] {
      ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
      for (;;) pause();
    });
    const std::string path = "/proc/" + std::to_string(deeper.pid()) + "/uid_map";
    ASSERT_TRUE(WaitUntil([&] { return ReadFile(path).empty(); }));
    ASSERT_EQ(WriteText(path, "7 6 3"), 0);
    EXPECT_EQ(ReadFile(path), Line(7, 6, 3));
  });
  for (const char* map : kMaps) {
    EXPECT_EQ(ReadFile(inner.File(map)), "") << map;
    ASSERT_EQ(WriteText(inner.File(map), "5 1000 10"), 0) << map;
    EXPECT_EQ(ReadFile(inner.File(map)), Line(5, 1000, 10)) << map;
    EXPECT_EQ(WriteText(inner.File(map), "5 1000 10"), EPERM) << map;
  }
  EXPECT_THAT(inner.Wait(), ExitsWith(0));
}

// Grandparent, sibling and the namespace itself see the same map, each with its own names.
TEST(IdMapTest, EachNamespaceHasItsOwnView) {
  Inner middle(1000, [] {
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    pause();
  });
  ASSERT_EQ(WriteText(middle.File("uid_map"), "0 1000 10"), 0);
  ASSERT_EQ(WriteText(middle.File("gid_map"), "0 1000 10"), 0);
  const int in_middle = open(middle.File("ns/user").c_str(), O_RDONLY);
  middle.Go();
  ASSERT_TRUE(WaitUntil([&] { return ReadFile(middle.File("uid_map")).empty(); }));
  // From the middle, of which its maker is the owner.
  EXPECT_THAT(InChild([&] {
    ASSERT_THAT(setns(in_middle, CLONE_NEWUSER), SyscallSucceeds());
    ASSERT_THAT(setresgid(0, 0, 0), SyscallSucceeds());
    ASSERT_THAT(setresuid(0, 0, 0), SyscallSucceeds());
    ASSERT_EQ(WriteText(middle.File("uid_map"), "20 3 4"), 0);
    EXPECT_EQ(ReadFile(middle.File("uid_map")), Line(20, 3, 4));
  }), ExitsWith(0));
  EXPECT_EQ(ReadFile(middle.File("uid_map")), Line(20, 1003, 4));
  EXPECT_THAT(InChild([&] {
    const int inner = open(middle.File("ns/user").c_str(), O_RDONLY);
    ASSERT_THAT(setns(inner, CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_EQ(ReadFile(middle.File("uid_map")), Line(20, 3, 4));
  }), ExitsWith(0));
  Inner sibling(2000, [&] {
    EXPECT_EQ(ReadFile(middle.File("uid_map")), Line(20, 33, 4));
    EXPECT_EQ(ReadFile(middle.File("gid_map")), "");
  });
  ASSERT_EQ(WriteText(sibling.File("uid_map"), "30 1000 5"), 0);
  EXPECT_THAT(sibling.Wait(), ExitsWith(0));
}

// Who has opened it decides, and about the namespace of that time.
TEST(IdMapTest, TheOpenFileKeepsItsOpenersView) {
  Inner inner(1000);
  ASSERT_EQ(WriteText(inner.File("uid_map"), "5 1000 1"), 0);
  EXPECT_THAT(InChild([&] {
    const int other = open(inner.File("uid_map").c_str(), O_RDONLY);
    const int own = open("/proc/self/uid_map", O_RDWR), status = open("/proc/self/status", O_RDONLY);
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    char text[4096] = {};
    EXPECT_GT(pread(own, text, sizeof(text) - 1, 0), 0);
    EXPECT_EQ(std::string(text), Line(0, 0, ~0u));
    EXPECT_EQ(WriteText(own, "0 0 1"), EPERM);
    memset(text, 0, sizeof(text));
    EXPECT_GT(pread(other, text, sizeof(text) - 1, 0), 0);
    EXPECT_EQ(std::string(text), Line(5, 1000, 1));
    EXPECT_EQ(ReadFile(inner.File("uid_map")), Line(5, ~0u, 1));
    memset(text, 0, sizeof(text));
    EXPECT_GT(pread(status, text, sizeof(text) - 1, 0), 0);
    EXPECT_NE(std::string(text).find("\nUid:\t0\t0\t0\t0\n"), std::string::npos);
    EXPECT_NE(ReadFile("/proc/self/status").find("\nUid:\t65534\t"), std::string::npos);
  }), ExitsWith(0));
}

TEST(IdMapTest, OpenerAndWriterMustBothBePrivileged) {
  EXPECT_THAT(InChild([] {
    Inner inner(1000);
    const int roots = open(inner.File("uid_map").c_str(), O_WRONLY);
    ASSERT_THAT(roots, SyscallSucceeds());
    ASSERT_THAT(setegid(1000), SyscallSucceeds());
    ASSERT_THAT(seteuid(1000), SyscallSucceeds());
    const int users = open(inner.File("uid_map").c_str(), O_WRONLY);
    ASSERT_THAT(users, SyscallSucceeds());
    EXPECT_EQ(WriteText(roots, "0 1000 2"), EPERM);
    EXPECT_EQ(WriteText(users, "0 1000 2"), EPERM);
    ASSERT_THAT(seteuid(0), SyscallSucceeds());
    EXPECT_EQ(WriteText(users, "0 1000 2"), EPERM);
    EXPECT_EQ(WriteText(users, "0 0 1"), EPERM);
    // What the opener may do it may do, whoever writes.
    EXPECT_EQ(WriteText(users, "0 1000 1"), 0);
  }), ExitsWith(0));
  // A stranger's descriptor is good for nothing at all, and a stranger can use nobody's.
  Inner inner(1000);
  EXPECT_THAT(InChild([&] {
    const int roots = open(inner.File("uid_map").c_str(), O_WRONLY);
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    const int mine = open(inner.File("uid_map").c_str(), O_WRONLY);
    EXPECT_EQ(mine < 0 ? EPERM : WriteText(mine, "0 1000 1"), EPERM);
    EXPECT_EQ(WriteText(roots, "0 1000 2"), EPERM);
  }), ExitsWith(0));
}

TEST(IdMapTest, RootsIdNeedsSetfcap) {
  EXPECT_THAT(InChild([] {
    DropEffective(CAP_SETFCAP);
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_EQ(WriteText("/proc/self/uid_map", "0 0 1"), EPERM);
  }), ExitsWith(0));
  EXPECT_THAT(InChild([] {
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_EQ(WriteText("/proc/self/uid_map", "0 0 1"), 0);
  }), ExitsWith(0));
  EXPECT_THAT(InChild([] {
    Inner inner(0);
    DropEffective(CAP_SETFCAP);
    EXPECT_EQ(WriteText(inner.File("uid_map"), "0 0 1"), EPERM);
    EXPECT_EQ(WriteText(inner.File("uid_map"), "0 0 5"), EPERM);
    EXPECT_EQ(WriteText(inner.File("uid_map"), "0 1 5"), 0);
  }), ExitsWith(0));
}

TEST(IdMapTest, LinesAreParsedAsInLinux) {
  Inner inner(1000);
  for (const char* bad : {"0 1000", "0 1000 1 1", "0 1000 1x", "+0 1000 1", "-0 1000 1", "0x0 1000 1", "\n",
                          "0 1000 1\n\n1 1001 1", "0 1000 0", "4294967295 1000 1", "0 1000 4294967295",
                          "0 1000 2\n1 2000 1", "0 1000 2\n5 1001 1", "4294967294 1000 2"})
    EXPECT_EQ(WriteText(inner.File("uid_map"), bad), EINVAL) << bad;
  EXPECT_EQ(WriteText(inner.File("uid_map"), std::string(4096, ' ')), EINVAL);
  EXPECT_EQ(WriteText(inner.File("uid_map"), "\t 0\v1000 \f1 \r\n4294967297 2000 4294967298\n"), 0);
  EXPECT_EQ(ReadFile(inner.File("uid_map")), Line(0, 1000, 1) + Line(1, 2000, 2));
  // It has one, and that is all one hears.
  EXPECT_EQ(WriteText(inner.File("uid_map"), "bad"), EPERM);
}

TEST(SetgroupsFileTest, DecidesAboutSetgroups) {
  EXPECT_THAT(InChild([] {
    const gid_t group = 0;
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    // As long as it could still be denied.
    EXPECT_THAT(syscall(SYS_setgroups, 0, nullptr), SyscallFailsWithErrno(EPERM));
    EXPECT_EQ(WriteText("/proc/self/gid_map", "0 0 1"), EPERM);
    for (const char* bad : {"den", "denyx", "deny x", "denydeny", "\n"})
      EXPECT_EQ(WriteText("/proc/self/setgroups", bad), EINVAL) << bad;
    EXPECT_EQ(WriteText("/proc/self/setgroups", "allow\n"), 0);
    EXPECT_EQ(WriteText("/proc/self/setgroups", "deny \n"), 0);
    EXPECT_EQ(WriteText("/proc/self/setgroups", "deny"), 0);
    EXPECT_EQ(WriteText("/proc/self/setgroups", "allow"), EPERM);
    EXPECT_EQ(WriteText("/proc/self/gid_map", "0 0 1"), 0);
    EXPECT_EQ(ReadFile("/proc/self/setgroups"), "deny\n");
    EXPECT_EQ(WriteText("/proc/self/setgroups", "deny"), EPERM);
    EXPECT_THAT(syscall(SYS_setgroups, 1, &group), SyscallFailsWithErrno(EPERM));
    EXPECT_EQ(WriteText("/proc/self/uid_map", "0 0 1"), 0);
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_EQ(ReadFile("/proc/self/setgroups"), "deny\n");
  }), ExitsWith(0));
  Inner allowed(0, [] {
    const gid_t groups[] = {1, 2}, bad[] = {3};
    EXPECT_THAT(syscall(SYS_setgroups, 2, groups), SyscallSucceeds());
    EXPECT_THAT(syscall(SYS_setgroups, 1, bad), SyscallFailsWithErrno(EINVAL));
    EXPECT_EQ(WriteText("/proc/self/setgroups", "deny"), EPERM);
  });
  ASSERT_EQ(WriteText(allowed.File("gid_map"), "0 0 3"), 0);
  EXPECT_THAT(allowed.Wait(), ExitsWith(0));
}

TEST(SetgroupsFileTest, WhoMayWriteIsAskedAtOpen) {
  EXPECT_THAT(InChild([] {
    BecomeUser(1000);
    EXPECT_THAT(open("/proc/self/setgroups", O_WRONLY), SyscallFailsWithErrno(EACCES));
    EXPECT_THAT(open("/proc/self/setgroups", O_RDWR), SyscallFailsWithErrno(EACCES));
    EXPECT_THAT(open("/proc/self/setgroups", O_RDONLY), SyscallSucceeds());
  }), ExitsWith(0));
  Inner inner(1000);
  EXPECT_THAT(InChild([&] {
    const int fd = open(inner.File("setgroups").c_str(), O_WRONLY);
    ASSERT_THAT(fd, SyscallSucceeds());
    BecomeUser(2000);
    EXPECT_EQ(WriteText(fd, "deny"), 0);
  }), ExitsWith(0));
}

TEST(NewUserNamespaceTest, NestsThirtyThreeDeep) {
  EXPECT_THAT(InChild([] {
    int depth = 0;
    while (depth < 40 && unshare(CLONE_NEWUSER) == 0) {
      ++depth;
      ASSERT_EQ(WriteText("/proc/self/uid_map", "0 0 1"), 0);
      if (depth == 1) {
        ASSERT_EQ(WriteText("/proc/self/setgroups", "deny"), 0);
      }
      ASSERT_EQ(WriteText("/proc/self/gid_map", "0 0 1"), 0);
    }
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_EQ(depth, 33);
  }), ExitsWith(0));
}

TEST(NewUserNamespaceTest, NeedsNamesForBothIds) {
  EXPECT_THAT(InChild([] {
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_THAT(unshare(CLONE_NEWUSER), SyscallFailsWithErrno(EPERM));
    ASSERT_EQ(WriteText("/proc/self/uid_map", "0 0 1"), 0);
    EXPECT_THAT(unshare(CLONE_NEWUSER), SyscallFailsWithErrno(EPERM));
    ASSERT_EQ(WriteText("/proc/self/setgroups", "deny"), 0);
    ASSERT_EQ(WriteText("/proc/self/gid_map", "0 0 1"), 0);
    EXPECT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
  }), ExitsWith(0));
}

TEST(NewUserNamespaceTest, IsRefusedInAChangedRoot) {
  EXPECT_THAT(InChild([] {
    ASSERT_THAT(chroot("/tmp"), SyscallSucceeds());
    EXPECT_THAT(unshare(CLONE_NEWUSER), SyscallFailsWithErrno(EPERM));
    EXPECT_THAT(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, nullptr),
                SyscallFailsWithErrno(EPERM));
  }), ExitsWith(0));
}

// --- Ids of others ---

siginfo_t NextSignal(int signo) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signo);
  siginfo_t info{};
  const timespec limit{20, 0};
  EXPECT_THAT(sigtimedwait(&set, &info, &limit), SyscallSucceedsWithValue(signo));
  return info;
}
void BlockSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signo : {SIGUSR1, SIGUSR2, SIGCHLD}) sigaddset(&set, signo);
  ASSERT_THAT(sigprocmask(SIG_BLOCK, &set, nullptr), SyscallSucceeds());
}

TEST(OthersIdsTest, OfASignal) {
  EXPECT_THAT(InChild([] {
    BlockSignals();
    const pid_t outer = getpid();
    Inner inner(1000, [outer] {
      ASSERT_EQ(getuid(), 5u);
      EXPECT_EQ(NextSignal(SIGUSR1).si_uid, 65534u);  // Root has no name here.
      const siginfo_t queued = NextSignal(SIGUSR2);
      EXPECT_EQ(queued.si_uid, 6u);
      EXPECT_EQ(queued.si_pid, 4321);  // What the sender says.
      EXPECT_THAT(kill(outer, SIGUSR1), SyscallFailsWithErrno(EPERM));
      EXPECT_THAT(kill(getpid(), SIGUSR1), SyscallSucceeds());
      EXPECT_EQ(NextSignal(SIGUSR1).si_uid, 5u);
      // Of a child of another name.
      const pid_t child = fork();
      if (child == 0) _exit(setresuid(6, 6, 6) == 0 ? 0 : 1);
      const siginfo_t ended = NextSignal(SIGCHLD);
      EXPECT_EQ(ended.si_uid, 6u);
      EXPECT_EQ(ended.si_status, 0);
      siginfo_t waited{};
      EXPECT_THAT(waitid(P_PID, static_cast<id_t>(child), &waited, WEXITED), SyscallSucceeds());
      EXPECT_EQ(waited.si_uid, 6u);
    });
    ASSERT_EQ(WriteText(inner.File("uid_map"), "5 1000 2"), 0);
    inner.Go();
    ASSERT_THAT(kill(inner.pid(), SIGUSR1), SyscallSucceeds());
    siginfo_t info{};
    info.si_code = SI_QUEUE;
    info.si_pid = 4321;
    info.si_uid = 1001;
    ASSERT_THAT(syscall(SYS_rt_sigqueueinfo, inner.pid(), SIGUSR2, &info), SyscallSucceeds());
    EXPECT_THAT(inner.Wait(), ExitsWith(0));
    EXPECT_EQ(NextSignal(SIGCHLD).si_uid, 1000u);
  }), ExitsWith(0));
}

ucred Received(int fd) {
  char byte, control[256] = {};
  iovec iov{&byte, 1};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  EXPECT_THAT(recvmsg(fd, &message, 0), SyscallSucceedsWithValue(1));
  ucred c{-1, ~0u, ~0u};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_CREDENTIALS) memcpy(&c, CMSG_DATA(header), sizeof(c));
  return c;
}

TEST(OthersIdsTest, OfASocketsPeer) {
  int ends[2], made_inside[2];
  ASSERT_THAT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), SyscallSucceeds());
  const int on = 1;
  for (int end : ends) ASSERT_THAT(setsockopt(end, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), SyscallSucceeds());
  Inner inner(1000, [&] {
    ucred c = Received(ends[1]);
    EXPECT_EQ(c.uid, 65534u);
    EXPECT_EQ(c.gid, 65534u);
    EXPECT_EQ(c.pid, getppid());
    c = Received(ends[1]);
    EXPECT_EQ(c.uid, 6u);
    EXPECT_EQ(c.gid, 7u);
    socklen_t size = sizeof(c);
    EXPECT_THAT(getsockopt(ends[1], SOL_SOCKET, SO_PEERCRED, &c, &size), SyscallSucceeds());
    EXPECT_EQ(c.uid, 65534u);
    EXPECT_EQ(SendCredentials(ends[1], {getpid(), 6, 7}), 0);  // CAP_SETUID and CAP_SETGID inside.
    EXPECT_EQ(SendCredentials(ends[1], {getpid(), 1000, 5}), EINVAL);
    EXPECT_EQ(SendCredentials(ends[1], {getppid(), 6, 7}), EPERM);
    ASSERT_THAT(socketpair(AF_UNIX, SOCK_STREAM, 0, made_inside), SyscallSucceeds());
    EXPECT_THAT(getsockopt(made_inside[0], SOL_SOCKET, SO_PEERCRED, &c, &size), SyscallSucceeds());
    EXPECT_EQ(c.uid, 5u);
    EXPECT_EQ(c.gid, 5u);
  });
  ASSERT_EQ(WriteText(inner.File("uid_map"), "5 1000 3"), 0);
  ASSERT_EQ(WriteText(inner.File("gid_map"), "5 1000 3"), 0);
  ASSERT_EQ(SendCredentials(ends[0], {getpid(), 0, 0}), 0);
  ASSERT_EQ(SendCredentials(ends[0], {getpid(), 1001, 1002}), 0);
  EXPECT_THAT(inner.Wait(), ExitsWith(0));
  const ucred c = Received(ends[0]);
  EXPECT_EQ(c.uid, 1001u);
  EXPECT_EQ(c.gid, 1002u);
}

TEST(OthersIdsTest, OfAFile) {
  TempFile file("text", 0600);
  ASSERT_THAT(chown(file.c_str(), 1001, 3000), SyscallSucceeds());
  Inner inner(1000, [&] {
    struct stat st{};
    ASSERT_THAT(stat(file.c_str(), &st), SyscallSucceeds());
    EXPECT_EQ(st.st_uid, 6u);
    EXPECT_EQ(st.st_gid, 65534u);
    // To a file whose group has no name here root of this namespace is nobody, but for what an owner may.
    EXPECT_THAT(open(file.c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
    EXPECT_THAT(chmod(file.c_str(), 0604), SyscallSucceeds());
    EXPECT_THAT(open(file.c_str(), O_RDONLY), SyscallSucceeds());
    EXPECT_THAT(chown(file.c_str(), 5, static_cast<gid_t>(-1)), SyscallFailsWithErrno(EPERM));
    EXPECT_THAT(chown(file.c_str(), 1000, static_cast<gid_t>(-1)), SyscallFailsWithErrno(EINVAL));
  });
  ASSERT_EQ(WriteText(inner.File("uid_map"), "5 1000 3"), 0);
  ASSERT_EQ(WriteText(inner.File("gid_map"), "5 1000 3"), 0);
  EXPECT_THAT(inner.Wait(), ExitsWith(0));
}

// cap_capable(): the owner of a namespace has all capabilities in it, and in those below; its root has none above.
TEST(OwnerTest, HasAllCapabilitiesBelow) {
  Inner inner(1000, [] {
    ASSERT_THAT(unshare(CLONE_NEWUTS), SyscallSucceeds());
    pause();
  });
  ASSERT_EQ(WriteText(inner.File("uid_map"), "0 1000 2"), 0);
  ASSERT_EQ(WriteText(inner.File("gid_map"), "0 1000 2"), 0);
  const int before = open(inner.File("ns/uts").c_str(), O_RDONLY);
  struct stat first{}, now{};
  ASSERT_THAT(fstat(before, &first), SyscallSucceeds());
  inner.Go();
  ASSERT_TRUE(WaitUntil([&] { return stat(inner.File("ns/uts").c_str(), &now) == 0 && now.st_ino != first.st_ino; }));
  const int user = open(inner.File("ns/user").c_str(), O_RDONLY), uts = open(inner.File("ns/uts").c_str(), O_RDONLY);
  EXPECT_THAT(InChild([&] {
    BecomeUser(1000);
    EXPECT_THAT(setns(uts, 0), SyscallFailsWithErrno(EPERM));  // Not in his own.
    ASSERT_THAT(setns(user, 0), SyscallSucceeds());
    EXPECT_THAT(setns(uts, 0), SyscallSucceeds());
    EXPECT_THAT(setns(before, 0), SyscallFailsWithErrno(EPERM));
  }), ExitsWith(0));
  EXPECT_THAT(InChild([&] {
    BecomeUser(1001);
    EXPECT_THAT(setns(user, 0), SyscallFailsWithErrno(EPERM));
  }), ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
