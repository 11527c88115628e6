// What /dev of a container holds.
#ifndef CAISSON_VFS_DEV_DEVTMPFS_H_
#define CAISSON_VFS_DEV_DEVTMPFS_H_

#include <string>
#include <vector>

#include "vfs/dentry.h"
#include "vfs/inode.h"
#include "vfs/tmpfs/memory_account.h"

namespace caisson::vfs::dev {

struct DeviceNode {
  std::string name;  // Below /dev; directories on the way are made ("net/tun").
  FileMode mode;     // S_IFCHR, S_IFBLK or S_IFIFO, and permissions.
  DeviceNumber rdev;
  uint32_t uid = 0, gid = 0;  // Kernel ids.
};

// Fills a directory, whatever its file system (an OCI bundle mounts a tmpfs at /dev): null, zero,
// full, random, urandom, tty; links fd, stdin, stdout, stderr and ptmx -> pts/ptmx; directories
// pts, shm and mqueue; and `extra`. What exists stays as it is. `ctx` acts as root.
Result<void> PopulateDev(CallContext& ctx, Dentry& directory,
                         const std::vector<DeviceNode>& extra = {});

// A new file system of type "devtmpfs" with that in it, to be mounted at once (it lasts as long
// as its mounts). `options` are tmpfs's; the default mode is 0755.
Result<RefPtr<FileSystem>> MakeDevtmpfs(CallContext& ctx, absl::string_view options = "",
                                        const std::vector<DeviceNode>& extra = {},
                                        RefPtr<tmpfs::MemoryAccount> account = nullptr);

}  // namespace caisson::vfs::dev

#endif  // CAISSON_VFS_DEV_DEVTMPFS_H_
