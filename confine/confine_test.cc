#include "confine/confine.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>

#include "confine/role.h"
#include "gtest/gtest.h"

// The test executable is also the role that RoleTest executes.
int RoleMain(int argc, char** argv);
int main(int argc, char** argv) {
  if (std::string(argv[0]) == "runsc-test") return RoleMain(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

namespace caisson::confine {
namespace {

// Runs `body` in a child and returns its wait status; the child exits with body's value.
int InChild(const std::function<int()>& body) {
  // A bare one: a sanitizer's fork() may start a thread in the child, which then gets no user namespace.
  const pid_t child = static_cast<pid_t>(syscall(SYS_fork));
  if (child == 0) _exit(body());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

#define STEP(n, condition) \
  if (!(condition)) return n

TEST(ConfineTest, EmptyRootIsEmptyAndReadOnly) {
  const int status = InChild([]() -> int {
    STEP(1, unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
    absl::Status entered = EnterEmptyRoot();
    if (!entered.ok()) fprintf(stderr, "%s\n", entered.ToString().c_str());
    STEP(2, entered.ok());
    DIR* root = opendir("/");
    STEP(3, root != nullptr);
    int entries = 0;
    while (readdir(root) != nullptr) ++entries;
    STEP(4, entries == 2);  // "." and "..".
    STEP(5, open("/x", O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS);
    STEP(6, access("/etc", F_OK) < 0 && access("../etc", F_OK) < 0);
    STEP(7, access("/../../proc/self", F_OK) < 0);
    // Nothing is mounted below what is there.
    STEP(8, umount2("/", MNT_DETACH) < 0);
    return 0;
  });
  EXPECT_EQ(status, 0) << "step " << WEXITSTATUS(status);
}

TEST(ConfineTest, LimitCapabilitiesKeepsOnlyThose) {
  const int status = InChild([]() -> int {
    STEP(1, unshare(CLONE_NEWUSER) == 0);
    STEP(2, LimitCapabilities(1u << 1).ok());  // CAP_DAC_OVERRIDE.
    STEP(3, prctl(PR_CAPBSET_READ, 1, 0, 0, 0) == 1 && prctl(PR_CAPBSET_READ, 21, 0, 0, 0) == 0);
    STEP(4, unshare(CLONE_NEWNS) < 0 && errno == EPERM);
    STEP(5, LimitCapabilities(0).ok());
    STEP(6, !LimitCapabilities(1u << 1).ok());
    return 0;
  });
  EXPECT_EQ(status, 0) << "step " << WEXITSTATUS(status);
}

TEST(ConfineTest, FilterKillsOrReports) {
  static constexpr bpf::Instruction kDenyGetppid[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_getppid},
      {BPF_RET | BPF_K, 0, 0, bpf::kRetKillProcess},
      {BPF_RET | BPF_K, 0, 0, bpf::kRetAllow},
  };
  const auto run = [](OnViolation mode) {
    return InChild([mode]() -> int {
      STEP(1, SetNoNewPrivileges().ok() && InstallFilter(kDenyGetppid, mode).ok());
      syscall(SYS_getppid);
      return 2;
    });
  };
  const int killed = run(OnViolation::kKill);
  EXPECT_TRUE(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGSYS);
  const int reported = run(OnViolation::kReport);
  EXPECT_TRUE(WIFEXITED(reported) && WEXITSTATUS(reported) == 128 + SIGSYS);
}

TEST(ConfineTest, DieWithParentNoticesAParentThatIsGone) {
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
  const auto attempt = [&] { return InChild([&] { return DieWithParent(fds[0]).ok() ? 0 : 1; }); };
  EXPECT_EQ(WEXITSTATUS(attempt()), 0);
  close(fds[1]);
  EXPECT_EQ(WEXITSTATUS(attempt()), 1);
  close(fds[0]);
}

TEST(ConfineTest, CloseAllButClosesTheRest) {
  const int status = InChild([]() -> int {
    STEP(1, dup2(0, 50) == 50 && dup2(0, 51) == 51 && dup2(0, 200) == 200 && dup2(0, 3) == 3);
    STEP(2, CloseAllBut({200, 51, 51}).ok());
    STEP(3, fcntl(51, F_GETFD) >= 0 && fcntl(200, F_GETFD) >= 0 && fcntl(0, F_GETFD) >= 0);
    STEP(4, fcntl(50, F_GETFD) < 0 && fcntl(3, F_GETFD) < 0);
    return 0;
  });
  EXPECT_EQ(status, 0) << "step " << WEXITSTATUS(status);
}

TEST(RoleTest, PassesNamedDescriptorsAndNothingElse) {
  const int status = InChild([]() -> int {
    const int exe = dup2(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), 20);
    const int null_fd = dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 21);
    // Descriptors in the way of each other: "a" is where "b" would go, and the reverse.
    int a = memfd_create("a", 0);
    int b = memfd_create("b", 0);
    STEP(1, dup2(a, 104) == 104 && dup2(b, 103) == 103 && dup2(104, 4) == 4 && dup2(103, 3) == 3);
    STEP(2, write(4, "a", 1) == 1 && write(3, "b", 1) == 1 && dup2(a, 300) == 300);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, nullptr);
    setenv("LD_LIBRARY_PATH", "/nowhere", 1);
    RoleExec role{"runsc-test", {{"id", "x=y"}}, {{"a", 4}, {"b", 3}, {"none", -1}}, null_fd};
    absl::Status failed = ExecRole(exe, role);
    fprintf(stderr, "%s\n", failed.ToString().c_str());
    return 3;
  });
  EXPECT_EQ(status, 0) << "step " << WEXITSTATUS(status);
}

TEST(RoleTest, RefusesDescriptorsThatAreNotThere) {
  char name[] = "runsc-test";
  char option[] = "--fd-a=999";
  char* argv[] = {name, option, nullptr};
  EXPECT_FALSE(RoleArgs::Parse(2, argv).ok());
  char junk[] = "junk";
  argv[1] = junk;
  EXPECT_FALSE(RoleArgs::Parse(2, argv).ok());
}

char ReadOne(int fd) {
  char c = 0;
  return pread(fd, &c, 1, 0) == 1 ? c : '?';
}

}  // namespace
}  // namespace caisson::confine

int RoleMain(int argc, char** argv) {
  using namespace caisson::confine;  // NOLINT(google-build-using-namespace)
  auto args = RoleArgs::Parse(argc, argv);
  STEP(10, args.ok());
  STEP(11, args->Option("id") == "x=y" && args->Option("other").empty());
  caisson::UniqueFd a = args->TakeFd("a");
  caisson::UniqueFd b = args->TakeFd("b");
  STEP(12, a.valid() && b.valid() && !args->TakeFd("none").valid());
  STEP(13, ReadOne(a.get()) == 'a' && ReadOne(b.get()) == 'b');
  for (int fd = 5; fd < 1024; ++fd) STEP(14, fcntl(fd, F_GETFD) < 0);
  STEP(15, fcntl(a.get(), F_GETFD) == FD_CLOEXEC);
  STEP(16, getenv("LD_LIBRARY_PATH") == nullptr);
  sigset_t blocked;
  sigprocmask(SIG_SETMASK, nullptr, &blocked);
  STEP(17, sigisemptyset(&blocked));
  char name[16] = {};
  prctl(PR_GET_NAME, name, 0, 0, 0);
  STEP(18, std::string(name) == "runsc-test");
  return 0;
}
