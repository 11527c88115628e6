#include <poll.h>
#include <sys/wait.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/container/control.h"

namespace caisson::cmd {

// Prints {"id":...,"exitStatus":...}, as gVisor's does.
absl::StatusOr<int> Wait(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  if (runsc::StatusOf(container.dir, container.state) == runsc::Status::kStopped) {
    return absl::FailedPreconditionError(
        "container not running: its exit status went to who started it");
  }
  protocol::Request request;
  request.mutable_wait()->set_container_id(container.state.id);
  request.mutable_wait()->set_pid(args.pid);
  ASSIGN_OR_RETURN(protocol::Reply reply,
                   runsc::CallSentry(container.dir.control_socket(), request, /*timeout_ms=*/-1));
  int status = reply.wait_status();
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  oci::Json json = oci::Json::Object();
  json.Set("id", oci::Json(container.state.id));
  json.Set("exitStatus", code);
  RETURN_IF_ERROR(Print(json.ToText() + "\n"));
  return 0;
}

}  // namespace caisson::cmd
