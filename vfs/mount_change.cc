// mount(2), umount2(2) and pivot_root(2) (Linux fs/namespace.c).
#include "vfs/mount.h"
#include "vfs/mount_tree.h"

namespace caisson::vfs {
namespace {

constexpr int kUmountDetach = 2;
constexpr int kUmountExpire = 4;
constexpr uint64_t kAtimeFlags = kMountNoatime | kMountNodiratime | kMountRelatime |
                                 kMountStrictatime;

bool IsDirectory(const Dentry& d) { return d.inode_ptr() != nullptr && d.inode_ptr()->is_directory(); }
bool IsMountRoot(const VfsPath& path) { return path.dentry == path.mount->root(); }

// Linux path_mount(): relatime unless asked otherwise.
uint64_t NormalFlags(uint64_t flags) {
  flags &= kMountFlagsMask;
  if ((flags & (kMountNoatime | kMountStrictatime)) == 0) flags |= kMountRelatime;
  if ((flags & kMountStrictatime) != 0) flags &= ~(kMountRelatime | kMountNoatime);
  return flags;
}

}  // namespace

Result<RefPtr<Mount>> MountNamespace::Add(RefPtr<FileSystem> fs, const VfsPath& at, uint64_t flags,
                                          std::string source) {
  if (!at) return Errno::kEINVAL;
  RefPtr<Dentry> root = fs->RootDentry();
  auto mount = MakeRef<Mount>(fs, root, NormalFlags(flags), std::move(source));
  VfsPath top;  // Dropped after the lock.
  WriterLock lock(MountTree::lock());
  top = MountTree::Topmost(at);
  if (top.mount->ns_ != this) return Errno::kEINVAL;
  if (top.dentry->is_deleted()) return Errno::kENOENT;
  if (IsMountRoot(top) && &top.mount->fs() == fs.get() && top.mount->root() == root)
    return Errno::kEBUSY;
  if (root->inode_ptr()->is_link()) return Errno::kEINVAL;
  if (IsDirectory(*top.dentry) != IsDirectory(*root)) return Errno::kENOTDIR;
  TRY(MountTree::AttachRecursive(*shared_, mount, *top.mount, top.dentry));
  return mount;
}

Result<void> MountNamespace::Bind(const VfsPath& from, const VfsPath& at, bool recursive) {
  if (!from || !at) return Errno::kEINVAL;
  VfsPath top;
  MountTree::Garbage garbage;
  WriterLock lock(MountTree::lock());
  top = MountTree::Topmost(at);
  if (top.mount->ns_ != this || from.mount->ns_ != this || from.mount->unbindable_)
    return Errno::kEINVAL;
  if (top.dentry->is_deleted() || from.dentry->is_deleted()) return Errno::kENOENT;
  if (IsDirectory(*top.dentry) != IsDirectory(*from.dentry)) return Errno::kENOTDIR;
  RefPtr<Mount> copy;
  if (recursive) {
    copy = TRY(MountTree::CopyTree(*shared_, *from.mount, from.dentry, MountTree::kPlain));
  } else {
    // What locked mounts cover would show in the copy.
    if (MountTree::HasLockedChildren(*from.mount, *from.dentry)) return Errno::kEINVAL;
    copy = MountTree::Clone(*shared_, *from.mount, from.dentry, MountTree::kPlain);
  }
  copy->locked_ = false;
  garbage.push_back(copy);
  Result<void> attached = MountTree::AttachRecursive(*shared_, copy, *top.mount, top.dentry);
  if (!attached.ok()) MountTree::UnmountTree(*copy, false, &garbage);
  return attached;
}

Result<void> MountNamespace::Move(const VfsPath& from, const VfsPath& to) {
  if (!from || !to) return Errno::kEINVAL;
  VfsPath top;
  RefPtr<Mount> moved;
  RefPtr<Dentry> old_place;
  WriterLock lock(MountTree::lock());
  top = MountTree::Topmost(to);
  Mount& mount = *from.mount;
  if (mount.ns_ != this || top.mount->ns_ != this) return Errno::kEINVAL;
  if (!IsMountRoot(from) || mount.parent_ == nullptr || mount.locked_) return Errno::kEINVAL;
  if (top.dentry->is_deleted()) return Errno::kENOENT;
  if (IsDirectory(*top.dentry) != IsDirectory(*from.dentry)) return Errno::kEINVAL;
  // Its unmount from there would have to propagate, which nothing could undo.
  if (mount.parent_->peers_ != nullptr) return Errno::kEINVAL;
  if (top.mount->peers_ != nullptr && MountTree::HasUnbindable(mount)) return Errno::kEINVAL;
  if (MountTree::IsWithin(*top.mount, mount)) return Errno::kELOOP;
  Mount& old_parent = *mount.parent_;
  old_place = mount.mountpoint_;
  moved = MountTree::Detach(mount);
  MountTree::SetNamespace(mount, nullptr);
  Result<void> attached = MountTree::AttachRecursive(*shared_, moved, *top.mount, top.dentry);
  if (!attached.ok()) {
    MountTree::SetNamespace(mount, this);
    MountTree::Attach(moved, old_parent, old_place);
  }
  return attached;
}

Result<void> MountNamespace::RemountFlags(const VfsPath& at, uint64_t flags) {
  if (!at || !IsMountRoot(at)) return Errno::kEINVAL;
  WriterLock lock(MountTree::lock());
  Mount& mount = *at.mount;
  if (mount.ns_ != this) return Errno::kEINVAL;
  const uint64_t old = mount.flags();
  // Without any atime flag they stay as they are (Linux path_mount()).
  if ((flags & kAtimeFlags) == 0) {
    flags = (flags & kMountFlagsMask) | (old & kAtimeFlags);
  } else {
    flags = NormalFlags(flags);
  }
  // can_change_locked_flags(): a restriction stays, and atime as it is.
  if (((old & ~flags) & mount.locked_flags_ & ~kAtimeFlags) != 0) return Errno::kEPERM;
  if (((old ^ flags) & mount.locked_flags_ & kAtimeFlags & ~kMountStrictatime) != 0)
    return Errno::kEPERM;
  mount.flags_.store(flags, std::memory_order_seq_cst);
  if ((flags & ~old & kMountReadOnly) != 0 &&
      mount.writers_.load(std::memory_order_seq_cst) > 0) {
    mount.flags_.store(old, std::memory_order_seq_cst);
    return Errno::kEBUSY;
  }
  Changed();
  return {};
}

Result<void> MountNamespace::Remount(CallContext& ctx, const VfsPath& at, uint64_t flags,
                                     absl::string_view data) {
  if (!at || !IsMountRoot(at) || !Contains(*at.mount)) return Errno::kEINVAL;
  TRY(at.mount->fs().Remount(ctx, flags, data));
  return RemountFlags(at, flags);
}

Result<void> MountNamespace::SetPropagation(const VfsPath& at, uint64_t flags) {
  if (!at || !IsMountRoot(at)) return Errno::kEINVAL;
  const uint64_t type = flags & (kMountShared | kMountPrivate | kMountSlave | kMountUnbindable);
  if (type == 0 || (type & (type - 1)) != 0) return Errno::kEINVAL;
  if ((flags & ~(type | kMountRec | kMountSilent)) != 0) return Errno::kEINVAL;
  WriterLock lock(MountTree::lock());
  if (at.mount->ns_ != this) return Errno::kEINVAL;
  std::vector<Mount*> targets{at.mount.get()};
  if ((flags & kMountRec) != 0) targets = MountTree::Preorder(*at.mount);
  for (Mount* m : targets) {
    if (type == kMountShared) {
      MountTree::MakeShared(*shared_, *m);
    } else if (type == kMountSlave) {
      MountTree::MakeSlave(*m);
    } else {
      MountTree::MakePrivate(*m);
    }
    m->unbindable_ = type == kMountUnbindable;
  }
  Changed();
  return {};
}

Result<void> MountNamespace::Unmount(const VfsPath& at, int flags) {
  if (!at || !IsMountRoot(at)) return Errno::kEINVAL;
  if ((flags & kUmountExpire) != 0 && (flags & ~(kUmountExpire | 8)) != 0) return Errno::kEINVAL;
  MountTree::Garbage garbage;
  WriterLock lock(MountTree::lock());
  Mount& mount = *at.mount;
  if (mount.ns_ != this || mount.locked_) return Errno::kEINVAL;
  // The tree's reference, or the namespace's, and the caller's.
  const bool busy = !mount.children_.empty() || mount.ref_count() > 2;
  if ((flags & kUmountExpire) != 0) {
    if (root_.get() == &mount) return Errno::kEINVAL;
    if (busy) return Errno::kEBUSY;
    if (!std::exchange(mount.expiry_mark_, true)) return Errno::kEAGAIN;
  }
  if ((flags & kUmountDetach) == 0 && (busy || MountTree::PropagatedCopiesBusy(mount)))
    return Errno::kEBUSY;
  // Linux differs: it would leave a namespace without a root, where every path fails.
  if (root_.get() == &mount) return (flags & kUmountDetach) != 0 ? Errno::kEINVAL : Errno::kEBUSY;
  // Linux differs: there a locked mount stays on what was unmounted with it (UMOUNT_CONNECTED), so
  // that who stands in it does not see below.
  MountTree::UnmountTree(mount, /*propagate=*/true, &garbage);
  return {};
}

Result<void> MountNamespace::PivotRoot(const VfsPath& new_root, const VfsPath& put_old,
                                       const VfsPath& old_root) {
  if (!new_root || !put_old || !old_root) return Errno::kEINVAL;
  VfsPath old;
  RefPtr<Mount> hold_new, hold_root;
  RefPtr<Dentry> root_place, new_place;
  WriterLock lock(MountTree::lock());
  old = MountTree::Topmost(put_old);
  Mount& root_mount = *old_root.mount;
  Mount& new_mount = *new_root.mount;
  Mount& old_mount = *old.mount;
  auto shared = [](Mount* m) { return m != nullptr && m->peers_ != nullptr; };
  if (shared(&old_mount) || shared(new_mount.parent_) || shared(root_mount.parent_))
    return Errno::kEINVAL;
  if (root_mount.ns_ != this || new_mount.ns_ != this || old_mount.ns_ != this)
    return Errno::kEINVAL;
  if (new_root.dentry->is_deleted() || old.dentry->is_deleted()) return Errno::kENOENT;
  if (&new_mount == &root_mount || &old_mount == &root_mount) return Errno::kEBUSY;
  if (!IsMountRoot(old_root) || !IsMountRoot(new_root)) return Errno::kEINVAL;
  if (!IsDirectory(*new_root.dentry) || !IsDirectory(*old.dentry)) return Errno::kENOTDIR;
  // The namespace's own root has no parent here (in Linux, the hidden rootfs).
  if (root_mount.parent_ == nullptr && root_.get() != &root_mount) return Errno::kEINVAL;
  if (new_mount.parent_ == nullptr || new_mount.locked_) return Errno::kEINVAL;
  if (!MountTree::IsReachable(old_mount, *old.dentry, new_root)) return Errno::kEINVAL;
  if (!MountTree::IsReachable(new_mount, *new_root.dentry, old_root)) return Errno::kEINVAL;
  new_place = new_mount.mountpoint_;
  hold_new = MountTree::Detach(new_mount);
  Mount* root_parent = root_mount.parent_;
  root_place = root_mount.mountpoint_;
  hold_root = MountTree::Detach(root_mount);
  MountTree::Attach(hold_root, old_mount, old.dentry);
  if (root_parent != nullptr) {
    MountTree::Attach(hold_new, *root_parent, root_place);
  } else {
    root_ = hold_new;
  }
  root_mount.expiry_mark_ = false;
  // What is at the place of the locked one is.
  if (std::exchange(root_mount.locked_, false)) new_mount.locked_ = true;
  Changed();
  return {};
}

}  // namespace caisson::vfs
