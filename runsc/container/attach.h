// Descriptors of a new process: stdio, terminal, preserved ones; pid files.
#ifndef CAISSON_RUNSC_CONTAINER_ATTACH_H_
#define CAISSON_RUNSC_CONTAINER_ATTACH_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/container/container.h"
#include "runsc/sandbox/sandbox.h"
#include "sentry/protocol/container.pb.h"

namespace caisson::runsc {

struct Attached {
  Stdio stdio;
  UniqueFd master;
};

// Checks that terminal, console socket and detaching go together, and collects the descriptors.
// Preserved ones (LISTEN_FDS of the environment, then `preserve_fds`) are noted in `process`.
absl::StatusOr<Attached> Attach(const Attachment& attachment, protocol::Process& process);

// Once the process exists: hands the pty's master to the console socket (and keeps it otherwise),
// and writes pid file and pidfd socket.
absl::Status Announce(const Attachment& attachment, pid_t monitor, UniqueFd& master);

// The file of --debug-log for this command and container. Without one, --strace goes where our own
// log goes; invalid where there is neither.
absl::StatusOr<UniqueFd> OpenDebugLog(const Options& options, const std::string& command,
                                      const std::string& id);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_ATTACH_H_
