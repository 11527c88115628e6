// Making and removing names (Linux fs/namei.c).
#include "vfs/open_internal.h"
#include "vfs/operations.h"
#include "vfs/permission.h"
#include "vfs/stale.h"
#include "vfs/watches.h"

namespace caisson::vfs {
namespace {

using auth::Capability;

// The place of a name that is to be made or removed, with its directory locked and the mount kept
// writable: filename_create() and what do_unlinkat() does.
class LockedName {
 public:
  LockedName() = default;
  LockedName(const LockedName&) = delete;
  LockedName& operator=(const LockedName&) = delete;
  // The analysis cannot follow a lock that is held only once `dir_` is set.
  ~LockedName() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (dir_ != nullptr) dir_->directory_lock().Unlock();
  }

  // Walks to the last component; no lock is taken yet.
  Result<LastType> WalkTo(CallContext& ctx, const StartAt& start, absl::string_view path) {
    return StaleRetry::Run([&]() -> Result<LastType> {
      PathWalker walker(ctx, options_);
      TRY(walker.Start(start, path));
      TRY(walker.WalkToLast());
      name_ = std::string(walker.last());
      trailing_slash_ = walker.trailing_slash();
      parent_ = std::move(walker.current());
      return walker.last_type();
    });
  }
  Result<void> Lock(CallContext& ctx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (name_.size() > kNameMax) return Errno::kENAMETOOLONG;
    dir_ = parent_.dentry->inode();
    dir_->directory_lock().Lock();
    child_ = TRY(parent_.dentry->LookupChildLocked(ctx, name_));
    return {};
  }
  // filename_create(): the name must be free. EEXIST, ENOENT, EROFS, EACCES.
  Result<void> PrepareCreate(CallContext& ctx, const StartAt& start, absl::string_view path,
                             bool is_directory) {
    LastType type = TRY(WalkTo(ctx, start, path));
    if (type != LastType::kNormal) return Errno::kEEXIST;
    Result<void> may_write = write_.Begin(parent_.mount);
    TRY(Lock(ctx));
    if (!child_->is_negative()) return Errno::kEEXIST;
    if (!is_directory && trailing_slash_) return Errno::kENOENT;
    return may_write;
  }

  const WalkOptions options_{.follow_last = false};
  VfsPath parent_;
  std::string name_;
  bool trailing_slash_ = false;
  RefPtr<Inode> dir_;      // Set once locked.
  RefPtr<Dentry> child_;
  MountWrite write_;
};

void Created(LockedName& at, RefPtr<Inode> inode, RefPtr<Dentry>* out = nullptr) {
  const bool is_dir = inode->is_directory();
  at.parent_.dentry->AttachChild(at.name_, std::move(inode), out);
  NotifyDirectoryWatches(*at.dir_, kInCreate, at.name_, is_dir);
}

// After a name of `inode` went: IN_ATTRIB for the link count, and IN_DELETE_SELF if it was the last.
void NameGone(CallContext& ctx, Inode& inode) {
  if (!inode.fs().ever_watched()) return;
  Result<Attributes> attr = inode.GetAttributes(ctx);
  const bool last = inode.is_directory() || !attr.ok() || attr->nlink == 0;
  if (last) inode.set_unlinked(true);
  InodeWatches* watches = inode.watches_if_any();
  if (watches != nullptr && !inode.is_directory()) watches->Notify(kInAttrib, 0, "");
}

// may_delete(). EPERM, EACCES, ENOENT, ENOTDIR, EISDIR, EBUSY.
Result<void> MayDelete(CallContext& ctx, LockedName& at, bool want_directory) {
  TRY(MayChangeDirectory(ctx, at.parent_));
  Inode* victim = at.child_->inode_ptr();
  Attributes dir = TRY(at.dir_->GetAttributes(ctx));
  if ((dir.mode & kModeSticky) != 0) {
    Attributes attr = TRY(victim->GetAttributes(ctx));
    TRY(CheckSticky(ctx.creds(), dir, attr));
  }
  if (want_directory && !victim->is_directory()) return Errno::kENOTDIR;
  if (!want_directory && victim->is_directory()) return Errno::kEISDIR;
  if (at.child_->is_mountpoint()) return Errno::kEBUSY;
  return {};
}

}  // namespace

Result<void> Mkdir(CallContext& ctx, const StartAt& start, absl::string_view path, FileMode mode) {
  LockedName at;
  TRY(at.PrepareCreate(ctx, start, path, /*is_directory=*/true));
  TRY(MayChangeDirectory(ctx, at.parent_));
  mode = (mode & (0777 | kModeSticky)) & ~ctx.umask();
  RefPtr<Inode> made = TRY(at.dir_->Mkdir(ctx, at.name_, kModeDirectory | mode));
  Created(at, std::move(made));
  return {};
}

Result<void> Mknod(CallContext& ctx, const StartAt& start, absl::string_view path, FileMode mode,
                   DeviceNumber rdev) {
  FileMode type = mode & kModeType;
  switch (type) {
    case 0: type = kModeRegular; break;
    case kModeRegular: case kModeChar: case kModeBlock: case kModeFifo: case kModeSocket: break;
    case kModeDirectory: return Errno::kEPERM;
    default: return Errno::kEINVAL;
  }
  LockedName at;
  TRY(at.PrepareCreate(ctx, start, path, false));
  TRY(MayChangeDirectory(ctx, at.parent_));
  const bool whiteout = type == kModeChar && rdev == DeviceNumber{};
  if ((type == kModeChar || type == kModeBlock) && !whiteout &&
      !ctx.creds().HasRootCapability(Capability::kMknod))
    return Errno::kEPERM;
  mode = type | (mode & kModePermissions & ~ctx.umask());
  RefPtr<Inode> made;
  if (type == kModeRegular) {
    made = TRY(at.dir_->Create(ctx, at.name_, mode));
  } else {
    if (type != kModeChar && type != kModeBlock) rdev = {};
    made = TRY(at.dir_->Mknod(ctx, at.name_, mode, rdev));
  }
  Created(at, std::move(made));
  return {};
}

Result<VfsPath> BindSocket(CallContext& ctx, absl::string_view path, FileMode mode,
                           RefPtr<FileDescription> socket) {
  auto bind = [&]() -> Result<VfsPath> {
    LockedName at;
    TRY(at.PrepareCreate(ctx, ctx.cwd(), path, false));
    TRY(MayChangeDirectory(ctx, at.parent_));
    RefPtr<Inode> made = TRY(at.dir_->Mknod(
        ctx, at.name_, kModeSocket | (mode & kModePermissions & ~ctx.umask()), {}));
    made->set_bound_object(std::move(socket));
    RefPtr<Dentry> dentry;
    Created(at, std::move(made), &dentry);
    return VfsPath(at.parent_.mount, std::move(dentry));
  };
  Result<VfsPath> bound = bind();
  if (!bound.ok() && bound.error() == Errno::kEEXIST) return Errno::kEADDRINUSE;
  return bound;
}

Result<void> Symlink(CallContext& ctx, const StartAt& start, absl::string_view path,
                     absl::string_view target) {
  if (target.empty()) return Errno::kENOENT;
  if (target.size() >= kPathMax) return Errno::kENAMETOOLONG;
  LockedName at;
  TRY(at.PrepareCreate(ctx, start, path, false));
  TRY(MayChangeDirectory(ctx, at.parent_));
  RefPtr<Inode> made = TRY(at.dir_->Symlink(ctx, at.name_, target));
  Created(at, std::move(made));
  return {};
}

namespace {

// may_linkat(), with fs.protected_hardlinks = 1.
Result<void> MayLink(CallContext& ctx, Inode& inode, const Attributes& attr) {
  if (IsOwnerOrCapable(ctx.creds(), attr)) return {};
  const bool safe = attr.is_regular() && (attr.mode & kModeSetuid) == 0 &&
                    (attr.mode & (kModeSetgid | 0010)) != (kModeSetgid | 0010) &&
                    MayAccess(ctx, inode, kMayRead | kMayWrite).ok();
  if (!safe) return Errno::kEPERM;
  return {};
}

}  // namespace

Result<void> Link(CallContext& ctx, const VfsPath& source, const StartAt& start,
                  absl::string_view path) {
  if (!source || source.dentry->is_negative()) return Errno::kENOENT;
  LockedName at;
  TRY(at.PrepareCreate(ctx, start, path, false));
  if (!(source.mount == at.parent_.mount)) return Errno::kEXDEV;
  RefPtr<Inode> inode = source.dentry->inode();
  Attributes attr = TRY(inode->GetAttributes(ctx));
  TRY(MayLink(ctx, *inode, attr));
  TRY(MayChangeDirectory(ctx, at.parent_));
  if (&inode->fs() != &at.dir_->fs()) return Errno::kEXDEV;
  if (inode->is_directory()) return Errno::kEPERM;
  if (attr.nlink == 0 && !inode->linkable()) return Errno::kENOENT;
  TRY(at.dir_->Link(ctx, at.name_, *inode));
  inode->set_linkable(false);
  inode->set_unlinked(false);
  if (InodeWatches* watches = inode->watches_if_any()) watches->Notify(kInAttrib, 0, "");
  Created(at, std::move(inode));
  return {};
}

Result<void> Unlink(CallContext& ctx, const StartAt& start, absl::string_view path) {
  RefPtr<Dentry> hold;  // Outlives the lock: its end may end the file.
  LockedName at;
  LastType type = TRY(at.WalkTo(ctx, start, path));
  if (type != LastType::kNormal) return Errno::kEISDIR;
  TRY(at.write_.Begin(at.parent_.mount));
  TRY(at.Lock(ctx));
  hold = at.child_;
  if (hold->is_negative()) return Errno::kENOENT;
  RefPtr<Inode> victim = hold->inode();
  if (at.trailing_slash_) return victim->is_directory() ? Errno::kEISDIR : Errno::kENOTDIR;
  TRY(MayDelete(ctx, at, /*want_directory=*/false));
  TRY(at.dir_->Unlink(ctx, at.name_, *victim));
  NameGone(ctx, *victim);
  at.parent_.dentry->DetachChild(at.name_);
  NotifyDirectoryWatches(*at.dir_, kInDelete, at.name_, false);
  return {};
}

Result<void> Rmdir(CallContext& ctx, const StartAt& start, absl::string_view path) {
  RefPtr<Dentry> hold;
  LockedName at;
  LastType type = TRY(at.WalkTo(ctx, start, path));
  switch (type) {
    case LastType::kDotDot: return Errno::kENOTEMPTY;
    case LastType::kDot: return Errno::kEINVAL;
    case LastType::kRoot: return Errno::kEBUSY;
    case LastType::kNormal: break;
  }
  TRY(at.write_.Begin(at.parent_.mount));
  TRY(at.Lock(ctx));
  hold = at.child_;
  if (hold->is_negative()) return Errno::kENOENT;
  RefPtr<Inode> victim = hold->inode();
  TRY(MayDelete(ctx, at, /*want_directory=*/true));
  {
    // Keeps names from being made in it meanwhile.
    WriterLock lock(victim->directory_lock());
    TRY(at.dir_->Rmdir(ctx, at.name_, *victim));
    NameGone(ctx, *victim);
    at.parent_.dentry->DetachChild(at.name_);
  }
  NotifyDirectoryWatches(*at.dir_, kInDelete, at.name_, true);
  return {};
}

}  // namespace caisson::vfs
