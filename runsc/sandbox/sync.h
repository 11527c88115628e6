// What a starting monitor tells the command line, on a SOCK_SEQPACKET pair of their own.
#ifndef CAISSON_RUNSC_SANDBOX_SYNC_H_
#define CAISSON_RUNSC_SANDBOX_SYNC_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "sentry/protocol/control.pb.h"

namespace caisson::runsc {

struct SyncMessage {
  enum Kind : uint32_t {
    kInNamespaces,  // Cgroup and namespaces are entered; waits for kGo.
    kGo,            // From the command line.
    kSpawned,       // The pids are set.
    kDone,          // The container is created, or the process runs.
    kFailed,        // code and text.
  };
  uint32_t kind = kFailed;
  int32_t code = protocol::Reply::INTERNAL;
  int32_t sentry_pid = -1;
  int32_t gofer_pid = -1;
  char text[2048] = {};  // Terminated.
};

absl::Status SendSync(int socket, const SyncMessage& message);
// kFailed with `status`, and the Reply code that it carries.
void SendSyncFailure(int socket, const absl::Status& status);
// Errors: kDeadlineExceeded; kCancelled, if the other side has gone.
absl::StatusOr<SyncMessage> ReceiveSync(int socket, int timeout_ms);

// A status as an operator reads it, from what a sentry, which is not trusted, replied: bounded,
// without control characters, with the text that engines match for its code. It keeps the code.
absl::Status StatusFromReply(protocol::Reply::Code code, absl::string_view text);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_SANDBOX_SYNC_H_
