#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/container/control.h"

namespace caisson::cmd {

absl::StatusOr<int> Metrics(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  protocol::Request request;
  request.mutable_debug()->set_metrics(true);
  ASSIGN_OR_RETURN(protocol::Reply reply, runsc::CallSentry(container.dir.control_socket(), request));
  RETURN_IF_ERROR(Print(Printable(reply.text())));
  return 0;
}

}  // namespace caisson::cmd
