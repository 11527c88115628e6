// overlay: a writable view of read-only directories (Linux Documentation/filesystems/overlayfs).
#ifndef CAISSON_VFS_OVERLAY_OVERLAY_H_
#define CAISSON_VFS_OVERLAY_OVERLAY_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "vfs/inode.h"

namespace caisson::vfs::overlay {

// A directory and the file system that it is in, which the overlay keeps in use.
struct Layer {
  RefPtr<FileSystem> fs;
  RefPtr<Inode> root;
};

struct Config {
  std::vector<Layer> lowers;  // Topmost first, at least one, at most kMaxLowers.
  Layer upper;                // Null: the overlay is read-only.
  RefPtr<Inode> work;         // An empty directory of the upper file system; null without upper.
  std::string options;        // As /proc/mounts shows them.
};
inline constexpr size_t kMaxLowers = 14;

// The result is to be mounted at once; it lasts as long as its mounts.
Result<RefPtr<FileSystem>> MakeOverlay(CallContext& ctx, Config config);

// `lower` below `memory`, a fresh file system that nothing else uses: a tmpfs (runsc do,
// --overlay2=all:memory). What is written is lost with the last mount.
Result<RefPtr<FileSystem>> MakeMemoryOverlay(CallContext& ctx, RefPtr<FileSystem> lower,
                                             RefPtr<FileSystem> memory);

// mount -t overlay: lowerdir=a:b,upperdir=u,workdir=w; paths from the caller's cwd. Errors: EINVAL,
// and the walks'.
Result<RefPtr<FileSystem>> MountOverlay(CallContext& ctx, absl::string_view data);

}  // namespace caisson::vfs::overlay

#endif  // CAISSON_VFS_OVERLAY_OVERLAY_H_
