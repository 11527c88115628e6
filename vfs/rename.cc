// renameat2(2) (Linux fs/namei.c, do_renameat2() and vfs_rename()).
#include <atomic>

#include "vfs/open_internal.h"
#include "vfs/operations.h"
#include "vfs/permission.h"
#include "vfs/stale.h"
#include "vfs/watches.h"

namespace caisson::vfs {
namespace {

std::atomic<uint32_t> g_next_cookie{1};  // Of inotify; unique in the process is enough.

// Both directories of a rename, locked in Linux's order (lock_rename()): the ancestor first, else
// by address, under the file system's rename lock if they differ. The analysis cannot follow two
// locks that may be one.
class TwoDirectories {
 public:
  TwoDirectories(const VfsPath& a, const VfsPath& b) ABSL_NO_THREAD_SAFETY_ANALYSIS
      : a_(a.dentry->inode()), b_(b.dentry->inode()) {
    if (a_ == b_) {
      a_->directory_lock().Lock();
      return;
    }
    a_->fs().rename_mutex().Lock();
    bool a_first = a_.get() < b_.get();
    if (a.dentry->IsAncestorOf(*b.dentry)) {
      a_first = true;
    } else if (b.dentry->IsAncestorOf(*a.dentry)) {
      a_first = false;
    }
    (a_first ? a_ : b_)->directory_lock().Lock();
    (a_first ? b_ : a_)->directory_lock().Lock();
  }
  ~TwoDirectories() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    a_->directory_lock().Unlock();
    if (a_ == b_) return;
    b_->directory_lock().Unlock();
    a_->fs().rename_mutex().Unlock();
  }
  TwoDirectories(const TwoDirectories&) = delete;
  TwoDirectories& operator=(const TwoDirectories&) = delete;

 private:
  const RefPtr<Inode> a_, b_;
};

struct Side {
  VfsPath parent;
  std::string name;
  bool trailing_slash = false;
  RefPtr<Dentry> dentry;
  Inode* dir() const { return parent.dentry->inode_ptr(); }
  Inode* inode() const { return dentry->inode_ptr(); }
};

Result<LastType> WalkTo(CallContext& ctx, const StartAt& start, absl::string_view path,
                        Side& side) {
  const WalkOptions options{.follow_last = false};
  return StaleRetry::Run([&]() -> Result<LastType> {
    PathWalker walker(ctx, options);
    TRY(walker.Start(start, path));
    TRY(walker.WalkToLast());
    side.name = std::string(walker.last());
    side.trailing_slash = walker.trailing_slash();
    side.parent = std::move(walker.current());
    return walker.last_type();
  });
}

// may_delete() of what the side's name leads to.
Result<void> MayDelete(CallContext& ctx, const Side& side, bool want_directory) {
  TRY(MayChangeDirectory(ctx, side.parent));
  Attributes dir = TRY(side.dir()->GetAttributes(ctx));
  if ((dir.mode & kModeSticky) != 0) {
    Attributes attr = TRY(side.inode()->GetAttributes(ctx));
    TRY(CheckSticky(ctx.creds(), dir, attr));
  }
  if (want_directory != side.inode()->is_directory())
    return want_directory ? Errno::kENOTDIR : Errno::kEISDIR;
  return {};
}

// vfs_rename() up to the file system.
Result<void> CheckRename(CallContext& ctx, const Side& from, const Side& to, uint32_t flags) {
  const bool exchange = (flags & kRenameExchange) != 0;
  const bool is_dir = from.inode()->is_directory();
  TRY(MayDelete(ctx, from, is_dir));
  if (to.dentry->is_negative()) {
    TRY(MayChangeDirectory(ctx, to.parent));
  } else {
    TRY(MayDelete(ctx, to, exchange ? to.inode()->is_directory() : is_dir));
  }
  // A moved directory's ".." changes, which is a write to it.
  if (from.dir() != to.dir()) {
    if (is_dir) TRY(MayAccess(ctx, *from.inode(), kMayWrite));
    if (exchange && to.inode()->is_directory()) TRY(MayAccess(ctx, *to.inode(), kMayWrite));
  }
  if (from.dentry->is_mountpoint() || to.dentry->is_mountpoint()) return Errno::kEBUSY;
  return {};
}

void NotifyRename(CallContext& ctx, const Side& from, const Side& to, Inode& source,
                  Inode* victim, bool exchange) {
  auto moved = [](const Side& a, const Side& b, Inode& inode) {
    const uint32_t cookie = g_next_cookie.fetch_add(1, std::memory_order_relaxed);
    const bool is_dir = inode.is_directory();
    NotifyDirectoryWatches(*a.dir(), kInMovedFrom, a.name, is_dir, cookie);
    NotifyDirectoryWatches(*b.dir(), kInMovedTo, b.name, is_dir, cookie);
    if (InodeWatches* w = inode.watches_if_any())
      w->Notify(kInMoveSelf | (is_dir ? kInIsdir : 0), 0, "");
  };
  moved(from, to, source);
  if (victim == nullptr) return;
  if (exchange) {
    moved(to, from, *victim);
    return;
  }
  if (!victim->fs().ever_watched()) return;
  Result<Attributes> attr = victim->GetAttributes(ctx);
  if (victim->is_directory() || !attr.ok() || attr->nlink == 0) victim->set_unlinked(true);
  InodeWatches* w = victim->watches_if_any();
  if (w != nullptr && !victim->is_directory()) w->Notify(kInAttrib, 0, "");
}

}  // namespace

Result<void> Rename(CallContext& ctx, const StartAt& old_start, absl::string_view old_path,
                    const StartAt& new_start, absl::string_view new_path, uint32_t flags) {
  if ((flags & ~(kRenameNoReplace | kRenameExchange | kRenameWhiteout)) != 0)
    return Errno::kEINVAL;
  const bool exchange = (flags & kRenameExchange) != 0;
  if (exchange && (flags & (kRenameNoReplace | kRenameWhiteout)) != 0) return Errno::kEINVAL;
  // Dropped after the locks: the last use of a victim may be here.
  Side from, to;
  MountWrite write;
  LastType from_type = TRY(WalkTo(ctx, old_start, old_path, from));
  LastType to_type = TRY(WalkTo(ctx, new_start, new_path, to));
  if (!(from.parent.mount == to.parent.mount)) return Errno::kEXDEV;
  if (from_type != LastType::kNormal) return Errno::kEBUSY;
  if (to_type != LastType::kNormal)
    return (flags & kRenameNoReplace) != 0 ? Errno::kEEXIST : Errno::kEBUSY;
  TRY(write.Begin(from.parent.mount));
  if (from.name.size() > kNameMax || to.name.size() > kNameMax) return Errno::kENAMETOOLONG;

  TwoDirectories locks(from.parent, to.parent);
  from.dentry = TRY(from.parent.dentry->LookupChildLocked(ctx, from.name));
  if (from.dentry->is_negative()) return Errno::kENOENT;
  to.dentry = TRY(to.parent.dentry->LookupChildLocked(ctx, to.name));
  if ((flags & kRenameNoReplace) != 0 && !to.dentry->is_negative()) return Errno::kEEXIST;
  if (exchange) {
    if (to.dentry->is_negative()) return Errno::kENOENT;
    if (!to.inode()->is_directory() && to.trailing_slash) return Errno::kENOTDIR;
  }
  if (!from.inode()->is_directory()) {
    if (from.trailing_slash || (!exchange && to.trailing_slash)) return Errno::kENOTDIR;
  }
  if (from.dentry->IsAncestorOf(*to.parent.dentry)) return Errno::kEINVAL;
  if (!to.dentry->is_negative() && to.dentry->IsAncestorOf(*from.parent.dentry))
    return exchange ? Errno::kEINVAL : Errno::kENOTEMPTY;
  RefPtr<Inode> source = from.dentry->inode();
  RefPtr<Inode> victim = to.dentry->inode();
  if (source == victim) return {};  // Two names of one file: nothing happens.
  TRY(CheckRename(ctx, from, to, flags));
  TRY(from.dir()->Rename(ctx, from.name, *source, *to.dir(), to.name, victim.get(), flags));
  Dentry::Move(*from.parent.dentry, from.name, *to.parent.dentry, to.name, exchange);
  NotifyRename(ctx, from, to, *source, victim.get(), exchange);
  return {};
}

}  // namespace caisson::vfs
