// What /proc shows of each process of a running sandbox.
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "confine/confine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/sandbox/test_sandbox.h"

int main(int argc, char** argv) { return caisson::runsc::TestMain(argc, argv); }

namespace caisson::runsc {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string Proc(pid_t pid, absl::string_view name) { return absl::StrCat("/proc/", pid, "/", name); }

std::string Link(const std::string& path) {
  char buffer[4096];
  const ssize_t n = readlink(path.c_str(), buffer, sizeof(buffer));
  return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : "";
}

std::vector<std::string> Entries(const std::string& path) {
  std::vector<std::string> names;
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) return {"(cannot be opened)"};
  while (dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  }
  closedir(directory);
  return names;
}

// Descriptor links with the instance numbers taken off: "socket", "pipe", "anon_inode:[eventpoll]".
std::map<std::string, int> FdKinds(pid_t pid) {
  std::map<std::string, int> kinds;
  for (const std::string& fd : Entries(Proc(pid, "fd"))) {
    std::string target = Link(Proc(pid, "fd/" + fd));
    if (target[0] != '/' && target.find(":[") != std::string::npos && target.substr(0, 4) != "anon") {
      target.resize(target.find(":["));
    }
    ++kinds[target];
  }
  return kinds;
}

uint64_t Hex(const std::string& text) { return strtoull(text.c_str(), nullptr, 16); }

class ConfinementTest : public testing::Test {
 protected:
  ConfinementTest() : box_({"sleep"}) {
    SandboxStart start = box_.Config();
    start.namespaces = {{CLONE_NEWNET, ""}};
    // What a careless caller leaves open must not reach any process.
    leaked_ = open("/etc/passwd", O_RDONLY);
    absl::Status started = box_.Start(std::move(start));
    EXPECT_TRUE(started.ok()) << started;
    EXPECT_EQ(box_.StartContainer().code(), protocol::Reply::OK);
    // The gofer confines itself before it reads its first request, which nobody has sent here.
    for (int i = 0; i < 5000 && StatusField(gofer(), "Seccomp") != "2"; ++i) usleep(1000);
  }
  ~ConfinementTest() override { close(leaked_); }

  pid_t monitor() const { return box_.processes.monitor_pid; }
  pid_t sentry() const { return box_.processes.sentry_pid; }
  pid_t gofer() const { return box_.processes.gofer_pid; }

  int leaked_ = -1;
  TestSandbox box_;
};

TEST_F(ConfinementTest, EveryThreadHasAFilterAndNoNewPrivileges) {
  for (pid_t pid : {monitor(), sentry(), gofer()}) {
    for (const std::string& task : Entries(Proc(pid, "task"))) {
      const int tid = atoi(task.c_str());
      if (StatusField(tid, "Seccomp").empty()) continue;  // A request's thread, ended meanwhile.
      EXPECT_EQ(StatusField(tid, "Seccomp"), "2") << StatusField(tid, "Name");
      EXPECT_EQ(StatusField(tid, "NoNewPrivs"), "1") << StatusField(tid, "Name");
    }
  }
}

TEST_F(ConfinementTest, CapabilitiesAreGone) {
  for (pid_t pid : {monitor(), sentry()}) {
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"}) {
      EXPECT_EQ(Hex(StatusField(pid, set)), 0u) << set << " of " << StatusField(pid, "Name");
    }
  }
  const uint64_t allowed = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE |
                           1ull << CAP_DAC_READ_SEARCH | 1ull << CAP_FOWNER | 1ull << CAP_FSETID |
                           1ull << CAP_SETFCAP;
  for (const char* set : {"CapPrm", "CapEff", "CapBnd"}) {
    EXPECT_EQ(Hex(StatusField(gofer(), set)) & ~allowed, 0u) << set;
  }
  EXPECT_EQ(Hex(StatusField(gofer(), "CapInh")) | Hex(StatusField(gofer(), "CapAmb")), 0u);
}

TEST_F(ConfinementTest, SentryAndGoferHaveNamespacesOfTheirOwn) {
  for (const char* name : {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}) {
    const std::string link = absl::StrCat("ns/", name);
    std::set<std::string> different = {Link(Proc(getpid(), link)), Link(Proc(sentry(), link)),
                                       Link(Proc(gofer(), link))};
    EXPECT_EQ(different.size(), 3u) << name;
  }
  // The monitor is in the container's network namespace, in a mount namespace of its own, and else
  // in the host's.
  EXPECT_NE(Link(Proc(monitor(), "ns/net")), Link(Proc(getpid(), "ns/net")));
  EXPECT_NE(Link(Proc(monitor(), "ns/net")), Link(Proc(sentry(), "ns/net")));
  EXPECT_EQ(Link(Proc(monitor(), "ns/pid")), Link(Proc(getpid(), "ns/pid")));
  EXPECT_NE(Link(Proc(monitor(), "ns/mnt")), Link(Proc(getpid(), "ns/mnt")));
}

// Engines reach a container's files through its pid: they must not find the host's there.
TEST_F(ConfinementTest, MonitorsRootIsTheContainers) {
  EXPECT_EQ(Link(Proc(monitor(), "cwd")), "/");
  std::vector<std::string> mounts =
      absl::StrSplit(ReadFile(Proc(monitor(), "mountinfo")), '\n', absl::SkipEmpty());
  ASSERT_EQ(mounts.size(), 1u) << ReadFile(Proc(monitor(), "mountinfo"));
  EXPECT_THAT(mounts[0], HasSubstr(" / "));
  EXPECT_THAT(mounts[0], HasSubstr("nosuid,nodev"));
  EXPECT_NE(Entries(Proc(monitor(), "root/")), Entries("/"));
}

TEST_F(ConfinementTest, SentryIsNobodyOnTheHost) {
  const std::vector<std::string> uids =
      absl::StrSplit(StatusField(sentry(), "Uid"), absl::ByAnyChar("\t "));
  for (const std::string& uid : uids) EXPECT_GE(atoll(uid.c_str()), 0x70000000);
  EXPECT_EQ(StatusField(sentry(), "Uid"), StatusField(sentry(), "Gid"));
  EXPECT_EQ(StatusField(sentry(), "Groups"), " ");
  EXPECT_EQ(StatusField(gofer(), "Groups"), " ");
  // It maps that id only.
  std::vector<std::string> map = absl::StrSplit(ReadFile(Proc(sentry(), "uid_map")),
                                                absl::ByAnyChar(" \n"), absl::SkipEmpty());
  EXPECT_THAT(map, testing::ElementsAre("0", uids[0], "1"));
}

TEST_F(ConfinementTest, RootsAreEmptyAndReadOnly) {
  for (pid_t pid : {sentry(), gofer()}) {
    EXPECT_THAT(Entries(Proc(pid, "root/")), testing::IsEmpty());
    std::vector<std::string> mounts =
        absl::StrSplit(ReadFile(Proc(pid, "mountinfo")), '\n', absl::SkipEmpty());
    ASSERT_EQ(mounts.size(), 1u) << ReadFile(Proc(pid, "mountinfo"));
    EXPECT_THAT(mounts[0], HasSubstr(" / / ro,nosuid,nodev,noexec"));
    EXPECT_THAT(mounts[0], HasSubstr("- tmpfs"));
    EXPECT_EQ(Link(Proc(pid, "cwd")), "/");
  }
}

TEST_F(ConfinementTest, NoStrayDescriptors) {
  // stdin and stdout, stderr to the monitor; listener, two connections, the gofer's; the guest's
  // stdio, which is /dev/null here; epoll.
  const std::map<std::string, int> expected = {
      {"/dev/null", 5}, {"pipe", 1}, {"socket", 4}, {"anon_inode:[eventpoll]", 1}};
  // The connection that started the container is closed in a moment.
  for (int i = 0; i < 1000 && FdKinds(sentry()) != expected; ++i) usleep(1000);
  EXPECT_EQ(FdKinds(sentry()), expected);
  // Life and one mount's connection, that mount's root, /proc/self/fd.
  std::map<std::string, int> gofer_fds = FdKinds(gofer());
  EXPECT_EQ(gofer_fds["/dev/null"], 2);
  EXPECT_EQ(gofer_fds["pipe"], 1);
  EXPECT_EQ(gofer_fds["socket"], 2);
  EXPECT_EQ(Entries(Proc(gofer(), "fd")).size(), 7u) << testing::PrintToString(FdKinds(gofer()));
  // Its three, three connections, two pidfds, the error pipe, signals, the log (the test's stderr).
  std::map<std::string, int> monitor_fds = FdKinds(monitor());
  EXPECT_EQ(monitor_fds["socket"], 3);
  EXPECT_EQ(monitor_fds["anon_inode:[signalfd]"], 1);
  EXPECT_EQ(Entries(Proc(monitor(), "fd")).size(), 11u);
  for (pid_t pid : {monitor(), sentry(), gofer()}) {
    for (const auto& [target, count] : FdKinds(pid)) EXPECT_THAT(target, Not(HasSubstr("passwd")));
  }
}

TEST_F(ConfinementTest, NamesEnvironmentAndParents) {
  for (const auto& [pid, name] : std::map<pid_t, std::string>{
           {monitor(), "runsc-monitor"}, {sentry(), "runsc-sentry"}, {gofer(), "runsc-gofer"}}) {
    EXPECT_EQ(StatusField(pid, "Name"), name);
    EXPECT_THAT(ReadFile(Proc(pid, "cmdline")), StartsWith(name));
#ifndef CAISSON_SANITIZED
    EXPECT_EQ(ReadFile(Proc(pid, "environ")), "");
#endif
    EXPECT_EQ(StatusField(pid, "PPid"), absl::StrCat(pid == monitor() ? getpid() : monitor()));
  }
  // Pid 1 of a namespace of its own.
  for (pid_t pid : {sentry(), gofer()}) EXPECT_THAT(StatusField(pid, "NSpid"), testing::EndsWith("\t1"));
}

// A stub runs as the sentry's host user. One that got into the sentry's user namespace with the same
// ids still could not read its memory, since the sentry is not dumpable.
TEST_F(ConfinementTest, SentrysMemoryIsClosedToItsOwnUser) {
  const pid_t child = fork();
  if (child == 0) {
    const int user = open(Proc(sentry(), "ns/user").c_str(), O_RDONLY | O_CLOEXEC);
    if (setns(user, CLONE_NEWUSER) != 0 || setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0 ||
        !confine::LimitCapabilities(0).ok()) {
      _exit(100);
    }
    _exit(open(Proc(sentry(), "mem").c_str(), O_RDONLY | O_CLOEXEC) < 0 ? errno : 0);
  }
  EXPECT_EQ(WEXITSTATUS(TestSandbox::AwaitChild(child)), EACCES);
}

TEST_F(ConfinementTest, DescriptorLimitIsRaisedAndThereAreNoCores) {
  const std::string limits = ReadFile(Proc(sentry(), "limits"));
  EXPECT_THAT(limits, testing::ContainsRegex("Max core file size +1 +1 "));
  for (absl::string_view line : absl::StrSplit(limits, '\n')) {
    std::vector<absl::string_view> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (fields.size() > 4 && fields[2] == "files") {
      EXPECT_EQ(fields[3], fields[4]);
    }
  }
}

TEST(ViolationTest, ADeniedCallEndsTheSandbox) {
  TestSandbox box({"call", "57"});  // fork
  ASSERT_TRUE(box.Start().ok());
  box.StartContainer();
  const int status = box.AwaitMonitor();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 137) << status;
}

TEST(ViolationTest, TwoSandboxesRunAsDifferentUsers) {
  TestSandbox a({"sleep"});
  TestSandbox b({"sleep"});
  ASSERT_TRUE(a.Start().ok());
  SandboxStart start = b.Config();
  start.container.set_id("other");
  ASSERT_TRUE(b.Start(std::move(start)).ok());
  EXPECT_NE(StatusField(a.processes.sentry_pid, "Uid"), StatusField(b.processes.sentry_pid, "Uid"));
}

}  // namespace
}  // namespace caisson::runsc
