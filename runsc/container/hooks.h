// Hooks of the OCI runtime specification that run on the host.
#ifndef CAISSON_RUNSC_CONTAINER_HOOKS_H_
#define CAISSON_RUNSC_CONTAINER_HOOKS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runsc/oci/spec.h"

namespace caisson::runsc {

// Runs them in order, each with `state_json` on its standard input; a hook without an environment
// of its own has ours. With `enter` above 0, each runs in the network, IPC, UTS and mount
// namespaces of that process, where they differ from ours. Errors: the first hook that cannot be
// run, fails, or is not done in its time (and has been killed), with the end of what it printed.
absl::Status RunHooks(absl::string_view kind, const std::vector<oci::Hook>& hooks,
                      const std::string& state_json, pid_t enter = 0);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_HOOKS_H_
