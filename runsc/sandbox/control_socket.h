// The control socket's place in the file system. Its path may be longer than sun_path: it is
// reached through a descriptor of its directory.
#ifndef CAISSON_RUNSC_SANDBOX_CONTROL_SOCKET_H_
#define CAISSON_RUNSC_SANDBOX_CONTROL_SOCKET_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace caisson::runsc {

// A listening socket bound at `path`, for the owner only; replaces what is there.
absl::StatusOr<UniqueFd> ListenControl(const std::string& path);

// Errors: kNotFound (no such socket), kUnavailable (nobody listens: the sandbox is gone).
absl::StatusOr<UniqueFd> ConnectControl(const std::string& path);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_SANDBOX_CONTROL_SOCKET_H_
