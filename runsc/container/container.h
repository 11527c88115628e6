// The life of a container: what the commands do, in the order of the OCI runtime specification.
#ifndef CAISSON_RUNSC_CONTAINER_CONTAINER_H_
#define CAISSON_RUNSC_CONTAINER_CONTAINER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/container/options.h"
#include "runsc/container/state.h"
#include "runsc/oci/json.h"
#include "runsc/oci/spec.h"

namespace caisson::runsc {

// What create and exec have in common: where the process's descriptors come from and go.
struct Attachment {
  std::string console_socket;
  std::string pid_file;
  std::string pidfd_socket;
  int preserve_fds = 0;
  bool detach = false;
};

struct CreateRequest {
  std::string id;
  std::string bundle;  // Absolute.
  std::string config;  // Text of config.json.
  Attachment attachment;
};

struct Created {
  ContainerDir dir;  // Locked.
  State state;
  UniqueFd master;  // Of the pty, where there is a terminal and nobody else has it.
};

// Makes everything but does not run the container's process. On failure nothing is left.
absl::StatusOr<Created> CreateContainer(const Options& options, const CreateRequest& request);

// Runs the process of a created container, then the poststart hooks.
absl::Status StartContainer(const Options& options, ContainerDir& dir, State& state);

// `all` is for every process of the container. Errors: "container not running".
absl::Status SignalContainer(const ContainerDir& dir, const State& state, int signal, bool all);

// Removes a container and all that belongs to it. One that runs only with `force`, which also
// removes what a failed or killed create left.
absl::Status DeleteContainer(const Options& options, const std::string& id, bool force);

absl::Status PauseContainer(ContainerDir& dir, const State& state);
absl::Status ResumeContainer(ContainerDir& dir, const State& state);

struct ExecRequest {
  oci::Process process;
  Attachment attachment;
};
struct ExecStarted {
  pid_t monitor = -1;
  UniqueFd master;
};
absl::StatusOr<ExecStarted> ExecInContainer(const Options& options, const ContainerDir& dir,
                                            const State& state, const ExecRequest& request);

// Pids on the host of the container's processes.
absl::StatusOr<std::vector<pid_t>> HostPids(const ContainerDir& dir, const State& state);

// The state of the OCI runtime specification. `pid` 0 where there is no process.
oci::Json OciState(const State& state, Status status);
// config.json as it was at create.
absl::StatusOr<oci::Spec> LoadSpec(const ContainerDir& dir);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_CONTAINER_H_
