// The sentry as a process: from its arguments to its end, in the order of confinement of
// docs/design.md section 8. What runs inside is given as parts, so that tests run a fake kernel in
// a real, confined process.
#ifndef CAISSON_SENTRY_BOOT_BOOT_H_
#define CAISSON_SENTRY_BOOT_BOOT_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "base/memory_headroom.h"
#include "sentry/boot/kernel_control.h"
#include "sentry/protocol/container.pb.h"

namespace caisson::boot {

// What was learned from the host's files while they could still be read.
struct HostFacts {
  int seccomp_filters = 0;  // Of an outer container or service (docs/platform rules, 2).
  // Of the container's memory; null where the monitor gave none.
  std::shared_ptr<MemoryHeadroom> headroom;
};

struct SentryParts {
  // Opens the platform, which forks its zygote, and whatever else needs a path or a capability:
  // before any other thread exists, with the host's files still there (as seen by a user without
  // rights on the host), with capabilities over the sentry's own namespaces. Only here can
  // executable memory be made. Processes forked here get the empty root with the sentry.
  std::function<absl::Status(const protocol::SandboxConfig&, const HostFacts&)> open_platform;
  // Runs confined. Null is a failure.
  std::function<std::unique_ptr<KernelControl>(const protocol::SandboxConfig&)> make_kernel;
};

// argv is what StartSandbox passes. Returns the exit status; does not return normally once the
// kernel has been made: the process ends without destructors when its monitor goes.
int RunSentry(int argc, char** argv, const SentryParts& parts);

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_BOOT_H_
