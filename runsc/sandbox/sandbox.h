// The processes of a sandbox, seen from the command line: start them, talk to them, end them.
#ifndef CAISSON_RUNSC_SANDBOX_SANDBOX_H_
#define CAISSON_RUNSC_SANDBOX_SANDBOX_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "sentry/protocol/container.pb.h"
#include "sentry/protocol/control.pb.h"

namespace caisson::runsc {

// A host directory or file that the gofer serves, in the order of the container's GOFER mounts.
struct GoferSource {
  UniqueFd path_fd;  // O_PATH, opened before confinement; not a symbolic link.
  bool read_only = false;
  bool is_file = false;
};

struct Stdio {
  // Without a terminal: the three inherited descriptors. With one: `terminal` is the host pty's
  // slave, which the monitor keeps (SIGWINCH becomes a control message).
  std::array<UniqueFd, 3> fds;
  UniqueFd terminal;
  std::vector<UniqueFd> preserved;
};

struct NamespacePath {
  int clone_flag = 0;   // CLONE_NEWNET and so on.
  std::string path;     // Empty: a new one.
};

struct SandboxStart {
  protocol::SandboxConfig config;
  protocol::Container container;
  std::vector<GoferSource> gofers;
  Stdio stdio;
  std::string control_socket_path;   // Where the sentry's control socket is bound, in the state dir.
  UniqueFd exit_status;  // Gets the container's wait status, in decimal, when it has ended.
  int log_fd = -1;                   // Borrowed; -1 for none.
  int debug_log_fd = -1;
  // Host-side namespaces the monitor enters (network: Docker's setup looks at /proc/PID/ns/net).
  std::vector<NamespacePath> namespaces;
  std::vector<protocol::IdMapping> uid_mappings;  // Empty: the gofer maps identity.
  std::vector<protocol::IdMapping> gid_mappings;
  // Run in the monitor before anything else, to join the container's cgroup. `in_v2`: it was made in
  // the one of `cgroup_v2`, a directory, already.
  std::function<absl::Status(bool in_v2)> join_cgroup;
  UniqueFd cgroup_v2;
  // The container's memory: usage, limit and statistics, open for reading; or none of them.
  std::array<UniqueFd, 3> memory;
};

// What `create` learns and the state file keeps.
struct SandboxProcesses {
  pid_t monitor_pid = -1;
  uint64_t monitor_start_time = 0;  // Field 22 of /proc/PID/stat, against pid reuse.
  pid_t sentry_pid = -1;
  uint64_t sentry_start_time = 0;
  pid_t gofer_pid = -1;  // -1: no GOFER mounts.
  uint64_t gofer_start_time = 0;
};

// Starts monitor, gofer and sentry, confines them and has the sentry build the container; its
// first process does not run before StartContainer. `after_namespaces` runs in the caller when the
// monitor is in its namespaces and cgroup and before the sentry starts (prestart and
// createRuntime hooks). On failure everything that was started is gone again.
// Errors carry one of the texts that engines match ("executable file not found in $PATH", ...).
absl::StatusOr<SandboxProcesses> StartSandbox(
    SandboxStart start, const std::function<absl::Status(pid_t monitor)>& after_namespaces);

// Starts a process in a running container under a monitor of its own, whose pid is returned; the
// monitor exits as the process does.
struct ExecStart {
  std::string control_socket_path;
  std::string container_id;
  protocol::Process process;
  Stdio stdio;
  std::function<absl::Status(bool in_v2)> join_cgroup;
  UniqueFd cgroup_v2;
  std::vector<NamespacePath> namespaces;
  UniqueFd mount_namespace;  // That of the container's monitor, which this one's enters.
};
absl::StatusOr<pid_t> StartExec(ExecStart start);

// One control connection to a sentry. Replies are bounded and checked: the sentry is hostile here.
class ControlClient {
 public:
  static absl::StatusOr<ControlClient> Connect(const std::string& socket_path);
  // Sends `request` with `fds` (borrowed) and waits for the reply, at most `timeout_ms` (-1: no
  // limit). A Reply with a code other than OK is a reply, not an error of this function.
  absl::StatusOr<protocol::Reply> Call(const protocol::Request& request,
                                       const std::vector<int>& fds = {}, int timeout_ms = 10'000);

 private:
  explicit ControlClient(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// A failed reply as a status: its text is bounded and without control characters, and has the words
// that engines match for its code. OK for a reply that is.
absl::Status ReplyStatus(const protocol::Reply& reply);
// The code that a status of ReplyStatus, StartSandbox or StartExec carries; INTERNAL if none.
// EXECUTABLE_NOT_FOUND, NO_SUCH_FILE and NOT_A_DIRECTORY mean exit status 127, PERMISSION_DENIED
// and BAD_EXECUTABLE 126.
protocol::Reply::Code ReplyCodeOf(const absl::Status& status);

// Kills what is left of a sandbox, by pid and start time, and waits until it is gone.
absl::Status KillSandbox(const SandboxProcesses& processes);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_SANDBOX_SANDBOX_H_
