#include "vfs/types.h"

#include "vfs/dentry.h"
#include "vfs/mount.h"

namespace caisson::vfs {

// Here because Mount and Dentry are incomplete in the header.
VfsPath::VfsPath() = default;
VfsPath::VfsPath(RefPtr<Mount> m, RefPtr<Dentry> d) : mount(std::move(m)), dentry(std::move(d)) {}
VfsPath::VfsPath(const VfsPath&) = default;
VfsPath::VfsPath(VfsPath&&) noexcept = default;
VfsPath& VfsPath::operator=(VfsPath o) noexcept {
  std::swap(mount, o.mount);
  std::swap(dentry, o.dentry);
  return *this;
}
// The dentry goes first: the mount keeps its file system in use.
VfsPath::~VfsPath() { dentry.reset(); }

}  // namespace caisson::vfs
