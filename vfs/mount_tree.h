// The mount trees of a kernel: what MountNamespace's methods are made of. All functions need the
// mount lock, exclusively where they change anything.
#ifndef CAISSON_VFS_MOUNT_TREE_H_
#define CAISSON_VFS_MOUNT_TREE_H_

#include <atomic>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/ref.h"
#include "vfs/mount.h"

namespace caisson::vfs {

// Mounts that propagate mount events to each other, and those that receive from them
// (mount_namespaces(7), SHARED SUBTREES). Guarded by the mount lock.
struct PeerGroup : public RefCounted<PeerGroup> {
  explicit PeerGroup(int id) : id(id) {}
  const int id;
  std::set<Mount*> members;  // Each has peers_ == this and leaves before it ends.
  std::set<Mount*> slaves;   // Each has master_ == this.
};

struct MountNamespace::Shared : public RefCounted<MountNamespace::Shared> {
  int next_group = 1;                     // Guarded by the mount lock.
  std::atomic<uint64_t> change_count{1};  // Grows under the mount lock.
  std::atomic<DeviceRegistry*> devices{nullptr};
};

class MountTree {
 public:
  // The mount lock. Taken after directory locks, before the tree lock and dentry locks. One for
  // the process: a lock has no state that could differ between kernels.
  static SharedMutex& lock();
  using Garbage = std::vector<RefPtr<Mount>>;  // Dropped by the caller after the lock.
  // How a clone relates to what it is a clone of (Linux CL_*).
  enum CloneFlags : unsigned {
    kPlain = 0,           // Joins the peers and has the master of the original.
    kSlave = 1,           // Receives from the original's peers.
    kMakeShared = 2,      // Is shared, in a new group if need be.
    kPrivate = 4,         // Neither.
    kCopyUnbindable = 8,
  };

  static Mount* FindChild(const Mount& parent, const Dentry& at);
  // On top of everything that is mounted at `at`.
  static VfsPath Topmost(VfsPath at);
  // `top` and all below it, parents first.
  static std::vector<Mount*> Preorder(Mount& top);
  static bool IsWithin(const Mount& mount, const Mount& ancestor);
  // Whether `at` (mount, dentry) is below or at `place` (Linux is_path_reachable()).
  static bool IsReachable(const Mount& mount, const Dentry& dentry, const VfsPath& place);

  static void Attach(RefPtr<Mount> child, Mount& parent, RefPtr<Dentry> at);
  // Takes it out of its parent; the tree below stays on it.
  static RefPtr<Mount> Detach(Mount& mount);
  static void SetNamespace(Mount& top, MountNamespace* ns);

  static RefPtr<Mount> Clone(MountNamespace::Shared& shared, Mount& old, RefPtr<Dentry> root,
                             unsigned flags);
  // Errors: EINVAL if `top` is unbindable, EPERM if something below is that is locked too.
  static Result<RefPtr<Mount>> CopyTree(MountNamespace::Shared& shared, Mount& top,
                                        RefPtr<Dentry> root, unsigned flags);
  // Attaches the tree `source` and what propagation makes of it (Linux attach_recursive_mnt()).
  // Errors: ENOSPC past the limit of mounts.
  static Result<void> AttachRecursive(MountNamespace::Shared& shared, RefPtr<Mount> source,
                                      Mount& parent, RefPtr<Dentry> at);
  // Unmounts `top`, all below it and, if `propagate`, their copies elsewhere (umount_tree()).
  static void UnmountTree(Mount& top, bool propagate, Garbage* garbage);
  // Whether a copy of `mount` that an unmount would propagate to is in use.
  static bool PropagatedCopiesBusy(const Mount& mount);

  // What `top` and all below it may not lose, and that all but `top` stay where they are
  // (lock_mnt_tree()).
  static void LockTree(Mount& top);
  static bool HasLockedChildren(const Mount& mount, const Dentry& below);

  static void MakeShared(MountNamespace::Shared& shared, Mount& mount);
  static void MakeSlave(Mount& mount);
  static void MakePrivate(Mount& mount);
  static bool HasUnbindable(Mount& top);

  // Linux prepend_path(): the name of `path` seen from `root`, "" for the root itself; *reached
  // tells whether the way up led to `root`. Takes the mount lock itself.
  static std::string Name(const VfsPath& path, const VfsPath& root, bool* reached);

 private:
  // The mounts that receive an event of `parent`, without itself.
  static std::vector<Mount*> Receivers(const Mount& parent);
};

inline constexpr uint32_t kMaxMounts = 100000;  // fs.mount-max.

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_MOUNT_TREE_H_
