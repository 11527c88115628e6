// The mount tree of a container, from its description.
#ifndef CAISSON_SENTRY_BOOT_CONTAINER_MOUNTS_H_
#define CAISSON_SENTRY_BOOT_CONTAINER_MOUNTS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "sentry/kernel/kernel.h"
#include "sentry/protocol/container.pb.h"
#include "vfs/gofer/filesystem.h"
#include "vfs/gofer/watcher.h"
#include "vfs/tty/devpts.h"

namespace caisson::boot {

struct MountedContainer {
  RefPtr<vfs::MountNamespace> ns;
  // Where terminals of the container live: the mount of /dev/pts, or one of its own without a name.
  RefPtr<vfs::tty::DevptsFileSystem> devpts;
};

// Makes every mount of `container`, missing mount points inside included, then devices, masked and
// read-only paths. /proc shows `pid_ns`, a mount of type mqueue
// `queues`. Errors name the mount and the reason.
absl::StatusOr<MountedContainer> MountContainer(kernel::Kernel& kernel, vfs::GoferWatcher& watcher, vfs::GoferDevices& devices,
                                                const protocol::Container& container,
                                                RefPtr<kernel::PidNamespace> pid_ns,
                                                RefPtr<vfs::FileSystem> queues,
                                                std::vector<UniqueFd> gofer_sockets);

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_CONTAINER_MOUNTS_H_
