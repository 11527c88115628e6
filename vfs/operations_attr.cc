// Attributes of what a path or an open file leads to (Linux fs/attr.c, fs/open.c, fs/stat.c,
// fs/utimes.c).
#include "vfs/open_internal.h"
#include "vfs/operations.h"
#include "vfs/permission.h"
#include "vfs/privileges.h"
#include "vfs/watches.h"

namespace caisson::vfs {
namespace {

constexpr int kSigxfsz = 25;

Result<RefPtr<Inode>> InodeOf(const VfsPath& path) {
  if (!path || path.dentry->is_negative()) return Errno::kENOENT;
  return path.dentry->inode();
}

// notify_change() with the checks of its callers.
Result<void> Change(CallContext& ctx, const VfsPath& path, SetAttributes change) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  MountWrite write;
  TRY(write.Begin(path.mount));
  Attributes attr = TRY(inode->GetAttributes(ctx));
  TRY(PrepareSetAttributes(ctx.creds(), attr, change));
  TRY(inode->SetAttributes(ctx, change));
  NotifyWatches(*path.dentry, kInAttrib);
  return {};
}

Result<void> FileChange(CallContext& ctx, FileDescription& file, SetAttributes change) {
  if (file.kind() == FileKind::kPath) return Errno::kEBADF;
  MountWrite write;
  TRY(write.Begin(file.path().mount));
  Attributes attr = TRY(file.GetAttributes(ctx));
  TRY(PrepareSetAttributes(ctx.creds(), attr, change));
  TRY(file.SetAttributes(ctx, change));
  NotifyFileWatches(file, kInAttrib);
  return {};
}

// inode_newsize_ok().
Result<void> CheckNewSize(CallContext& ctx, const Attributes& attr, uint64_t size) {
  if (size <= attr.size) return {};
  if (size > ctx.file_size_limit()) {
    ctx.SendSignal(kSigxfsz);
    return Errno::kEFBIG;
  }
  if (size > INT64_MAX) return Errno::kEFBIG;
  return {};
}

}  // namespace

Result<Attributes> Stat(CallContext& ctx, const VfsPath& path) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  return inode->GetAttributes(ctx);
}

Result<std::string> ReadLink(CallContext& ctx, const VfsPath& path) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  if (!inode->is_link()) return Errno::kEINVAL;
  return inode->ReadLink(ctx);
}

// do_faccessat().
Result<void> Access(CallContext& ctx, const VfsPath& path, AccessMask mask) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  const uint64_t mount_flags = path.mount != nullptr ? path.mount->flags() : 0;
  if ((mask & kMayExec) != 0 && inode->is_regular() && (mount_flags & kMountNoexec) != 0)
    return Errno::kEACCES;
  if (mask != 0) TRY(MayAccess(ctx, *inode, mask));
  const bool special = !inode->is_regular() && !inode->is_directory() && !inode->is_link();
  if ((mask & kMayWrite) != 0 && !special && path.mount != nullptr && path.mount->read_only())
    return Errno::kEROFS;
  return {};
}

Result<void> Chmod(CallContext& ctx, const VfsPath& path, FileMode mode) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  if (inode->is_link()) return Errno::kEOPNOTSUPP;
  SetAttributes change;
  change.mode = mode & kModePermissions;
  return Change(ctx, path, change);
}

Result<void> Chown(CallContext& ctx, const VfsPath& path, std::optional<uint32_t> uid,
                   std::optional<uint32_t> gid) {
  SetAttributes change;
  change.uid = uid;
  change.gid = gid;
  return Change(ctx, path, change);
}

Result<void> FileChmod(CallContext& ctx, FileDescription& file, FileMode mode) {
  SetAttributes change;
  change.mode = mode & kModePermissions;
  return FileChange(ctx, file, change);
}

Result<void> FileChown(CallContext& ctx, FileDescription& file, std::optional<uint32_t> uid,
                       std::optional<uint32_t> gid) {
  SetAttributes change;
  change.uid = uid;
  change.gid = gid;
  return FileChange(ctx, file, change);
}

// vfs_utimes().
Result<void> SetTimes(CallContext& ctx, const VfsPath& path,
                      const std::optional<SetAttributes::Time>& atime,
                      const std::optional<SetAttributes::Time>& mtime, bool both_now) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  SetAttributes change;
  if (both_now) {
    change.atime = change.mtime = SetAttributes::Time{.now = true, .at = {}};
  } else {
    if (!atime && !mtime) return {};
    change.atime = atime;
    change.mtime = mtime;
  }
  MountWrite write;
  TRY(write.Begin(path.mount));
  Attributes attr = TRY(inode->GetAttributes(ctx));
  if (!IsOwnerOrCapable(ctx.creds(), attr)) {
    if (!both_now) return Errno::kEPERM;
    TRY(MayAccess(ctx, *inode, kMayWrite));
  }
  TRY(inode->SetAttributes(ctx, change));
  // fsnotify_change(): setting only one of the times is IN_ACCESS or IN_MODIFY.
  uint32_t event = kInAttrib;
  if (!change.mtime) event = kInAccess;
  if (!change.atime) event = kInModify;
  NotifyWatches(*path.dentry, event);
  return {};
}

Result<void> Truncate(CallContext& ctx, const VfsPath& path, uint64_t size) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  if (inode->is_directory()) return Errno::kEISDIR;
  if (!inode->is_regular()) return Errno::kEINVAL;
  MountWrite write;
  TRY(write.Begin(path.mount));
  TRY(MayAccess(ctx, *inode, kMayWrite));
  TRY(inode->AddWriter());
  auto truncate = [&]() -> Result<void> {
    Attributes attr = TRY(inode->GetAttributes(ctx));
    TRY(CheckNewSize(ctx, attr, size));
    TRY(RemovePrivileges(ctx, *inode));
    SetAttributes change;
    change.size = size;
    return inode->SetAttributes(ctx, change);
  };
  Result<void> done = truncate();
  inode->RemoveWriter();
  if (done.ok()) NotifyWatches(*path.dentry, kInModify);
  return done;
}

Result<void> FileTruncate(CallContext& ctx, FileDescription& file, uint64_t size) {
  if (file.kind() == FileKind::kPath) return Errno::kEBADF;
  if (!file.writable()) return Errno::kEINVAL;
  if (file.kind() != FileKind::kRegular) return Errno::kEINVAL;
  Attributes attr = TRY(file.GetAttributes(ctx));
  TRY(CheckNewSize(ctx, attr, size));
  if (file.inode() != nullptr) TRY(RemovePrivileges(ctx, *file.inode()));
  SetAttributes change;
  change.size = size;
  TRY(file.SetAttributes(ctx, change));
  NotifyFileWatches(file, kInModify);
  return {};
}

}  // namespace caisson::vfs
