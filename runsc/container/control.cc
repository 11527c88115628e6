#include "runsc/container/control.h"

#include "base/status.h"

namespace caisson::runsc {

absl::StatusOr<protocol::Reply> CallSentry(const std::string& socket,
                                           const protocol::Request& request, int timeout_ms) {
  ASSIGN_OR_RETURN(ControlClient client, ControlClient::Connect(socket));
  ASSIGN_OR_RETURN(protocol::Reply reply, client.Call(request, {}, timeout_ms));
  RETURN_IF_ERROR(ReplyStatus(reply));
  return reply;
}

}  // namespace caisson::runsc
