// When a read updates the access time (Linux fs/inode.c, atime_needs_update()).
#ifndef CAISSON_VFS_ATIME_H_
#define CAISSON_VFS_ATIME_H_

#include "vfs/file_description.h"
#include "vfs/mount.h"

namespace caisson::vfs {

inline bool AtimeNeedsUpdate(const FileDescription& file, const Attributes& attr, Timestamp now) {
  const Mount* mount = file.path().mount.get();
  if ((file.flags() & kOpenNoAtime) != 0 || mount == nullptr || mount->read_only()) return false;
  const uint64_t flags = mount->flags();
  if ((flags & kMountNoatime) != 0) return false;
  if ((flags & kMountNodiratime) != 0 && attr.is_directory()) return false;
  if ((flags & kMountRelatime) == 0) return true;
  return attr.atime <= attr.mtime || attr.atime <= attr.ctime ||
         now.sec - attr.atime.sec >= 24 * 60 * 60;
}

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_ATIME_H_
