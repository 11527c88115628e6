// For the tests of this folder: a sandbox with a fake kernel, of which the test executable itself
// plays every role.
#ifndef CAISSON_RUNSC_SANDBOX_TEST_SANDBOX_H_
#define CAISSON_RUNSC_SANDBOX_TEST_SANDBOX_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "runsc/sandbox/sandbox.h"

namespace caisson::runsc {

// main() of a test: roles first, then the tests.
int TestMain(int argc, char** argv);

// A temporary directory with a control socket in it and a source for the gofer, and a container
// "box" with `args`, on /dev/null.
class TestSandbox {
 public:
  explicit TestSandbox(std::vector<std::string> args);
  ~TestSandbox();

  SandboxStart Config();
  absl::Status Start() { return Start(Config()); }
  absl::Status Start(SandboxStart start,
                     const std::function<absl::Status(pid_t)>& after_namespaces = {});
  absl::StatusOr<pid_t> Exec(std::vector<std::string> args);

  protocol::Reply Call(const protocol::Request& request);
  protocol::Reply StartContainer();
  // waitpid() of the monitor, or of an exec's; at most 10 s, then -1.
  int AwaitMonitor() { return AwaitChild(processes.monitor_pid); }
  static int AwaitChild(pid_t pid);

  std::string directory;
  std::string socket_path;
  std::vector<std::string> args;
  SandboxProcesses processes;
};

// kill(2) of one process. Never anything else: with a pid that a failed start left at -1 the call
// itself would signal every process of the machine. Fails the test instead.
int KillOne(pid_t pid, int signal);
// Whether the process exists and is not a zombie.
bool IsAlive(pid_t pid);
// Polls until it is not, at most 10 s.
bool AwaitGone(pid_t pid);
std::string ReadFile(const std::string& path);
// The value of "KEY:\tVALUE" in /proc/PID/status.
std::string StatusField(pid_t pid, const std::string& key);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_SANDBOX_TEST_SANDBOX_H_
