// One control request: its descriptors checked against its kind, and passed to the kernel.
#ifndef CAISSON_SENTRY_BOOT_REQUESTS_H_
#define CAISSON_SENTRY_BOOT_REQUESTS_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "sentry/boot/kernel_control.h"

namespace caisson::boot {

// Runs any request but WaitRequest and BootRequest (INVALID). `*owned` is set to the container and
// pid (0 for a container) that it made.
struct OwnedProcess {
  std::string container_id;  // Empty: none.
  int32_t pid = 0;
};
protocol::Reply RunRequest(KernelControl& kernel, const protocol::Request& request,
                           std::vector<UniqueFd> fds, OwnedProcess* owned);

protocol::Reply ErrorReply(protocol::Reply::Code code, absl::string_view text);

// Sends `reply`, in a memfd if it is longer than a message; one that is longer than kMaxPayload
// becomes an error.
void SendReply(int socket, const protocol::Reply& reply);

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_REQUESTS_H_
