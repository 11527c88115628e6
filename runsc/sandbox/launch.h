// The first half of a monitor's life, before it executes itself: cgroup, namespaces, terminal, and
// the processes of the sandbox. Runs in a child of the command line.
#ifndef CAISSON_RUNSC_SANDBOX_LAUNCH_H_
#define CAISSON_RUNSC_SANDBOX_LAUNCH_H_

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "runsc/sandbox/sandbox.h"

namespace caisson::runsc {

struct HostFds {
  UniqueFd exe;      // This executable.
  UniqueFd null;     // /dev/null.
  UniqueFd sync;     // To the command line (sync.h).
  bool in_cgroup_v2 = false;
};

// Both return only on failure: they execute the monitor.
absl::Status LaunchSandbox(SandboxStart& start, HostFds& host, UniqueFd listener);
absl::Status LaunchExec(ExecStart& start, HostFds& host);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_SANDBOX_LAUNCH_H_
