#include "runsc/sandbox/sync.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/sandbox/sandbox.h"

namespace caisson::runsc {
namespace {

using protocol::Reply;

constexpr char kCodeUrl[] = "caisson/reply-code";
constexpr size_t kMaxErrorText = 1024;

struct CodeMeaning {
  Reply::Code code;
  absl::StatusCode status;
  const char* text;  // What engines match.
};
constexpr CodeMeaning kMeanings[] = {
    {Reply::INTERNAL, absl::StatusCode::kInternal, ""},
    {Reply::NOT_FOUND, absl::StatusCode::kNotFound, "does not exist"},
    {Reply::NOT_RUNNING, absl::StatusCode::kFailedPrecondition, "container not running"},
    {Reply::ALREADY_STARTED, absl::StatusCode::kFailedPrecondition, "already started"},
    {Reply::EXECUTABLE_NOT_FOUND, absl::StatusCode::kNotFound,
     "executable file not found in $PATH"},
    {Reply::NO_SUCH_FILE, absl::StatusCode::kNotFound, "no such file or directory"},
    {Reply::PERMISSION_DENIED, absl::StatusCode::kPermissionDenied, "permission denied"},
    {Reply::NOT_A_DIRECTORY, absl::StatusCode::kInvalidArgument, "not a directory"},
    {Reply::INVALID, absl::StatusCode::kInvalidArgument, ""},
    {Reply::BAD_EXECUTABLE, absl::StatusCode::kFailedPrecondition, "exec format error"},
};

const CodeMeaning& MeaningOf(Reply::Code code) {
  for (const CodeMeaning& meaning : kMeanings) {
    if (meaning.code == code) return meaning;
  }
  return kMeanings[0];
}

}  // namespace

absl::Status SendSync(int socket, const SyncMessage& message) {
  if (send(socket, &message, sizeof(message), MSG_NOSIGNAL) != sizeof(message)) {
    return absl::CancelledError("the command line has gone");
  }
  return absl::OkStatus();
}

void SendSyncFailure(int socket, const absl::Status& status) {
  SyncMessage message;
  message.kind = SyncMessage::kFailed;
  message.code = ReplyCodeOf(status);
  const absl::string_view text = status.message().substr(0, sizeof(message.text) - 1);
  memcpy(message.text, text.data(), text.size());
  // The other side may be gone; then nobody asks any more.
  static_cast<void>(SendSync(socket, message));
}

absl::StatusOr<SyncMessage> ReceiveSync(int socket, int timeout_ms) {
  pollfd entry{.fd = socket, .events = POLLIN, .revents = 0};
  const timespec timeout{.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1'000'000};
  int ready;
  do {
    ready = ppoll(&entry, 1, &timeout, nullptr);
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return HostErrnoStatus(errno, "poll");
  if (ready == 0) return absl::DeadlineExceededError("timed out");
  SyncMessage message;
  const ssize_t n = recv(socket, &message, sizeof(message), 0);
  if (n != sizeof(message)) return absl::CancelledError("the other process has gone");
  message.text[sizeof(message.text) - 1] = 0;
  return message;
}

absl::Status StatusFromReply(Reply::Code code, absl::string_view text) {
  if (code == Reply::OK) return absl::OkStatus();
  const CodeMeaning& meaning = MeaningOf(code);
  std::string message;
  for (char c : text.substr(0, kMaxErrorText)) {
    message += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  if (!absl::StrContains(message, meaning.text)) {
    absl::StrAppend(&message, message.empty() ? "" : ": ", meaning.text);
  }
  if (message.empty()) message = "the sandbox reported an error";
  absl::Status status(meaning.status, message);
  status.SetPayload(kCodeUrl, absl::Cord(absl::StrCat(static_cast<int>(meaning.code))));
  return status;
}

absl::Status ReplyStatus(const Reply& reply) { return StatusFromReply(reply.code(), reply.error()); }

Reply::Code ReplyCodeOf(const absl::Status& status) {
  if (status.ok()) return Reply::OK;
  auto payload = status.GetPayload(kCodeUrl);
  if (!payload.has_value()) return Reply::INTERNAL;
  const int code = atoi(std::string(*payload).c_str());
  return Reply::Code_IsValid(code) ? static_cast<Reply::Code>(code) : Reply::INTERNAL;
}

}  // namespace caisson::runsc
