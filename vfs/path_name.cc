// Names of places (Linux fs/d_path.c).
#include <vector>

#include "vfs/mount_tree.h"
#include "vfs/operations.h"

namespace caisson::vfs {

std::string MountTree::Name(const VfsPath& path, const VfsPath& root, bool* reached) {
  std::vector<std::string> parts;
  std::string top;
  *reached = false;
  std::vector<RefPtr<Dentry>> hold;  // Dropped after the lock.
  {
    ReaderLock lock(MountTree::lock());
    const Mount* mount = path.mount.get();
    const Dentry* dentry = path.dentry.get();
    for (;;) {
      if (root && dentry == root.dentry.get() && mount == root.mount.get()) {
        *reached = true;
        break;
      }
      if (mount != nullptr && dentry == mount->root().get()) {
        if (mount->parent_ == nullptr) break;
        dentry = mount->mountpoint_.get();
        mount = mount->parent_;
        continue;
      }
      RefPtr<Dentry> parent = dentry->parent();
      if (parent == nullptr) break;  // Out of what the mount shows.
      parts.push_back(dentry->name());
      dentry = parent.get();
      hold.push_back(std::move(parent));
    }
    // Detached objects have a name of their own.
    if (parts.empty() && !*reached && dentry->is_root()) top = dentry->name();
  }
  if (!top.empty() && top != "/") return top;
  std::string name;
  for (auto it = parts.rbegin(); it != parts.rend(); ++it) {
    name += '/';
    name += *it;
  }
  return name;
}

std::string PathName(const VfsPath& path, const VfsPath& root) {
  if (!path) return "";
  bool reached = false;
  std::string name = MountTree::Name(path, root, &reached);
  if (name.empty()) name = "/";
  if (path.dentry->is_deleted()) name += " (deleted)";
  return name;
}

Result<std::string> CwdName(const VfsPath& cwd, const VfsPath& root) {
  if (!cwd || cwd.dentry->is_deleted()) return Errno::kENOENT;
  bool reached = false;
  std::string name = MountTree::Name(cwd, root, &reached);
  if (name.empty()) name = "/";
  if (!reached) name.insert(0, "(unreachable)");
  return name;
}

}  // namespace caisson::vfs
