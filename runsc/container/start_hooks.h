// startContainer hooks, which are guest programs.
#ifndef CAISSON_RUNSC_CONTAINER_START_HOOKS_H_
#define CAISSON_RUNSC_CONTAINER_START_HOOKS_H_

#include "absl/status/status.h"
#include "runsc/container/container.h"

namespace caisson::runsc {

// Runs each in the created container, with the state on its standard input, before the container's
// own process. Errors: the first that fails or is not done in its time.
absl::Status RunStartContainerHooks(const Options& options, const ContainerDir& dir,
                                    const State& state, const oci::Spec& spec);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_START_HOOKS_H_
