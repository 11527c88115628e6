#include "sentry/boot/requests.h"

#include <utility>

#include "base/log.h"
#include "sentry/protocol/channel.h"

namespace caisson::boot {
namespace {

using protocol::Reply;
using protocol::Request;

constexpr size_t kTerminalFds = 1;
constexpr size_t kStdioFds = 3;
constexpr int kMaxSignal = 64;

std::vector<UniqueFd> TakeFront(std::vector<UniqueFd>& fds, size_t count) {
  std::vector<UniqueFd> taken;
  for (size_t i = 0; i < count; ++i) taken.push_back(std::move(fds[i]));
  fds.erase(fds.begin(), fds.begin() + static_cast<ptrdiff_t>(count));
  return taken;
}

// Splits what is left of a message's descriptors into stdio and preserved ones.
bool TakeProcessFds(const protocol::Process& process, std::vector<UniqueFd> fds, ProcessFds* out) {
  const size_t stdio = process.terminal() ? kTerminalFds : kStdioFds;
  if (fds.size() != stdio + process.preserved_fds()) return false;
  out->stdio = TakeFront(fds, stdio);
  out->preserved = std::move(fds);
  return true;
}

Reply Create(KernelControl& kernel, const protocol::CreateContainer& request,
             std::vector<UniqueFd> fds, OwnedProcess* owned) {
  protocol::Container container;
  if (fds.empty() || !protocol::ReadSealedPayload(fds[0].get(), &container).ok()) {
    return ErrorReply(Reply::INVALID, "container is missing or malformed");
  }
  TakeFront(fds, 1);
  if (fds.size() < request.gofer_connections()) {
    return ErrorReply(Reply::INVALID, "gofer connections are missing");
  }
  std::vector<UniqueFd> gofers = TakeFront(fds, request.gofer_connections());
  ProcessFds process_fds;
  if (!TakeProcessFds(container.init(), std::move(fds), &process_fds)) {
    return ErrorReply(Reply::INVALID, "wrong number of descriptors");
  }
  const std::string id = container.id();
  Reply reply =
      kernel.CreateContainer(std::move(container), std::move(gofers), std::move(process_fds));
  if (reply.code() == Reply::OK) *owned = {id, 0};
  return reply;
}

Reply Exec(KernelControl& kernel, const protocol::ExecRequest& request, std::vector<UniqueFd> fds,
           OwnedProcess* owned) {
  protocol::Process process;
  if (fds.empty() || !protocol::ReadSealedPayload(fds[0].get(), &process).ok()) {
    return ErrorReply(Reply::INVALID, "process is missing or malformed");
  }
  TakeFront(fds, 1);
  ProcessFds process_fds;
  if (!TakeProcessFds(process, std::move(fds), &process_fds)) {
    return ErrorReply(Reply::INVALID, "wrong number of descriptors");
  }
  Reply reply = kernel.Exec(request.container_id(), std::move(process), std::move(process_fds));
  if (reply.code() == Reply::OK) *owned = {request.container_id(), reply.pid()};
  return reply;
}

}  // namespace

Reply ErrorReply(Reply::Code code, absl::string_view text) {
  Reply reply;
  reply.set_code(code);
  reply.set_error(std::string(text));
  return reply;
}

Reply RunRequest(KernelControl& kernel, const Request& request, std::vector<UniqueFd> fds,
                 OwnedProcess* owned) {
  if (request.kind_case() == Request::kCreateContainer) {
    return Create(kernel, request.create_container(), std::move(fds), owned);
  }
  if (request.kind_case() == Request::kExec) {
    return Exec(kernel, request.exec(), std::move(fds), owned);
  }
  if (!fds.empty()) return ErrorReply(Reply::INVALID, "unexpected descriptors");
  switch (request.kind_case()) {
    case Request::kStartContainer:
      return kernel.StartContainer(request.start_container().container_id());
    case Request::kSignal:
      if (request.signal().signal() < 0 || request.signal().signal() > kMaxSignal) {
        return ErrorReply(Reply::INVALID, "invalid signal");
      }
      return kernel.Signal(request.signal());
    case Request::kPs: return kernel.Ps(request.ps().container_id());
    case Request::kWindowSize: return kernel.SetWindowSize(request.window_size());
    case Request::kPause: return kernel.Pause(request.pause());
    case Request::kResume: return kernel.Resume(request.resume().container_id());
    case Request::kEvents: return kernel.Events(request.events().container_id());
    case Request::kDebug: return kernel.Debug(request.debug());
    case Request::kDestroy: return kernel.Destroy(request.destroy().container_id());
    case Request::kUpdate: return kernel.Update(request.update());
    case Request::kState: return kernel.State(request.state().container_id());
    default: return ErrorReply(Reply::INVALID, "unknown request");
  }
}

void SendReply(int socket, const Reply& reply) {
  absl::Status sent;
  if (reply.ByteSizeLong() <= protocol::kMaxControlMessage) {
    sent = protocol::SendMessage(socket, reply, {}, /*dont_wait=*/true);
  } else {
    absl::StatusOr<UniqueFd> payload = protocol::SealedPayload(reply, "reply");
    if (payload.ok()) {
      Reply envelope;
      envelope.set_in_payload(true);
      const int fd = payload->get();
      sent = protocol::SendMessage(socket, envelope, {&fd, 1}, /*dont_wait=*/true);
    } else {
      sent = protocol::SendMessage(
          socket, ErrorReply(Reply::INTERNAL, "reply could not be sent"), {}, /*dont_wait=*/true);
      LOG_WARNING("control: reply of ", reply.ByteSizeLong(),
                  " bytes: ", payload.status().message());
    }
  }
  // A peer that is gone is noticed by the poller.
  if (!sent.ok()) LOG_DEBUG("control: reply not sent: ", sent.message());
}

}  // namespace caisson::boot
