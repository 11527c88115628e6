#include "runsc/container/control.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace caisson::runsc {

absl::Status ReplyStatus(const protocol::Reply& reply) {
  using protocol::Reply;
  constexpr size_t kMaxText = 1000;
  std::string text = absl::CHexEscape(reply.error().substr(0, kMaxText));
  switch (reply.code()) {
    case Reply::OK: return absl::OkStatus();
    case Reply::NOT_FOUND: return absl::NotFoundError(absl::StrCat("no such process: ", text));
    case Reply::NOT_RUNNING: return absl::FailedPreconditionError("container not running");
    case Reply::ALREADY_STARTED:
      return absl::FailedPreconditionError("cannot start an already running container");
    case Reply::EXECUTABLE_NOT_FOUND:
      return absl::NotFoundError(absl::StrCat(text, ": executable file not found in $PATH"));
    case Reply::NO_SUCH_FILE:
      return absl::NotFoundError(absl::StrCat(text, ": no such file or directory"));
    case Reply::PERMISSION_DENIED:
      return absl::PermissionDeniedError(absl::StrCat(text, ": permission denied"));
    case Reply::NOT_A_DIRECTORY:
      return absl::InvalidArgumentError(absl::StrCat(text, ": not a directory"));
    case Reply::BAD_EXECUTABLE:
      return absl::InvalidArgumentError(absl::StrCat(text, ": exec format error"));
    case Reply::INVALID: return absl::InvalidArgumentError(text);
    default: return absl::InternalError(absl::StrCat("sentry: ", text));
  }
}

absl::StatusOr<protocol::Reply> CallSentry(const std::string& socket,
                                           const protocol::Request& request, int timeout_ms) {
  ASSIGN_OR_RETURN(ControlClient client, ControlClient::Connect(socket));
  ASSIGN_OR_RETURN(protocol::Reply reply, client.Call(request, {}, timeout_ms));
  RETURN_IF_ERROR(ReplyStatus(reply));
  return reply;
}

}  // namespace caisson::runsc
