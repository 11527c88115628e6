#include "runsc/sandbox/control_socket.h"
#include "runsc/sandbox/sandbox.h"
#include "sentry/protocol/channel.h"

#include "base/status.h"

namespace caisson::runsc {

absl::StatusOr<ControlClient> ControlClient::Connect(const std::string& socket_path) {
  ASSIGN_OR_RETURN(UniqueFd fd, ConnectControl(socket_path));
  return ControlClient(std::move(fd));
}

absl::StatusOr<protocol::Reply> ControlClient::Call(const protocol::Request& request,
                                                    const std::vector<int>& fds, int timeout_ms) {
  RETURN_IF_ERROR(protocol::SendMessage(fd_.get(), request, fds));
  protocol::Reply reply;
  std::vector<UniqueFd> received;
  RETURN_IF_ERROR(protocol::ReceiveMessage(fd_.get(), &reply, &received, timeout_ms));
  if (!reply.in_payload()) {
    if (!received.empty()) return absl::InternalError("reply with unexpected descriptors");
    return reply;
  }
  if (received.size() != 1) return absl::InternalError("reply without its payload");
  protocol::Reply full;
  RETURN_IF_ERROR(protocol::ReadSealedPayload(received[0].get(), &full));
  return full;
}

}  // namespace caisson::runsc
