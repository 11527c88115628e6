#include <poll.h>
#include <sys/wait.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/container/control.h"
#include "runsc/container/process.h"

namespace caisson::cmd {
namespace {

// Of a container that has ended; where its monitor was killed, as its monitor's status would be.
int RecordedStatus(const Opened& container) {
  constexpr int kSandboxDied = 137 << 8;
  return container.dir.ExitStatus().value_or(kSandboxDied);
}

// The sentry answers before the container is stopped in the eyes of `state` and `delete`: that is
// when its monitor has ended.
void AwaitMonitor(const Opened& container) {
  constexpr int kLimitMs = 5'000;
  const runsc::SandboxProcesses& processes = container.state.processes;
  UniqueFd pidfd = runsc::OpenPidfd(processes.monitor_pid);
  if (!pidfd || !runsc::IsAlive(processes.monitor_pid, processes.monitor_start_time)) return;
  pollfd entry{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  (void)poll(&entry, 1, kLimitMs);
}

absl::StatusOr<int> AwaitStatus(const Args& args, const Opened& container) {
  if (runsc::StatusOf(container.dir, container.state) == runsc::Status::kStopped) {
    if (args.pid == 0) return RecordedStatus(container);
    return absl::FailedPreconditionError("container not running");
  }
  protocol::Request request;
  request.mutable_wait()->set_container_id(container.state.id);
  request.mutable_wait()->set_pid(args.pid);
  absl::StatusOr<protocol::Reply> reply =
      runsc::CallSentry(container.dir.control_socket(), request, /*timeout_ms=*/-1);
  if (reply.ok()) {
    if (args.pid == 0) AwaitMonitor(container);
    return reply->wait_status();
  }
  if (args.pid != 0) return reply.status();
  // The sentry may end before it has answered everybody, or be gone before its monitor has said so.
  AwaitMonitor(container);
  if (runsc::StatusOf(container.dir, container.state) != runsc::Status::kStopped) return reply.status();
  return RecordedStatus(container);
}

}  // namespace

// Prints {"id":...,"exitStatus":...}, as gVisor's does.
absl::StatusOr<int> Wait(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  ASSIGN_OR_RETURN(int status, AwaitStatus(args, container));
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  oci::Json json = oci::Json::Object();
  json.Set("id", oci::Json(container.state.id));
  json.Set("exitStatus", code);
  RETURN_IF_ERROR(Print(json.ToText() + "\n"));
  return 0;
}

}  // namespace caisson::cmd
