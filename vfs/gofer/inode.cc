#include "vfs/gofer/inode.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "time/clock.h"
#include "vfs/permission.h"

namespace caisson::vfs {

namespace gp = caisson::gofer;

namespace {

// Host events name the directory by which a file was reached: a change through another name of it
// goes unseen. So do new times of a directory that is not watched itself. These attributes are
// trusted for this long (ns).
constexpr int64_t kUnseenTrust = 1'000'000'000;

// Not fstat(3), which glibc makes a newfstatat of: the sentry's filter has no calls with paths.
bool HostStat(int fd, struct stat* st) { return syscall(SYS_fstat, fd, st) == 0; }

// Lets go of a parent without recursion: a guest can make chains deeper than a stack.
void DropParent(RefPtr<GoferInode> parent) {
  static thread_local std::vector<RefPtr<GoferInode>>* waiting = nullptr;
  if (!parent) return;
  if (waiting != nullptr) {
    waiting->push_back(std::move(parent));
    return;
  }
  std::vector<RefPtr<GoferInode>> list;
  list.push_back(std::move(parent));
  waiting = &list;
  while (!list.empty()) {
    RefPtr<GoferInode> next = std::move(list.back());
    list.pop_back();
    next.reset();
  }
  waiting = nullptr;
}

// Other names of a hard-linked file that are remembered.
constexpr size_t kMaxOtherNames = 8;

}  // namespace

GoferInode::GoferInode(GoferFileSystem& fs, const HostId& id, FileMode type, DeviceNumber dev)
    : Inode(fs, type),
      id_(id),
      dev_(dev),
      directory_(type == kModeDirectory ? std::make_unique<DirectoryCache>() : nullptr) {}

GoferInode::~GoferInode() {
  GoferFileSystem& fs = gofer();
  {
    RefPtr<GoferHostFile> unused;
    MutexLock lock(file_mu_);
    unused = std::move(created_file_);
  }
  fs.RemoveInode(*this);
  if (is_regular()) fs.DoNotKeepOpen(*this);
  if (directory_ != nullptr) {
    fs.DoNotKeepRecords(*this);
    if (int watch = directory_->watch(); watch >= 0) fs.ForgetWatch(watch, *this);
  }
  RefPtr<GoferInode> parent;
  uint64_t handle;
  bool unlinked;
  {
    // Whoever finds us in a table of weak pointers does so under one of these locks.
    MutexLock lock(fs.place_mu());
    handle = fs.TakeHandleLocked(*this);
    parent = std::move(parent_);
    unlinked = !parent;
    if (parent) {
      gp::WireAttributes record;
      bool current;
      {
        MutexLock attr_lock(attr_mu_);
        current = permissions_valid_ && rest_valid_ && !is_directory();
        if (current) record = ToWire(attr_, id_);
      }
      parent->directory_->ForgetInode(name_, this, current ? &record : nullptr);
    }
  }
  // An unlinked file's space is free only when the gofer lets go of it.
  if (handle != 0) fs.Release(handle, -1, unlinked);
  DropParent(std::move(parent));
  for (Name& other : other_names_) DropParent(std::move(other.directory));
}

// --- Places ---

uint64_t GoferInode::ForeignChanges() {
  MutexLock lock(directory_->mu());
  return directory_->foreign_changes_locked();
}

void GoferInode::SetGone(absl::string_view name, uint64_t foreign_before) {
  MutexLock lock(directory_->mu());
  if (directory_->foreign_changes_locked() == foreign_before) {
    directory_->SetAbsentLocked(name);
  } else {
    directory_->SetUnknownLocked(name);
  }
}

bool GoferInode::Attach(absl::string_view name, GoferInode& child, Evidence evidence, uint64_t foreign_before) {
  RefPtr<GoferInode> old_parent;  // Dropped after the lock, as all here.
  MutexLock lock(gofer().place_mu());
  if (evidence == Evidence::kRecord) {
    MutexLock cache_lock(directory_->mu());
    if (directory_->watch() < 0 ||
        directory_->FindLocked(name).kind != DirectoryCache::Kind::kRecord)
      return false;
  }
  if (child.parent_.get() != this || child.name_ != name) {
    // A host that moves directories about could make a circle of places.
    int depth = 0;
    for (GoferInode* up = this; up != nullptr && child.is_directory(); up = up->parent_.get())
      if (up == &child || ++depth > 4096) return false;
    if (child.parent_) {
      child.parent_->directory_->ForgetInode(child.name_, &child, nullptr);
      if (!child.is_directory() && child.other_names_.size() < kMaxOtherNames)
        child.other_names_.push_back({child.parent_, child.name_});
    }
    old_parent = std::exchange(child.parent_, RefPtr<GoferInode>(this));
    child.name_ = std::string(name);
  }
  {
    MutexLock attr_lock(child.attr_mu_);
    child.dead_ = false;
  }
  MutexLock cache_lock(directory_->mu());
  DirectoryCache::Found found = directory_->FindLocked(name);
  if (found.inode != nullptr && found.inode != &child) found.inode->Invalidate(true);
  if (evidence == Evidence::kSure && directory_->foreign_changes_locked() != foreign_before) {
    evidence = Evidence::kDoubtful;
    directory_->ForeignChangeLocked(true);  // The dentry that is about to be made is too.
  }
  if (evidence == Evidence::kDoubtful || directory_->watch() < 0) {
    directory_->SetUnknownLocked(name);
    return false;
  }
  if (found.inode != &child) directory_->SetInodeLocked(name, &child);
  return true;
}

RefPtr<GoferInode> GoferInode::NextPlaceLocked() {
  RefPtr<GoferInode> old = std::move(parent_);
  if (!other_names_.empty()) {
    parent_ = std::move(other_names_.back().directory);
    name_ = std::move(other_names_.back().name);
    other_names_.pop_back();
  }
  return old;
}

void GoferInode::ForgetName(GoferInode& dir, absl::string_view name) {
  RefPtr<GoferInode> dropped;
  MutexLock lock(gofer().place_mu());
  if (parent_.get() == &dir && name_ == name) {
    dropped = NextPlaceLocked();
    return;
  }
  for (auto it = other_names_.begin(); it != other_names_.end(); ++it) {
    if (it->directory.get() != &dir || it->name != name) continue;
    dropped = std::move(it->directory);
    other_names_.erase(it);
    return;
  }
}

bool GoferInode::LosePlace() {
  RefPtr<GoferInode> parent;
  MutexLock lock(gofer().place_mu());
  if (!parent_) return false;
  parent_->directory_->ForgetInode(name_, this, nullptr);
  {
    MutexLock cache_lock(parent_->directory_->mu());
    parent_->directory_->ForeignChangeLocked(true);
  }
  parent = NextPlaceLocked();
  return parent_ != nullptr;
}

bool GoferInode::CoveredByParentLocked() {
  if (!parent_ || !parent_->is_watched()) return false;
  MutexLock lock(parent_->directory_->mu());
  return parent_->directory_->FindLocked(name_).inode == this;
}

void GoferInode::Pin() {
  MutexLock lock(gofer().place_mu());
  ++pins_;
}

void GoferInode::Unpin() {
  bool unlinked;
  uint64_t handle = 0;
  {
    MutexLock lock(gofer().place_mu());
    unlinked = --pins_ == 0 && !parent_;
    if (unlinked) handle = gofer().TakeHandleLocked(*this);
  }
  if (handle != 0) gofer().Release(handle, -1, true);
}

uint64_t GoferInode::ParentIno() {
  MutexLock lock(gofer().place_mu());
  return parent_ ? parent_->id_.ino : id_.ino;
}

// Before the first lookup there is no watch, but that lookup places it, so what it finds may be
// cached under the generation of before. A lookup that got none, or an event on the way, changes it.
uint64_t GoferInode::LookupGeneration() {
  if (directory_ == nullptr) return 0;
  if (!is_watched() &&
      (!gofer().watches_work() || unwatchable_.load(std::memory_order_relaxed)))
    return kNeverCache;
  return directory_->generation();
}

uint16_t GoferInode::WatchFlag() {
  if (directory_ == nullptr || is_watched() || !gofer().watches_work()) return 0;
  if (must_watch_.load(std::memory_order_relaxed) || !gofer().StillWithoutWatch())
    return gp::kLocateWatch;
  return 0;
}

// Of a file, its directory's watch tells.
void GoferInode::PrepareToBeWatched() {
  RefPtr<GoferInode> directory(this);
  if (directory_ == nullptr) {
    MutexLock lock(gofer().place_mu());
    if (!parent_) return;
    directory = parent_;
  }
  directory->must_watch_.store(true, std::memory_order_relaxed);
  if (!directory->is_watched() && !directory->Fetch().ok())
    LOG_DEBUG("a guest's watch is told of no changes from outside");
}

// --- Attributes ---

GoferInode::Snapshot GoferInode::Begin() {
  Snapshot begin;
  begin.stamp = gofer().NextStamp();
  {
    MutexLock lock(gofer().place_mu());
    bool by_parent = CoveredByParentLocked();
    begin.permissions_covered = by_parent || is_watched();
    begin.rest_covered = by_parent || is_watched();
  }
  MutexLock lock(attr_mu_);
  begin.invalidations = invalidations_;
  return begin;
}

void GoferInode::TakeAttributes(const gp::WireAttributes& wire, const Snapshot& begin) {
  if ((wire.mode & kModeType) != type()) return;
  MutexLock lock(attr_mu_);
  if (begin.stamp < stamp_) return;  // A later answer came before this one.
  bool current = begin.invalidations == kAny || begin.invalidations == invalidations_;
  stamp_ = begin.stamp;
  attr_ = FromWire(wire);
  attr_.ino = id_.ino;
  attr_.dev = dev_;
  taken_at_ = begin.taken_at != 0 ? begin.taken_at : time::MonotonicNow();
  dead_ = false;
  permissions_valid_ = current && begin.permissions_covered;
  rest_valid_ = current && begin.rest_covered;
}

void GoferInode::Invalidate(bool permissions) {
  MutexLock lock(attr_mu_);
  ++invalidations_;
  rest_valid_ = false;
  if (!permissions) return;
  permissions_valid_ = false;
  xattrs_ = Xattrs::kUnknown;
}

bool GoferInode::Known(bool permissions_only, Attributes* attr) {
  RefPtr<GoferHostFile> file;
  bool writing = false;
  if (is_regular() && !permissions_only) {
    MutexLock lock(file_mu_);
    if (write_file_ != nullptr && write_file_->TryIncRef()) {
      file = RefPtr<GoferHostFile>::Adopt(write_file_);
      writing = true;
    } else {
      file = read_file_;
    }
  }
  {
    MutexLock lock(attr_mu_);
    if (dead_) {
      *attr = attr_;
      return true;
    }
    if (!permissions_valid_) return false;
    const bool unseen = is_directory() ? !permissions_only && !is_watched() : attr_.nlink > 1;
    if (unseen && time::MonotonicNow() - taken_at_ > kUnseenTrust) return false;
    if (permissions_only ||
        (rest_valid_ && !writing &&
         !(file && read_since_stat_.load(std::memory_order_relaxed)))) {
      *attr = attr_;
      return true;
    }
    if (!file) return false;
  }
  read_since_stat_.store(false, std::memory_order_relaxed);
  struct stat st;
  if (!HostStat(file->fd(), &st)) return false;
  MutexLock lock(attr_mu_);
  UpdateFromHost(st, &attr_);
  *attr = attr_;
  return permissions_valid_;
}

Result<void> GoferInode::Fetch() {
  Snapshot begin = Begin();
  const bool was_watched = is_watched();
  GoferCallResult r =
      TRY(gofer().CallOn(*this, WatchFlag() | (is_directory() ? gp::kLocateKeep : 0),
                         gp::Op::kGetAttributes, gp::ObjectRequest{}));
  TRY(r.status);
  gp::WireAttributes wire;
  if (!gp::Reader(r.body).Take(&wire) || !IsPlausible(wire)) return Errno::kEIO;
  if ((wire.mode & kModeType) != type()) return Errno::kENOENT;
  if (!was_watched && is_watched() && !r.uncertain)
    begin.permissions_covered = begin.rest_covered = true;
  TakeAttributes(wire, begin);
  return {};
}

Result<Attributes> GoferInode::GetAttributes(CallContext&) {
  Attributes attr;
  if (Known(false, &attr)) return attr;
  if (Result<void> fetched = Fetch(); !fetched.ok()) {
    // Gone behind our back: an open file still has what its descriptor and we know.
    MutexLock lock(attr_mu_);
    if (fetched.error() != Errno::kENOENT || stamp_ == 0) return fetched.error();
    attr = attr_;
    attr.nlink = 0;
    return attr;
  }
  MutexLock lock(attr_mu_);
  return attr_;
}

Result<void> GoferInode::CheckPermission(CallContext& ctx, AccessMask access) {
  Attributes attr;
  if (!Known(true, &attr)) {
    TRY(Fetch());
    MutexLock lock(attr_mu_);
    attr = attr_;
  }
  return CheckAccess(ctx.creds(), attr, access);
}

void GoferInode::SetOwnChange() {
  own_change_.store(time::MonotonicNow(), std::memory_order_relaxed);
}

Result<void> GoferInode::SetAttributes(CallContext&, const struct SetAttributes& change) {
  gp::SetAttributesRequest request = {};
  if (change.mode.has_value()) {
    request.valid |= gp::kSetMode;
    request.mode = *change.mode & kModePermissions;
  }
  if (change.uid.has_value()) {
    request.valid |= gp::kSetUid;
    request.uid = *change.uid;
  }
  if (change.gid.has_value()) {
    request.valid |= gp::kSetGid;
    request.gid = *change.gid;
  }
  if (change.size.has_value()) {
    if (*change.size > INT64_MAX) return Errno::kEINVAL;
    request.valid |= gp::kSetSize;
    request.size = *change.size;
  }
  if (change.atime.has_value()) {
    request.valid |= change.atime->now ? gp::kSetAtimeNow : gp::kSetAtime;
    request.atime = {change.atime->at.sec, change.atime->at.nsec, 0};
  }
  if (change.mtime.has_value()) {
    request.valid |= change.mtime->now ? gp::kSetMtimeNow : gp::kSetMtime;
    request.mtime = {change.mtime->at.sec, change.mtime->at.nsec, 0};
  }
  if (request.valid == 0) return {};
  SetOwnChange();
  if ((request.valid & ~gp::kSetMtimeNow) == gp::kSetSize) {
    // Through the descriptor that somebody writes with, if there is one.
    RefPtr<GoferHostFile> file;
    {
      MutexLock lock(file_mu_);
      if (created_file_) {
        file = created_file_;
      } else if (write_file_ != nullptr && write_file_->TryIncRef()) {
        file = RefPtr<GoferHostFile>::Adopt(write_file_);
      }
    }
    struct stat st;
    // An equal size would leave the host's mtime alone.
    if (file && HostStat(file->fd(), &st) && st.st_size != static_cast<off_t>(request.size)) {
      if (ftruncate(file->fd(), static_cast<off_t>(request.size)) != 0)
        return FromHostErrno(errno);
      Invalidate(false);
      return {};
    }
  }
  // The host may copy the file up: descriptors that exist then show new mappings the old one.
  if (is_regular()) DropReadFile();
  Snapshot begin = Begin();
  GoferCallResult r = TRY(gofer().CallOn(*this, 0, gp::Op::kSetAttributes, request));
  if (is_regular()) DropReadFile();
  Invalidate(true);
  TRY(r.status);
  gp::WireAttributes wire;
  if (!gp::Reader(r.body).Take(&wire) || !IsPlausible(wire)) return Errno::kEIO;
  {
    MutexLock lock(attr_mu_);
    begin.invalidations = invalidations_;
  }
  TakeAttributes(wire, begin);
  return {};
}

Result<std::string> GoferInode::ReadLink(CallContext&) {
  {
    MutexLock lock(attr_mu_);
    if (!link_.empty()) return link_;
  }
  GoferCallResult r = TRY(gofer().CallOn(*this, 0, gp::Op::kReadLink, gp::ObjectRequest{}));
  TRY(r.status);
  if (r.body.empty() || r.body.size() > gp::kMaxPath || r.body.find('\0') != std::string::npos)
    return Errno::kEIO;
  MutexLock lock(attr_mu_);
  link_ = r.body;
  return link_;
}

Result<void> GoferInode::SyncDirectory(bool data_only) {
  if (gofer().read_only()) return {};
  gp::SyncRequest request = {};
  request.flags = data_only ? gp::kSyncData : 0;
  GoferCallResult r = TRY(gofer().CallOn(*this, 0, gp::Op::kSync, request));
  return r.status;
}

}  // namespace caisson::vfs
