// Starting a process in a user namespace, and other namespaces, of its own.
#ifndef CAISSON_RUNSC_SANDBOX_SPAWN_H_
#define CAISSON_RUNSC_SANDBOX_SPAWN_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "runsc/sandbox/sandbox.h"

namespace caisson::runsc {

struct IdRange {
  uint32_t inside;
  uint32_t outside;
  uint32_t count;
};

// Every id that this process's user namespace has, mapped to itself.
absl::StatusOr<std::vector<IdRange>> IdentityMap(const char* map_file);

// The host id that a sandbox's sentry and stubs run as: unprivileged, and the same for no other
// sandbox on this host but by chance, since the kernel's quotas of pipes, watches and locked memory
// are kept by user. `map` is this process's own map, as IdentityMap() returns it: where it has no
// high ids, 65534 is taken; where it has only a few, the first.
absl::StatusOr<uint32_t> PickSandboxId(absl::string_view sandbox_id,
                                       const std::vector<IdRange>& map);

struct ChildSpec {
  const char* name;
  uint64_t namespaces = 0;  // CLONE_NEW*, with CLONE_NEWUSER.
  std::vector<IdRange> uids;
  std::vector<IdRange> gids;
  // Where the child says why it failed, as text.
  int error_fd = -1;
  // Runs in the child as root of its user namespace. It is to execute something.
  std::function<absl::Status()> exec;
};

struct ChildProcess {
  pid_t pid = -1;
  UniqueFd pidfd;
};

// Clones this (single-threaded) process. On failure no child is left.
absl::StatusOr<ChildProcess> SpawnInUserNamespace(const ChildSpec& spec);

// Enters or makes the namespaces of `namespaces`, in this process.
absl::Status EnterNamespaces(const std::vector<NamespacePath>& namespaces);

// A copy of the mount below `source`, attached nowhere: nothing above it can be reached from it.
// Neither devices nor set-user-id bits have effect; read-only if the source is, with all below it.
absl::StatusOr<UniqueFd> DetachedMount(const GoferSource& source);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_SANDBOX_SPAWN_H_
