// open(2) (Linux fs/namei.c, path_openat(); fs/open.c, do_dentry_open()).
#include "absl/strings/str_cat.h"
#include "vfs/device.h"
#include "vfs/fifo.h"
#include "vfs/open_internal.h"
#include "vfs/operations.h"
#include "vfs/permission.h"
#include "vfs/stale.h"
#include "vfs/watches.h"

namespace caisson::vfs {
namespace {

constexpr uint32_t kTmpfileBit = 020000000;

AccessMask AccessOf(uint32_t flags) {
  // ACC_MODE(): mode 3 asks for both, and gives neither.
  static constexpr AccessMask kAccess[] = {kMayRead, kMayWrite, kMayRead | kMayWrite,
                                           kMayRead | kMayWrite};
  AccessMask access = kAccess[flags & kOpenAccessMode];
  if ((flags & kOpenTruncate) != 0) access |= kMayWrite;
  return access;
}

// may_open(). `access` is 0 for a file that this call created.
Result<void> MayOpen(CallContext& ctx, const VfsPath& path, AccessMask access, uint32_t flags) {
  Inode* inode = path.dentry->inode_ptr();
  if (inode == nullptr) return Errno::kENOENT;
  const uint64_t mount_flags = path.mount != nullptr ? path.mount->flags() : 0;
  switch (inode->type()) {
    case kModeLink:
      return Errno::kELOOP;
    case kModeDirectory:
      if ((access & kMayWrite) != 0) return Errno::kEISDIR;
      if ((access & kMayExec) != 0) return Errno::kEACCES;
      break;
    case kModeBlock:
    case kModeChar:
      if ((mount_flags & kMountNodev) != 0) return Errno::kEACCES;
      [[fallthrough]];
    case kModeFifo:
    case kModeSocket:
      if ((access & kMayExec) != 0) return Errno::kEACCES;
      break;
    case kModeRegular:
      if ((access & kMayExec) != 0 && (mount_flags & kMountNoexec) != 0) return Errno::kEACCES;
      break;
    default:
      break;
  }
  if (access != 0) TRY(MayAccess(ctx, *inode, access));
  if ((flags & kOpenNoAtime) != 0) {
    Attributes attr = TRY(inode->GetAttributes(ctx));
    if (!IsOwnerOrCapable(ctx.creds(), attr)) return Errno::kEPERM;
  }
  return {};
}

// Opens the object itself, when everything was checked: do_dentry_open().
Result<RefPtr<FileDescription>> OpenInode(CallContext& ctx, const VfsPath& path, uint32_t flags) {
  RefPtr<Inode> inode = path.dentry->inode();
  constexpr uint32_t kNotKept = kOpenCreate | kOpenExclusive | kOpenNoCtty | kOpenTruncate |
                                kOpenCloexec;
  OpenArgs args{path, flags & ~kNotKept, (flags & kOpenNoCtty) != 0,
                (flags & kOpenTruncate) != 0 && inode->is_regular()};
  const bool special = !inode->is_regular() && !inode->is_directory() && !inode->is_link();
  const uint32_t mode = flags & kOpenAccessMode;
  const bool writes = mode == kOpenWriteOnly || mode == kOpenReadWrite;
  MountWrite write;
  bool counted = false;
  if (writes && !special) {
    TRY(inode->AddWriter());
    if (Result<void> began = write.Begin(path.mount); !began.ok()) {
      inode->RemoveWriter();
      return began.error();
    }
    counted = true;
  }
  Result<RefPtr<FileDescription>> opened = Errno::kENXIO;
  switch (inode->type()) {
    case kModeFifo:
      opened = OpenFifo(ctx, args, *inode);
      break;
    case kModeChar:
    case kModeBlock: {
      DeviceRegistry::Opener opener;
      if (DeviceRegistry* devices = ctx.mount_namespace().devices()) {
        if (Result<Attributes> attr = inode->GetAttributes(ctx); attr.ok()) {
          opener = devices->Find(inode->type() == kModeChar ? DeviceRegistry::Type::kChar
                                                            : DeviceRegistry::Type::kBlock,
                                 attr->rdev);
          if (opener) opened = opener(ctx, args, *inode, attr->rdev);
        }
      }
      if (!opener) opened = inode->Open(ctx, args);
      break;
    }
    case kModeSocket:
      break;
    default:
      opened = inode->Open(ctx, args);
      break;
  }
  if (!opened.ok()) {
    if (counted) inode->RemoveWriter();
    return opened.error();
  }
  FileDescription& file = **opened;
  if (counted) {
    file.set_counts_as_writer();
    write.Release();
  }
  file.set_opener(RefPtr<const auth::Credentials>(&ctx.creds()));
  file.set_notifies_close();
  NotifyFileWatches(file, kInOpen);
  return opened;
}

Result<void> TruncateForOpen(CallContext& ctx, const VfsPath& path) {
  RefPtr<Inode> inode = path.dentry->inode();
  TRY(inode->AddWriter());
  SetAttributes change;
  change.size = 0;
  change.mtime = SetAttributes::Time{.now = true, .at = {}};
  Result<void> done = inode->SetAttributes(ctx, change);
  inode->RemoveWriter();
  if (done.ok()) NotifyWatches(*path.dentry, kInModify);
  return done;
}

// may_create_in_sticky(), with fs.protected_fifos = 1 and fs.protected_regular = 2.
Result<void> MayCreateInSticky(CallContext& ctx, Inode& directory, Inode& inode) {
  if (!inode.is_regular() && inode.type() != kModeFifo) return {};
  Attributes dir = TRY(directory.GetAttributes(ctx));
  if ((dir.mode & kModeSticky) == 0) return {};
  Attributes attr = TRY(inode.GetAttributes(ctx));
  if (attr.uid == dir.uid || attr.uid == ctx.creds().fsuid) return {};
  if ((dir.mode & 0002) != 0 || ((dir.mode & 0020) != 0 && inode.is_regular()))
    return Errno::kEACCES;
  return {};
}

struct OpenState {
  uint32_t flags;
  FileMode mode;
  bool created = false;
};

// lookup_open() for O_CREAT: the last component, looked up and made if it is not there.
Result<RefPtr<Dentry>> LookupOrCreate(CallContext& ctx, const VfsPath& directory,
                                      absl::string_view name, OpenState& state) {
  RefPtr<Inode> dir = directory.dentry->inode();
  MountWrite write;
  Result<void> may_write = write.Begin(directory.mount);
  if ((state.flags & kOpenExclusive) == 0) {
    // Where it exists, no other creator has to wait.
    RefPtr<Dentry> found = TRY(directory.dentry->LookupChild(ctx, name));
    if (!found->is_negative()) return found;
  }
  WriterLock lock(dir->directory_lock());
  if (directory.dentry->is_deleted()) return Errno::kENOENT;
  RefPtr<Dentry> child = TRY(directory.dentry->LookupChildLocked(ctx, name));
  if (!child->is_negative()) return child;
  if (!may_write.ok()) return may_write.error();
  TRY(MayAccess(ctx, *dir, kMayWrite | kMayExec));
  const FileMode mode = kModeRegular | (state.mode & kModePermissions & ~ctx.umask());
  RefPtr<Inode> made = TRY(dir->Create(ctx, name, mode));
  directory.dentry->AttachChild(name, std::move(made), &child);
  NotifyDirectoryWatches(*dir, kInCreate, name, /*is_dir=*/false);
  state.created = true;
  return child;
}

// do_open(): `path` is what the walk led to.
Result<RefPtr<FileDescription>> DoOpen(CallContext& ctx, const VfsPath& path, Inode* directory,
                                       const OpenState& state, bool must_be_directory) {
  uint32_t flags = state.flags;
  Inode* inode = path.dentry->inode_ptr();
  if (inode == nullptr) return Errno::kENOENT;
  if ((flags & kOpenCreate) != 0) {
    if ((flags & kOpenExclusive) != 0 && !state.created) return Errno::kEEXIST;
    if (inode->is_directory()) return Errno::kEISDIR;
    if (!state.created && directory != nullptr)
      TRY(MayCreateInSticky(ctx, *directory, *inode));
  }
  if (must_be_directory && !inode->is_directory()) return Errno::kENOTDIR;
  MountWrite write;
  AccessMask access = AccessOf(flags);
  bool truncate = false;
  if (state.created) {
    access = 0;
  } else if (inode->is_regular() && (flags & kOpenTruncate) != 0) {
    TRY(write.Begin(path.mount));
    truncate = true;
  }
  TRY(MayOpen(ctx, path, access, flags));
  RefPtr<FileDescription> file = TRY(OpenInode(ctx, path, flags));
  if (truncate) TRY(TruncateForOpen(ctx, path));
  return file;
}

Result<RefPtr<FileDescription>> OpenTmpfile(CallContext& ctx, const VfsPath& directory,
                                            uint32_t flags, FileMode mode) {
  MountWrite write;
  TRY(write.Begin(directory.mount));
  RefPtr<Inode> dir = directory.dentry->inode();
  TRY(MayAccess(ctx, *dir, kMayWrite | kMayExec));
  RefPtr<Inode> made = TRY(dir->CreateUnlinked(
      ctx, kModeRegular | (mode & kModePermissions & ~ctx.umask())));
  made->set_unlinked(true);
  made->set_linkable((flags & kOpenExclusive) == 0);
  Attributes attr = TRY(made->GetAttributes(ctx));
  VfsPath path(directory.mount, Dentry::NewUnlinked(directory.dentry,
                                                    absl::StrCat("#", attr.ino), made));
  TRY(MayOpen(ctx, path, 0, flags));
  return OpenInode(ctx, path, flags & ~(kTmpfileBit | kOpenDirectory));
}

RefPtr<FileDescription> MakePathFile(CallContext& ctx, const VfsPath& path, uint32_t flags) {
  auto file = MakeRef<PathFile>(path, path.dentry->inode(),
                                flags & (kOpenPath | kOpenDirectory | kOpenNoFollow));
  file->set_opener(RefPtr<const auth::Credentials>(&ctx.creds()));
  return file;
}

// path_openat(), with the flags that Open() has checked.
Result<RefPtr<FileDescription>> WalkAndOpen(CallContext& ctx, const StartAt& start, absl::string_view path,
                                            bool follow, const WalkOptions& options,
                                            OpenState& state) {
  const uint32_t flags = state.flags;
  PathWalker walker(ctx, options);
  TRY(walker.Start(start, path));
  if ((flags & kOpenCreate) == 0 || path.empty()) {
    VfsPath found = TRY(walker.Finish(follow));
    if (!found) return Errno::kENOENT;
    if ((flags & kOpenPath) != 0) return MakePathFile(ctx, found, flags);
    if ((flags & kTmpfileBit) != 0) return OpenTmpfile(ctx, found, flags, state.mode);
    return DoOpen(ctx, found, nullptr, state, options.must_be_directory);
  }
  for (;;) {
    TRY(walker.WalkToLast());
    if (walker.last_type() != LastType::kNormal) {
      TRY(walker.StepLast(follow));
      return DoOpen(ctx, walker.current(), nullptr, state, false);
    }
    if (walker.trailing_slash()) return Errno::kEISDIR;
    if (walker.last().size() > kNameMax) return Errno::kENAMETOOLONG;
    VfsPath directory = walker.current();
    RefPtr<Dentry> child = TRY(LookupOrCreate(ctx, directory, walker.last(), state));
    bool again = TRY(walker.StepInto(std::move(child), follow, /*trailing=*/true));
    if (again) continue;
    return DoOpen(ctx, walker.current(), directory.dentry->inode_ptr(), state, false);
  }
}

// One attempt of OpenForExec().
Result<RefPtr<FileDescription>> WalkAndOpenForExec(CallContext& ctx, const StartAt& start,
                                                   absl::string_view path, const WalkOptions& options) {
  VfsPath found = TRY(Walk(ctx, start, path, options));
  if (!found || found.dentry->is_negative()) return Errno::kENOENT;
  TRY(MayOpen(ctx, found, kMayExec, 0));
  RefPtr<Inode> inode = found.dentry->inode();
  if (!inode->is_regular()) return Errno::kEACCES;
  TRY(inode->DenyWrites());
  Result<RefPtr<FileDescription>> file = OpenInode(ctx, found, kOpenReadOnly);
  if (!file.ok()) inode->AllowWrites();
  return file;
}

}  // namespace

Result<void> MayChangeDirectory(CallContext& ctx, const VfsPath& directory) {
  if (directory.dentry->is_deleted()) return Errno::kENOENT;
  return MayAccess(ctx, *directory.dentry->inode_ptr(), kMayWrite | kMayExec);
}

Result<RefPtr<FileDescription>> Open(CallContext& ctx, const StartAt& start, absl::string_view path,
                                     uint32_t flags, FileMode mode, WalkOptions options) {
  // build_open_flags().
  if ((flags & kOpenPath) != 0)
    flags &= kOpenPath | kOpenDirectory | kOpenNoFollow | kOpenCloexec;
  const bool tmpfile = (flags & kTmpfileBit) != 0;
  if (tmpfile) {
    if ((flags & kOpenDirectory) == 0 || (flags & kOpenCreate) != 0) return Errno::kEINVAL;
    if ((AccessOf(flags) & kMayWrite) == 0) return Errno::kEINVAL;
  }
  if ((flags & (kOpenCreate | kOpenDirectory)) == (kOpenCreate | kOpenDirectory))
    return Errno::kEINVAL;
  if ((flags & kOpenSync & ~kOpenDsync) != 0) flags |= kOpenDsync;
  const bool create = (flags & kOpenCreate) != 0;
  bool follow = options.follow_last && (flags & kOpenNoFollow) == 0;
  if (create && (flags & kOpenExclusive) != 0) follow = false;
  options.must_be_directory = options.must_be_directory || (flags & kOpenDirectory) != 0;

  OpenState state{flags, mode};
  for (StaleRetry retry;;) {
    Result<RefPtr<FileDescription>> file = WalkAndOpen(ctx, start, path, follow, options, state);
    if (file.ok() || state.created || !retry.Again(file.error())) return file;
  }
}

Result<RefPtr<FileDescription>> OpenPath(CallContext& ctx, const VfsPath& path, uint32_t flags) {
  if (!path || path.dentry->is_negative()) return Errno::kENOENT;
  if ((flags & kOpenPath) != 0) return MakePathFile(ctx, path, flags);
  return DoOpen(ctx, path, nullptr, OpenState{flags & ~(kOpenCreate | kOpenExclusive), 0},
                (flags & kOpenDirectory) != 0);
}

Result<RefPtr<FileDescription>> OpenForExec(CallContext& ctx, const StartAt& start,
                                            absl::string_view path, WalkOptions options) {
  return StaleRetry::Run([&] { return WalkAndOpenForExec(ctx, start, path, options); });
}

}  // namespace caisson::vfs
