// Messages of control.proto on a SOCK_SEQPACKET socket, with descriptors beside them. Used by both
// sides, each of which takes the other for hostile: lengths and descriptor counts are bounded, and
// a message that does not parse is an error.
#ifndef CAISSON_SENTRY_PROTOCOL_CHANNEL_H_
#define CAISSON_SENTRY_PROTOCOL_CHANNEL_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace google::protobuf {
class MessageLite;
}

namespace caisson::protocol {

inline constexpr size_t kMaxControlMessage = 64 * 1024;
inline constexpr size_t kMaxControlFds = 253;  // SCM_MAX_FD of Linux.
// Of a payload in a memfd: a Container, a Process or a long Reply.
inline constexpr size_t kMaxPayload = 16 << 20;

struct SocketPair {
  UniqueFd first;
  UniqueFd second;
};
// Two connected SOCK_SEQPACKET sockets, close-on-exec.
absl::StatusOr<SocketPair> MakeSocketPair();

// Sends one message with `fds` (borrowed). Blocks while the peer's queue is full, unless
// `dont_wait`: then kUnavailable. Errors: kInvalidArgument (too large), kUnavailable (peer gone).
absl::Status SendMessage(int socket, const google::protobuf::MessageLite& message,
                         absl::Span<const int> fds = {}, bool dont_wait = false);

// Receives one message into `*message`; descriptors beside it, close-on-exec, are appended to
// `*fds`, which may be null: then a message with descriptors is an error. `timeout_ms` -1: no limit.
// Errors: kOutOfRange (the peer has closed), kDeadlineExceeded, kInvalidArgument (what came is not
// a bounded, well-formed message; its descriptors are closed).
absl::Status ReceiveMessage(int socket, google::protobuf::MessageLite* message,
                            std::vector<UniqueFd>* fds, int timeout_ms);

// A memfd that holds `message` and is sealed: its reader needs not fear changes.
absl::StatusOr<UniqueFd> SealedPayload(const google::protobuf::MessageLite& message,
                                       const char* name);
// Reads it back. Errors: kInvalidArgument, if `fd` is not a sealed memfd of at most kMaxPayload
// bytes with a well-formed message.
absl::Status ReadSealedPayload(int fd, google::protobuf::MessageLite* message);

}  // namespace caisson::protocol

#endif  // CAISSON_SENTRY_PROTOCOL_CHANNEL_H_
