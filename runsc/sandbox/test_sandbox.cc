#include "runsc/sandbox/test_sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "base/test_temp.h"
#include "confine/role.h"
#include "gofer/process.h"
#include "gtest/gtest.h"
#include "runsc/sandbox/monitor.h"
#include "sentry/boot/fake_kernel.h"

namespace caisson::runsc {
namespace {

constexpr int kPatienceMs = 10'000;

void SleepMs(int ms) {
  const timespec pause{.tv_sec = 0, .tv_nsec = ms * 1'000'000};
  nanosleep(&pause, nullptr);
}

// Answers each byte of the first connection with the next one, confined as the real one is.
int ServeFake(std::vector<gofer::Connection> connections, gofer::ServeOptions options) {
  if (!options.confine()) return EPERM;
  if (connections.empty()) return EINVAL;
  char byte = 0;
  iovec data{&byte, 1};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  while (recvmsg(connections[0].socket.get(), &header, 0) == 1) {
    ++byte;
    sendmsg(connections[0].socket.get(), &header, MSG_NOSIGNAL);
  }
  return 0;
}

}  // namespace

int TestMain(int argc, char** argv) {
  const std::string role = argv[0];
  if (role == confine::kMonitorRole) return MonitorMain(argc, argv);
  if (role == confine::kSentryRole) return boot::RunSentry(argc, argv, boot::FakeParts());
  if (role == confine::kGoferRole) return gofer::RunGofer(argc, argv, ServeFake);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

TestSandbox::TestSandbox(std::vector<std::string> args) : args(std::move(args)) {
  std::string name = TempPattern("caisson-sandbox-test");
  directory = mkdtemp(name.data());
  socket_path = directory + "/control.sock";
  mkdir((directory + "/root").c_str(), 0755);
}

TestSandbox::~TestSandbox() {
  KillSandbox(processes).IgnoreError();
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  unlink(socket_path.c_str());
  rmdir((directory + "/root").c_str());
  rmdir(directory.c_str());
}

SandboxStart TestSandbox::Config() {
  SandboxStart start;
  start.config.set_debug(false);
  start.config.set_network("none");
  start.container.set_id("box");
  for (const std::string& arg : args) start.container.mutable_init()->add_args(arg);
  GoferSource root;
  root.path_fd = UniqueFd(open((directory + "/root").c_str(), O_PATH | O_CLOEXEC));
  start.gofers.push_back(std::move(root));
  for (UniqueFd& fd : start.stdio.fds) fd = UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
  start.control_socket_path = socket_path;
  start.log_fd = STDERR_FILENO;
  return start;
}

absl::Status TestSandbox::Start(SandboxStart start,
                                const std::function<absl::Status(pid_t)>& after_namespaces) {
  absl::StatusOr<SandboxProcesses> started = StartSandbox(std::move(start), after_namespaces);
  if (!started.ok()) return started.status();
  processes = *started;
  return absl::OkStatus();
}

absl::StatusOr<pid_t> TestSandbox::Exec(std::vector<std::string> exec_args) {
  ExecStart start;
  start.control_socket_path = socket_path;
  start.container_id = "box";
  for (const std::string& arg : exec_args) start.process.add_args(arg);
  for (UniqueFd& fd : start.stdio.fds) fd = UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
  return StartExec(std::move(start));
}

protocol::Reply TestSandbox::Call(const protocol::Request& request) {
  protocol::Reply failed;
  failed.set_code(protocol::Reply::INTERNAL);
  absl::StatusOr<ControlClient> client = ControlClient::Connect(socket_path);
  if (!client.ok()) {
    failed.set_error(client.status().ToString());
    return failed;
  }
  absl::StatusOr<protocol::Reply> reply = client->Call(request);
  if (!reply.ok()) {
    failed.set_error(reply.status().ToString());
    return failed;
  }
  return *reply;
}

protocol::Reply TestSandbox::StartContainer() {
  protocol::Request request;
  request.mutable_start_container()->set_container_id("box");
  return Call(request);
}

int TestSandbox::AwaitChild(pid_t pid) {
  EXPECT_GT(pid, 1) << "no process to wait for";
  for (int waited = 0; pid > 1 && waited < kPatienceMs; ++waited) {
    int status = 0;
    const pid_t got = waitpid(pid, &status, WNOHANG);
    if (got == pid) return status;
    if (got < 0) return -1;
    SleepMs(1);
  }
  return -1;
}

int KillOne(pid_t pid, int signal) {
  EXPECT_GT(pid, 1) << "no process to signal";
  return pid > 1 ? kill(pid, signal) : -1;
}

bool IsAlive(pid_t pid) {
  const std::string state = StatusField(pid, "State");
  return !state.empty() && state[0] != 'Z' && state[0] != 'X';
}

bool AwaitGone(pid_t pid) {
  for (int waited = 0; waited < kPatienceMs && IsAlive(pid); ++waited) SleepMs(1);
  return !IsAlive(pid);
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string StatusField(pid_t pid, const std::string& key) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  std::string line;
  while (std::getline(file, line)) {
    if (line.substr(0, key.size() + 2) == key + ":\t") return line.substr(key.size() + 2);
  }
  return "";
}

}  // namespace caisson::runsc
