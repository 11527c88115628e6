#include <fcntl.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/sandbox/host_process.h"
#include "runsc/sandbox/spawn.h"
#include "runsc/sandbox/test_sandbox.h"

int main(int argc, char** argv) { return caisson::runsc::TestMain(argc, argv); }

namespace caisson::runsc {
namespace {

using protocol::Reply;
using protocol::Request;
using testing::HasSubstr;

#define ASSERT_STARTED(box)                      \
  do {                                           \
    absl::Status started_ = (box).Start();       \
    ASSERT_TRUE(started_.ok()) << started_;      \
  } while (false)

int ExitStatus(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -status; }

std::string Link(pid_t pid, const std::string& name) {
  char buffer[4096];
  const ssize_t n =
      readlink(absl::StrCat("/proc/", pid, "/", name).c_str(), buffer, sizeof(buffer));
  return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : "";
}

TEST(StartTest, MonitorEndsWithTheGuestsStatusAndNothingIsLeft) {
  TestSandbox box({"exit", "42"});
  ASSERT_STARTED(box);
  EXPECT_TRUE(IsAlive(box.processes.monitor_pid));
  EXPECT_EQ(box.processes.sentry_start_time, StartTimeOf(box.processes.sentry_pid));
  EXPECT_EQ(box.StartContainer().code(), Reply::OK);
  EXPECT_EQ(ExitStatus(box.AwaitMonitor()), 42);
  EXPECT_FALSE(IsAlive(box.processes.sentry_pid));
  EXPECT_FALSE(IsAlive(box.processes.gofer_pid));
}

TEST(StartTest, MonitorEndsByTheGuestsSignal) {
  for (int signal : {SIGTERM, SIGKILL, SIGSEGV, SIGUSR2, SIGRTMIN + 3}) {
    TestSandbox box({"signal", absl::StrCat(signal)});
    ASSERT_STARTED(box);
    box.StartContainer();
    const int status = box.AwaitMonitor();
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << signal << " " << status;
    EXPECT_FALSE(WCOREDUMP(status));
  }
}

TEST(StartTest, ForwardsSignalsToTheGuest) {
  TestSandbox box({"sleep"});
  ASSERT_STARTED(box);
  box.StartContainer();
  ASSERT_EQ(KillOne(box.processes.monitor_pid, SIGCONT), 0);  // Without effect.
  ASSERT_EQ(KillOne(box.processes.monitor_pid, SIGUSR1), 0);
  EXPECT_EQ(ExitStatus(box.AwaitMonitor()), 7);
}

TEST(StartTest, ForwardsEverySignalThatCanBeCaught) {
  for (int signal = 1; signal <= 64; ++signal) {
    if (signal == SIGKILL || signal == SIGSTOP || signal == SIGCONT || signal == SIGUSR1 ||
        signal == SIGWINCH) {
      continue;
    }
    TestSandbox box({"sleep"});
    ASSERT_STARTED(box);
    box.StartContainer();
    ASSERT_EQ(KillOne(box.processes.monitor_pid, signal), 0);
    const int status = box.AwaitMonitor();
    // The fake guest ends by it; a signal that by default ends nobody becomes 128 + its number.
    const bool by_signal = WIFSIGNALED(status) && WTERMSIG(status) == signal;
    EXPECT_TRUE(by_signal || ExitStatus(status) == 128 + signal) << signal << ": " << status;
  }
}

TEST(StartTest, ACreatedContainerCanBeKilled) {
  TestSandbox box({"sleep"});
  ASSERT_STARTED(box);
  ASSERT_EQ(KillOne(box.processes.monitor_pid, SIGTERM), 0);
  const int status = box.AwaitMonitor();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

TEST(StartTest, AFailedCreationIsReportedWithItsCode) {
  TestSandbox box({"notfound"});
  absl::Status started = box.Start();
  EXPECT_THAT(std::string(started.message()), HasSubstr("executable file not found in $PATH"));
  EXPECT_EQ(ReplyCodeOf(started), Reply::EXECUTABLE_NOT_FOUND);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);  // No child is left.
  EXPECT_NE(access(box.socket_path.c_str(), F_OK), 0);
}

TEST(StartTest, AFailedHookOrCgroupEndsTheMonitor) {
  TestSandbox box({"exit", "0"});
  pid_t seen = -1;
  absl::Status started = box.Start(box.Config(), [&](pid_t monitor) {
    seen = monitor;
    EXPECT_TRUE(IsAlive(monitor));
    return absl::InternalError("hook says no");
  });
  EXPECT_THAT(std::string(started.message()), HasSubstr("hook says no"));
  EXPECT_FALSE(IsAlive(seen));
  SandboxStart start = box.Config();
  start.join_cgroup = [](bool) { return absl::PermissionDeniedError("cgroup says no"); };
  EXPECT_THAT(std::string(box.Start(std::move(start)).message()), HasSubstr("cgroup says no"));
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
}

TEST(StartTest, HooksRunInTheMonitorsNamespacesBeforeTheSentry) {
  TestSandbox box({"sleep"});
  SandboxStart start = box.Config();
  start.namespaces = {{CLONE_NEWNET, ""}, {CLONE_NEWUTS, "/proc/self/ns/uts"}};
  bool joined_before = false;
  const std::string flag = box.directory + "/joined";
  start.join_cgroup = [&](bool) {
    close(open(flag.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    return absl::OkStatus();
  };
  std::string net;
  absl::Status started = box.Start(std::move(start), [&](pid_t monitor) {
    joined_before = unlink(flag.c_str()) == 0;
    net = Link(monitor, "ns/net");
    EXPECT_EQ(Link(monitor, "ns/uts"), Link(getpid(), "ns/uts"));
    return absl::OkStatus();
  });
  ASSERT_TRUE(started.ok()) << started;
  EXPECT_TRUE(joined_before);
  EXPECT_NE(net, Link(getpid(), "ns/net"));
  EXPECT_EQ(net, Link(box.processes.monitor_pid, "ns/net"));  // As Docker looks at it.
}

TEST(StartTest, SecondStartIsAnError) {
  TestSandbox box({"sleep"});
  ASSERT_STARTED(box);
  EXPECT_EQ(box.StartContainer().code(), Reply::OK);
  EXPECT_EQ(box.StartContainer().code(), Reply::ALREADY_STARTED);
}

TEST(StartTest, StdioIsPassedAsItIsAndKeptByNobodyElse) {
  TestSandbox box({"echo", "hello"});
  int out[2];
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  SandboxStart start = box.Config();
  start.stdio.fds[1] = UniqueFd(out[1]);
  ASSERT_TRUE(box.Start(std::move(start)).ok());
  for (pid_t pid : {box.processes.monitor_pid, box.processes.gofer_pid}) {
    for (int fd = 0; fd < 100; ++fd) {
      EXPECT_NE(Link(pid, absl::StrCat("fd/", fd)), Link(getpid(), absl::StrCat("fd/", out[0])));
    }
  }
  box.StartContainer();
  EXPECT_EQ(ExitStatus(box.AwaitMonitor()), 0);
  char text[16] = {};
  EXPECT_EQ(read(out[0], text, sizeof(text)), 5);
  EXPECT_EQ(std::string(text), "hello");
  EXPECT_EQ(read(out[0], text, sizeof(text)), 0);  // Nobody holds the other end.
  EXPECT_EQ(fcntl(out[0], F_GETFL) & O_NONBLOCK, 0);
  close(out[0]);
}

TEST(StartTest, TerminalIsRawAndItsSizeIsForwarded) {
  TestSandbox box({"winsize"});
  int master = -1;
  int slave = -1;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  fcntl(master, F_SETFD, FD_CLOEXEC);
  SandboxStart start = box.Config();
  start.container.mutable_init()->set_terminal(true);
  for (UniqueFd& fd : start.stdio.fds) fd.reset();
  start.stdio.terminal = UniqueFd(slave);
  ASSERT_TRUE(box.Start(std::move(start)).ok());
  termios attributes{};
  ASSERT_EQ(tcgetattr(master, &attributes), 0);
  EXPECT_EQ(attributes.c_lflag & (ICANON | ECHO | ISIG), 0u);
  EXPECT_EQ(attributes.c_oflag & OPOST, 0u);
  box.StartContainer();
  winsize size{.ws_row = 50, .ws_col = 123, .ws_xpixel = 0, .ws_ypixel = 0};
  ASSERT_EQ(ioctl(master, TIOCSWINSZ, &size), 0);
  EXPECT_EQ(ExitStatus(box.AwaitMonitor()), 123);
  close(master);
}

TEST(StartTest, TerminalHangUpEndsTheForegroundGroup) {
  TestSandbox box({"sleep"});
  int master = -1;
  int slave = -1;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  fcntl(master, F_SETFD, FD_CLOEXEC);
  SandboxStart start = box.Config();
  start.container.mutable_init()->set_terminal(true);
  for (UniqueFd& fd : start.stdio.fds) fd.reset();
  start.stdio.terminal = UniqueFd(slave);
  ASSERT_TRUE(box.Start(std::move(start)).ok());
  box.StartContainer();
  close(master);
  const int status = box.AwaitMonitor();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP) << status;
}

TEST(StartTest, GoferAnswersTheSentry) {
  TestSandbox box({"gofer"});
  ASSERT_STARTED(box);
  box.StartContainer();
  EXPECT_EQ(ExitStatus(box.AwaitMonitor()), 'h');
}

TEST(StartTest, AGoferThatIsDoneIsNotMissed) {
  TestSandbox box({"leave-gofer"});
  ASSERT_STARTED(box);
  box.StartContainer();
  EXPECT_TRUE(AwaitGone(box.processes.gofer_pid));
  EXPECT_TRUE(IsAlive(box.processes.monitor_pid));
  KillOne(box.processes.monitor_pid, SIGUSR1);
  EXPECT_EQ(ExitStatus(box.AwaitMonitor()), 7);
}

TEST(StartTest, AContainerWithoutHostFilesHasNoGofer) {
  TestSandbox box({"exit", "4"});
  SandboxStart start = box.Config();
  start.gofers.clear();
  ASSERT_TRUE(box.Start(std::move(start)).ok());
  EXPECT_EQ(box.processes.gofer_pid, -1);
  box.StartContainer();
  EXPECT_EQ(ExitStatus(box.AwaitMonitor()), 4);
}

TEST(StartTest, GoferRunsWithTheContainersIdMap) {
  TestSandbox box({"gofer"});
  chmod(box.directory.c_str(), 0755);
  SandboxStart start = box.Config();
  protocol::IdMapping map;
  map.set_inside(0);
  map.set_outside(100'000);
  map.set_count(65'536);
  start.uid_mappings = {map};
  start.gid_mappings = {map};
  ASSERT_TRUE(box.Start(std::move(start)).ok());
  EXPECT_THAT(ReadFile(absl::StrCat("/proc/", box.processes.gofer_pid, "/uid_map")),
              testing::ContainsRegex("^ *0 +100000 +65536\n$"));
  EXPECT_THAT(StatusField(box.processes.gofer_pid, "Uid"), HasSubstr("100000"));
  box.StartContainer();
  EXPECT_EQ(ExitStatus(box.AwaitMonitor()), 'h');
}

// As rootless engines call us: root of a user namespace that has one id.
TEST(StartTest, RunsInAUserNamespaceWithOneId) {
  TestSandbox box({"exit", "6"});
  const uid_t uid = getuid();
  const pid_t child = fork();
  if (child == 0) {
    const auto write_file = [](const char* path, const std::string& text) {
      UniqueFd fd(open(path, O_WRONLY | O_CLOEXEC));
      return write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    };
    const std::string map = absl::StrCat("0 ", uid, " 1");
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 ||
        !write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/uid_map", map) ||
        !write_file("/proc/self/gid_map", map)) {
      _exit(100);
    }
    absl::Status started = box.Start();
    if (!started.ok()) {
      fprintf(stderr, "%s\n", started.ToString().c_str());
      _exit(101);
    }
    box.StartContainer();
    _exit(ExitStatus(box.AwaitMonitor()));
  }
  EXPECT_EQ(ExitStatus(TestSandbox::AwaitChild(child)), 6);
}

TEST(SpawnTest, PicksAnIdThatIsMapped) {
  EXPECT_EQ(PickSandboxId("a", {{0, 0, 0xffffffff}}), PickSandboxId("a", {{0, 0, 0xffffffff}}));
  EXPECT_NE(PickSandboxId("a", {{0, 0, 0xffffffff}}), PickSandboxId("b", {{0, 0, 0xffffffff}}));
  EXPECT_GE(*PickSandboxId("a", {{0, 0, 0xffffffff}}), 0x70000000u);
  EXPECT_EQ(*PickSandboxId("a", {{0, 0, 65536}}), 65534u);
  EXPECT_EQ(*PickSandboxId("a", {{5, 5, 10}}), 5u);
}

TEST(ExecTest, MonitorEndsWithTheProcessesStatus) {
  TestSandbox box({"sleep"});
  ASSERT_STARTED(box);
  // In a created container too.
  absl::StatusOr<pid_t> exec = box.Exec({"exit", "4"});
  ASSERT_TRUE(exec.ok()) << exec.status();
  EXPECT_EQ(ExitStatus(TestSandbox::AwaitChild(*exec)), 4);
  box.StartContainer();
  exec = box.Exec({"exit", "3"});
  ASSERT_TRUE(exec.ok()) << exec.status();
  EXPECT_EQ(ExitStatus(TestSandbox::AwaitChild(*exec)), 3);
  exec = box.Exec({"sleep"});
  ASSERT_TRUE(exec.ok());
  KillOne(*exec, SIGUSR1);
  EXPECT_EQ(ExitStatus(TestSandbox::AwaitChild(*exec)), 7);
  EXPECT_EQ(ReplyCodeOf(box.Exec({"notfound"}).status()), Reply::EXECUTABLE_NOT_FOUND);
  EXPECT_TRUE(IsAlive(box.processes.monitor_pid));
}

TEST(ExecTest, AMonitorThatIsKilledTakesItsProcessAlong) {
  TestSandbox box({"sleep"});
  ASSERT_STARTED(box);
  box.StartContainer();
  absl::StatusOr<pid_t> exec = box.Exec({"sleep"});
  ASSERT_TRUE(exec.ok());
  Request ps;
  ps.mutable_ps()->set_container_id("box");
  EXPECT_EQ(box.Call(ps).processes_size(), 2);
  KillOne(*exec, SIGKILL);
  TestSandbox::AwaitChild(*exec);
  for (int i = 0; i < 5000 && box.Call(ps).processes_size() != 1; ++i) usleep(1000);
  EXPECT_EQ(box.Call(ps).processes_size(), 1);
}

TEST(ExecTest, EndsWith137WhenTheSandboxDies) {
  TestSandbox box({"sleep"});
  ASSERT_STARTED(box);
  box.StartContainer();
  absl::StatusOr<pid_t> exec = box.Exec({"sleep"});
  ASSERT_TRUE(exec.ok());
  KillOne(box.processes.sentry_pid, SIGKILL);
  EXPECT_EQ(ExitStatus(TestSandbox::AwaitChild(*exec)), 137);
  EXPECT_FALSE(box.Exec({"exit", "0"}).ok());
}

TEST(ControlClientTest, ReadsAReplyLongerThanAMessage) {
  TestSandbox box({"sleep"});
  ASSERT_STARTED(box);
  Request debug;
  debug.mutable_debug()->set_stacks(true);
  EXPECT_EQ(box.Call(debug).text().size(), 200'000u);
}

TEST(ControlClientTest, SaysThatAContainerIsGone) {
  TestSandbox box({"exit", "0"});
  ASSERT_STARTED(box);
  box.StartContainer();
  box.AwaitMonitor();
  EXPECT_EQ(ControlClient::Connect(box.socket_path).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(ControlClient::Connect(box.directory + "/other").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(ControlClientTest, SocketPathMayBeLong) {
  TestSandbox box({"exit", "5"});
  const std::string deep = box.directory + "/" + std::string(200, 'd');
  mkdir(deep.c_str(), 0700);
  const std::string before = std::exchange(box.socket_path, deep + "/control.sock");
  ASSERT_STARTED(box);
  box.StartContainer();
  EXPECT_EQ(ExitStatus(box.AwaitMonitor()), 5);
  unlink(box.socket_path.c_str());
  rmdir(deep.c_str());
}

TEST(ReplyStatusTest, BoundsAndCleansWhatASentrySays) {
  Reply reply;
  reply.set_code(Reply::PERMISSION_DENIED);
  reply.set_error("a\nb\x1b[31m" + std::string(100'000, 'x'));
  absl::Status status = ReplyStatus(reply);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()), testing::StartsWith("a?b?[31m"));
  EXPECT_THAT(std::string(status.message()), testing::EndsWith(": permission denied"));
  EXPECT_LT(status.message().size(), 2000u);
  EXPECT_EQ(ReplyCodeOf(status), Reply::PERMISSION_DENIED);
  EXPECT_TRUE(ReplyStatus(Reply()).ok());
}

}  // namespace
}  // namespace caisson::runsc
