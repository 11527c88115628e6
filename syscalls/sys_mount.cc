// Mounts: mount(2), umount2(2), pivot_root(2), setns(2).
#include "sentry/kernel/filesystems.h"
#include "syscalls/handlers.h"
#include "vfs/mount.h"
#include "vfs/operations.h"

namespace caisson::syscalls {
namespace {

// may_mount(): in the owner of the mount namespace. Whoever makes a user namespace of its own may not
// change the mounts that it shares with others.
Result<void> MayMount(Task& task) {
  const RefPtr<auth::UserNamespace>& owner = task.namespaces().mount_owner;
  if (!task.creds().HasCapability(auth::Capability::kSysAdmin, owner ? *owner : *task.kernel().root_user_ns()))
    return Errno::kEPERM;
  return {};
}

// The optional strings of mount(2): null is "".
Result<std::string> OptionalString(Task& task, GuestAddr address) {
  if (address.is_null()) return std::string();
  Result<std::string> text = task.memory().CopyInString(address, kPageSize - 1);
  if (!text.ok() && text.error() == Errno::kENAMETOOLONG) return Errno::kEINVAL;
  return text;
}

}  // namespace

SyscallResult Mount(Task& task, GuestAddr source_address, PathPtr target, GuestAddr type_address, uint64_t flags,
                    GuestAddr data_address) {
  constexpr uint64_t kMagic = 0xc0ed0000, kMagicMask = 0xffff0000;
  if ((flags & kMagicMask) == kMagic) flags &= ~kMagicMask;
  std::string type = TRY(OptionalString(task, type_address));
  std::string source = TRY(OptionalString(task, source_address));
  std::string data = TRY(OptionalString(task, data_address));
  vfs::VfsPath at = TRY(WalkAt(task, Fd{kAtFdcwd}, target, 0, true));
  TRY(MayMount(task));
  vfs::MountNamespace& ns = task.mount_namespace();
  const uint64_t mount_flags = flags & vfs::kMountFlagsMask;
  constexpr uint64_t kPropagation = vfs::kMountShared | vfs::kMountPrivate | vfs::kMountSlave | vfs::kMountUnbindable;
  if ((flags & (vfs::kMountRemount | vfs::kMountBind)) == (vfs::kMountRemount | vfs::kMountBind)) {
    TRY(ns.RemountFlags(at, flags));
  } else if ((flags & vfs::kMountRemount) != 0) {
    TRY(at.mount->fs().Remount(task, flags, data));
    TRY(ns.RemountFlags(at, flags));
  } else if ((flags & vfs::kMountBind) != 0) {
    if (source.empty()) return Errno::kEINVAL;
    vfs::VfsPath from = TRY(vfs::Walk(task, TRY(StartOf(task, Fd{kAtFdcwd}, source)), source, {}));
    TRY(ns.Bind(from, at, (flags & vfs::kMountRec) != 0));
  } else if ((flags & kPropagation) != 0) {
    TRY(ns.SetPropagation(at, flags));
  } else if ((flags & vfs::kMountMove) != 0) {
    if (source.empty()) return Errno::kEINVAL;
    vfs::VfsPath from = TRY(vfs::Walk(task, TRY(StartOf(task, Fd{kAtFdcwd}, source)), source, {}));
    TRY(ns.Move(from, at));
  } else {
    if (type.empty()) return Errno::kEINVAL;
    RefPtr<vfs::FileSystem> fs = TRY(kernel::NewFileSystem(task, type, source, data));
    TRY(ns.Add(std::move(fs), at, mount_flags, source.empty() ? "none" : source));
  }
  return 0;
}

SyscallResult Umount2(Task& task, PathPtr target, Flags flags) {
  constexpr uint32_t kForce = 1, kDetach = 2, kExpire = 4, kNofollow = 8;
  if ((flags.value & ~(kForce | kDetach | kExpire | kNofollow)) != 0) return Errno::kEINVAL;
  vfs::VfsPath at = TRY(WalkAt(task, Fd{kAtFdcwd}, target, 0, (flags.value & kNofollow) == 0));
  TRY(MayMount(task));
  TRY(task.mount_namespace().Unmount(at, static_cast<int>(flags.value & ~kNofollow)));
  return 0;
}

SyscallResult PivotRoot(Task& task, PathPtr new_root, PathPtr put_old) {
  TRY(MayMount(task));
  vfs::VfsPath root = TRY(WalkAt(task, Fd{kAtFdcwd}, new_root, 0, true));
  vfs::VfsPath old = TRY(WalkAt(task, Fd{kAtFdcwd}, put_old, 0, true));
  vfs::VfsPath before = task.root();
  TRY(task.mount_namespace().PivotRoot(root, old, before));
  // Every task whose root or cwd was the old root moves on (pivot_root(2)).
  for (const auto& group : task.kernel().ThreadGroups()) {
    std::vector<RefPtr<Task>> tasks;
    {
      MutexLock lock(task.kernel().tasks_mu());
      tasks = group->tasks;
    }
    for (const RefPtr<Task>& t : tasks) {
      RefPtr<kernel::FsContext> fs = t->fs_ref();
      if (!fs) continue;
      if (fs->root() == before) fs->set_root(root);
      if (fs->cwd() == before) fs->set_cwd(root);
    }
  }
  return 0;
}

}  // namespace caisson::syscalls
