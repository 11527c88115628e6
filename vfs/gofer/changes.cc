// Directories: making, moving and removing names.
#include <sys/inotify.h>

#include "vfs/gofer/inode.h"
#include "vfs/permission.h"

namespace caisson::vfs {

namespace gp = caisson::gofer;

namespace {

Errno ErrorOf(const Result<GoferCallResult>& called) {
  return called.ok() ? called->status.error() : called.error();
}

}  // namespace

Result<RefPtr<Inode>> GoferInode::Make(CallContext& ctx, gp::Op op, absl::string_view name,
                                       FileMode mode, DeviceNumber rdev,
                                       absl::string_view target) {
  if (directory_ == nullptr) return Errno::kENOTDIR;
  Attributes own;
  if (!Known(true, &own)) own = TRY(GetAttributes(ctx));
  const NewOwner owner = OwnerFor(ctx.creds(), own, mode);
  gp::MakeRequest request = {};
  request.mode = owner.mode;
  request.uid = owner.uid;
  request.gid = owner.gid;
  request.rdev_major = rdev.major;
  request.rdev_minor = rdev.minor;
  request.name_length = static_cast<uint16_t>(name.size());
  request.target_length = static_cast<uint16_t>(target.size());
  const uint64_t foreign_before = ForeignChanges();
  const bool named = op != gp::Op::kTmpfile;
  const bool expected = named && Expect(IN_CREATE, name);
  const Snapshot directory_begin = Begin();
  Snapshot begin;
  begin.stamp = directory_begin.stamp;
  begin.invalidations = kAny;
  Result<GoferCallResult> called =
      gofer().CallOn(*this, gp::kLocateKeep | WatchFlag(), op, request,
                     std::string(name) + std::string(target));
  if (!called.ok() || !called->status.ok()) {
    Unexpect(expected, IN_CREATE, name);
    return ErrorOf(called);
  }
  GoferCallResult r = std::move(called).value();
  gp::ChildReply reply;
  if (!gp::Reader(r.body).Take(&reply) || !IsPlausible(reply.attributes) ||
      (reply.attributes.mode & kModeType) != (mode & kModeType))
    return Errno::kEIO;
  RefPtr<GoferInode> child = gofer().MakeInode(reply.attributes);
  if (child.get() == this) return Errno::kEIO;
  gofer().AdoptHandle(*child, reply.handle);
  child->SetOwnChange();
  if (named) {
    bool sure;
    {
      MutexLock lock(directory_->mu());
      sure = directory_->watch() >= 0 && !r.uncertain &&
             directory_->foreign_changes_locked() == foreign_before;
      unwatchable_.store(directory_->watch() < 0, std::memory_order_relaxed);
      if (!sure) directory_->ForeignChangeLocked(true);
    }
    begin.permissions_covered = begin.rest_covered =
        Attach(name, *child, sure ? Evidence::kSure : Evidence::kDoubtful, foreign_before);
    EntriesChanged(reply.directory, directory_begin);
  }
  child->TakeAttributes(reply.attributes, begin);
  if (r.fd.valid()) TRY(child->TakeCreatedFile(std::move(r.fd)));
  return RefPtr<Inode>(std::move(child));
}

Result<RefPtr<Inode>> GoferInode::Create(CallContext& ctx, absl::string_view name, FileMode mode) {
  return Make(ctx, gp::Op::kCreate, name, (mode & ~kModeType) | kModeRegular, {}, "");
}

Result<RefPtr<Inode>> GoferInode::Mkdir(CallContext& ctx, absl::string_view name, FileMode mode) {
  return Make(ctx, gp::Op::kMkdir, name, (mode & ~kModeType) | kModeDirectory, {}, "");
}

Result<RefPtr<Inode>> GoferInode::Symlink(CallContext& ctx, absl::string_view name,
                                          absl::string_view target) {
  if (target.empty() || target.size() > gp::kMaxPath) return Errno::kENAMETOOLONG;
  return Make(ctx, gp::Op::kSymlink, name, kModeLink | 0777, {}, target);
}

Result<RefPtr<Inode>> GoferInode::Mknod(CallContext& ctx, absl::string_view name, FileMode mode,
                                        DeviceNumber rdev) {
  if ((mode & kModeType) == kModeRegular || (mode & kModeType) == 0)
    return Create(ctx, name, mode);
  return Make(ctx, gp::Op::kMknod, name, mode, rdev, "");
}

Result<RefPtr<Inode>> GoferInode::CreateUnlinked(CallContext& ctx, FileMode mode) {
  return Make(ctx, gp::Op::kTmpfile, "", (mode & ~kModeType) | kModeRegular, {}, "");
}

Result<void> GoferInode::Link(CallContext&, absl::string_view name, Inode& target) {
  auto& object = static_cast<GoferInode&>(target);
  gp::LinkRequest request = {};
  request.name_length = static_cast<uint16_t>(name.size());
  const uint64_t foreign_before = ForeignChanges();
  const bool expected = Expect(IN_CREATE, name);
  const Snapshot directory_begin = Begin();
  Result<GoferCallResult> called = gofer().CallOnTwo(
      object, *this, offsetof(gp::LinkRequest, directory), gp::Op::kLink, request, name);
  if (!called.ok() || !called->status.ok()) {
    Unexpect(expected, IN_CREATE, name);
    return ErrorOf(called);
  }
  gp::ChildReply reply = {};
  if (!gp::Reader(called->body).Take(&reply)) return Errno::kEIO;
  object.SetOwnChange();
  if (object.is_regular()) object.DropReadFile();
  Attach(name, object, Evidence::kSure, foreign_before);
  object.Invalidate(true);
  EntriesChanged(reply.directory, directory_begin);
  return {};
}

bool GoferInode::NeedsKeeping() {
  MutexLock lock(gofer().place_mu());
  // Somebody beside the dentry holds it: an O_PATH descriptor, perhaps.
  return handle_ == 0 && ref_count() > 2;
}

void GoferInode::LostName(GoferInode& dir, absl::string_view name, uint64_t handle,
                          const gp::WireAttributes* now) {
  gofer().AdoptHandle(*this, handle);
  SetOwnChange();
  ForgetName(dir, name);
  bool has_handle, pinned;
  {
    MutexLock lock(gofer().place_mu());
    has_handle = handle_ != 0;
    pinned = pins_ > 0;
  }
  bool last;
  {
    MutexLock lock(attr_mu_);
    ++invalidations_;
    last = is_directory() || attr_.nlink <= 1;
    if (now != nullptr && IsPlausible(*now)) {
      last = now->nlink == 0 || is_directory();
      attr_.nlink = now->nlink;
    } else if (last) {
      attr_.nlink = 0;
    } else {
      --attr_.nlink;
    }
    rest_valid_ = false;
    permissions_valid_ = permissions_valid_ && last;
    // With neither name nor handle, what we know is all that can be known.
    dead_ = !has_handle && last && stamp_ != 0;
  }
  if (last && is_regular()) EvictReadFile();
  if (last && !pinned && has_handle && !is_directory() && ref_count() <= 2) {
    uint64_t unused;
    {
      MutexLock lock(gofer().place_mu());
      unused = pins_ == 0 && !parent_ ? gofer().TakeHandleLocked(*this) : 0;
    }
    if (unused != 0) gofer().Release(unused, -1, true);
  }
}

Result<void> GoferInode::Remove(absl::string_view name, GoferInode& victim, uint16_t flags) {
  gp::UnlinkRequest request = {};
  request.name_length = static_cast<uint16_t>(name.size());
  request.flags = flags;
  if (victim.NeedsKeeping()) request.flags |= gp::kUnlinkKeep;
  const uint64_t foreign_before = ForeignChanges();
  const bool expected = Expect(IN_DELETE, name);
  const Snapshot directory_begin = Begin();
  Result<GoferCallResult> called = gofer().CallOn(*this, gp::kLocateKeep | WatchFlag(),
                                                  gp::Op::kUnlink, request, name);
  if (!called.ok() || !called->status.ok()) {
    Unexpect(expected, IN_DELETE, name);
    return ErrorOf(called);
  }
  gp::ChildReply reply = {};
  if (!gp::Reader(called->body).Take(&reply)) return Errno::kEIO;
  SetGone(name, foreign_before);
  victim.LostName(*this, name, reply.handle, reply.handle != 0 ? &reply.attributes : nullptr);
  EntriesChanged(reply.directory, directory_begin);
  return {};
}

Result<void> GoferInode::Unlink(CallContext&, absl::string_view name, Inode& victim) {
  return Remove(name, static_cast<GoferInode&>(victim), 0);
}

Result<void> GoferInode::Rmdir(CallContext&, absl::string_view name, Inode& victim) {
  return Remove(name, static_cast<GoferInode&>(victim), gp::kUnlinkDirectory);
}

Result<void> GoferInode::Rename(CallContext&, absl::string_view old_name, Inode& source,
                                Inode& new_dir, absl::string_view new_name, Inode* victim,
                                uint32_t flags) {
  auto& moved = static_cast<GoferInode&>(source);
  auto& to = static_cast<GoferInode&>(new_dir);
  auto* replaced = static_cast<GoferInode*>(victim);
  const bool exchange = (flags & kRenameExchange) != 0;
  gp::RenameRequest request = {};
  request.old_name_length = static_cast<uint16_t>(old_name.size());
  request.new_name_length = static_cast<uint16_t>(new_name.size());
  request.flags = flags;
  request.keep_victim = replaced != nullptr && !exchange && replaced->NeedsKeeping() ? 1 : 0;
  const uint64_t foreign_before = ForeignChanges(), to_foreign_before = to.ForeignChanges();
  const bool expected[4] = {Expect(IN_MOVED_FROM, old_name), to.Expect(IN_MOVED_TO, new_name),
                            exchange && to.Expect(IN_MOVED_FROM, new_name),
                            exchange && Expect(IN_MOVED_TO, old_name)};
  const Snapshot begin = Begin(), to_begin = to.Begin();
  Result<GoferCallResult> called = gofer().CallOnTwo(
      *this, to, offsetof(gp::RenameRequest, new_directory), gp::Op::kRename, request,
      std::string(old_name) + std::string(new_name));
  if (!called.ok() || !called->status.ok()) {
    Unexpect(expected[0], IN_MOVED_FROM, old_name);
    to.Unexpect(expected[1], IN_MOVED_TO, new_name);
    to.Unexpect(expected[2], IN_MOVED_FROM, new_name);
    Unexpect(expected[3], IN_MOVED_TO, old_name);
    return ErrorOf(called);
  }
  gp::RenameReply reply = {};
  if (!gp::Reader(called->body).Take(&reply)) return Errno::kEIO;
  if (&moved == replaced) return {};  // Two names of one file: nothing was done.
  if (replaced != nullptr && !exchange) replaced->LostName(to, new_name, reply.victim_handle, nullptr);
  if ((flags & kRenameWhiteout) != 0) {
    MutexLock lock(directory_->mu());
    directory_->SetUnknownLocked(old_name);
  } else if (!exchange) {
    SetGone(old_name, foreign_before);
  }
  moved.ForgetName(*this, old_name);
  if (exchange && replaced != nullptr) replaced->ForgetName(to, new_name);
  to.Attach(new_name, moved, Evidence::kSure, to_foreign_before);
  if (exchange && replaced != nullptr) Attach(old_name, *replaced, Evidence::kSure, foreign_before);
  moved.SetOwnChange();
  moved.Invalidate(false);
  if (exchange && replaced != nullptr) replaced->Invalidate(false);
  EntriesChanged(reply.old_directory, begin);
  if (&to != this) to.EntriesChanged(reply.new_directory, to_begin);
  return {};
}

}  // namespace caisson::vfs
