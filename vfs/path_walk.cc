#include "vfs/path_walk.h"

#include <utility>

#include "vfs/permission.h"
#include "vfs/stale.h"

namespace caisson::vfs {
namespace {

// Of a thread, since walks are: no lock, and nobody else's walk goes again.
thread_local uint64_t t_stale = 0;

}  // namespace

void NoteStale() { ++t_stale; }
uint64_t StaleRetry::Count() { return t_stale; }

Result<void> MayAccess(CallContext& ctx, Inode& inode, AccessMask access) {
  if ((access & kMayWrite) != 0 && inode.fs().read_only() &&
      (inode.is_regular() || inode.is_directory() || inode.is_link()))
    return Errno::kEROFS;
  return inode.CheckPermission(ctx, access);
}

Result<void> PathWalker::Start(const StartAt& start, absl::string_view path) {
  if (path.size() >= kPathMax) return Errno::kENAMETOOLONG;
  rest_ = path;
  const bool scoped = options_.beneath || options_.in_root;
  if (scoped) mount_changes_ = ctx_.mount_namespace().change_count();
  if (path.empty()) {
    if (!options_.allow_empty) return Errno::kENOENT;
    empty_ = true;
    current_ = start;
    return {};
  }
  if (path[0] == '/' && !options_.in_root) {
    if (options_.beneath) return Errno::kEXDEV;
    current_ = ctx_.root();  // root_ is asked for when it is needed.
    return {};
  }
  if (!start) return Errno::kENOTDIR;
  if (scoped) root_ = start;
  current_ = start;
  return {};
}

// may_lookup(): the directory must be one, and searchable.
Result<void> PathWalker::MayLookup() {
  Inode* dir = current_.dentry->inode_ptr();
  if (dir == nullptr) return Errno::kENOENT;
  if (!dir->is_directory()) return Errno::kENOTDIR;
  return dir->CheckPermission(ctx_, kMayExec);
}

Result<void> PathWalker::WalkToLast() {
  for (;;) {
    size_t slashes = rest_.find_first_not_of('/');
    if (slashes == absl::string_view::npos) {
      last_ = {};
      last_type_ = LastType::kRoot;
      trailing_slash_ = false;
      return {};
    }
    rest_.remove_prefix(slashes);
    TRY(MayLookup());
    const size_t length = std::min(rest_.find('/'), rest_.size());
    last_ = rest_.substr(0, length);
    rest_.remove_prefix(length);
    last_type_ = last_ == "." ? LastType::kDot : last_ == ".." ? LastType::kDotDot
                                                               : LastType::kNormal;
    const size_t after = rest_.find_first_not_of('/');
    if (after == absl::string_view::npos) {
      trailing_slash_ = !rest_.empty();
      return {};
    }
    rest_.remove_prefix(after - 1);  // Keeps one slash, for a link's target to be put before.
    switch (last_type_) {
      case LastType::kDot:
      case LastType::kRoot:
        continue;
      case LastType::kDotDot:
        TRY(GoUp());
        continue;
      case LastType::kNormal:
        break;
    }
    if (last_.size() > kNameMax) return Errno::kENAMETOOLONG;
    RefPtr<Dentry> child = TRY(current_.dentry->LookupChild(ctx_, last_));
    TRY(StepInto(std::move(child), /*follow=*/true, /*trailing=*/false));
    // A link left current_ at a directory; else more components need one.
    if (!current_.dentry->inode_ptr()->is_directory()) return Errno::kENOTDIR;
  }
}

Result<bool> PathWalker::StepLast(bool follow) {
  switch (last_type_) {
    case LastType::kRoot:
    case LastType::kDot:
      return false;
    case LastType::kDotDot:
      TRY(GoUp());
      return false;
    case LastType::kNormal:
      break;
  }
  if (last_.size() > kNameMax) return Errno::kENAMETOOLONG;
  RefPtr<Dentry> child = TRY(current_.dentry->LookupChild(ctx_, last_));
  return StepInto(std::move(child), follow || trailing_slash_, /*trailing=*/true);
}

Result<bool> PathWalker::StepInto(RefPtr<Dentry> child, bool follow, bool trailing) {
  Inode* inode = child->inode_ptr();
  if (inode == nullptr) return Errno::kENOENT;
  if (child->is_mountpoint()) {
    VfsPath below(current_.mount, std::move(child));
    VfsPath top = ctx_.mount_namespace().FollowMounts(below);
    if (options_.no_xdev && !(top.mount == below.mount)) return Errno::kEXDEV;
    inode = top.dentry->inode_ptr();
    if (inode == nullptr) return Errno::kENOENT;
    if (inode->is_link() && follow) return FollowLink(*inode, trailing);
    current_ = std::move(top);
    return false;
  }
  if (inode->is_link() && follow) return FollowLink(*inode, trailing);
  current_.dentry = std::move(child);
  return false;
}

// may_follow_link(), with fs.protected_symlinks = 1.
Result<void> PathWalker::CheckProtectedLink(Inode& link) {
  Attributes dir = TRY(current_.dentry->inode_ptr()->GetAttributes(ctx_));
  if ((dir.mode & (kModeSticky | 0002)) != (kModeSticky | 0002)) return {};
  Attributes attr = TRY(link.GetAttributes(ctx_));
  if (ctx_.creds().fsuid == attr.uid || dir.uid == attr.uid) return {};
  return Errno::kEACCES;
}

// pick_link().
Result<bool> PathWalker::FollowLink(Inode& link, bool trailing) {
  RefPtr<Inode> hold(&link);
  if (++links_ > kMaxSymlinks) return Errno::kELOOP;
  if (options_.no_symlinks) return Errno::kELOOP;
  if ((current_.mount->flags() & kMountNosymfollow) != 0) return Errno::kELOOP;
  if (trailing) TRY(CheckProtectedLink(link));
  VfsPath magic = TRY(link.FollowMagicLink(ctx_));
  if (magic) {
    if (options_.no_magic_links) return Errno::kELOOP;
    if (options_.no_xdev && !(magic.mount == current_.mount)) return Errno::kEXDEV;
    if (options_.beneath || options_.in_root) return Errno::kEXDEV;
    current_ = std::move(magic);
    // As a target that is walked already: what is left is the rest of the path.
    if (trailing) {
      rest_ = {};
      return false;
    }
    return true;
  }
  std::string target = TRY(link.ReadLink(ctx_));
  if (target.empty()) return Errno::kENOENT;
  if (target.size() >= kPathMax) return Errno::kENAMETOOLONG;
  target.append(rest_.data(), rest_.size());
  if (target[0] == '/') TRY(JumpToRoot());
  storage_ = std::move(target);
  rest_ = storage_;
  return true;
}

Result<void> PathWalker::JumpToRoot() {
  if (options_.beneath) return Errno::kEXDEV;
  if (!root_) root_ = ctx_.root();
  if (options_.no_xdev && !(root_.mount == current_.mount)) return Errno::kEXDEV;
  current_ = root_;
  return {};
}

// handle_dots(): never above the root.
Result<void> PathWalker::GoUp() {
  if (!root_) root_ = ctx_.root();
  for (;;) {
    if (current_ == root_) {
      if (options_.beneath) return Errno::kEXDEV;
      return {};
    }
    if (!(current_.dentry == current_.mount->root())) break;
    VfsPath place = ctx_.mount_namespace().MountpointOf(*current_.mount);
    if (!place) return {};
    if (options_.no_xdev) return Errno::kEXDEV;
    current_ = std::move(place);
  }
  RefPtr<Dentry> parent = current_.dentry->parent();
  if (parent == nullptr) return {};
  // path_connected(): a directory that was moved out of what a bind mount shows leads nowhere.
  const RefPtr<Dentry>& mount_root = current_.mount->root();
  if (!mount_root->is_root() && !mount_root->IsAncestorOf(*parent)) return Errno::kENOENT;
  current_.dentry = std::move(parent);
  if (current_.dentry->is_mountpoint()) {
    VfsPath top = ctx_.mount_namespace().FollowMounts(current_);
    if (options_.no_xdev && !(top.mount == current_.mount)) return Errno::kEXDEV;
    current_ = std::move(top);
  }
  if (options_.beneath || options_.in_root) {
    // A rename or mount during the walk may have led it out of its scope: let the caller retry.
    if (mount_changes_ != ctx_.mount_namespace().change_count()) return Errno::kEAGAIN;
    VfsPath at = current_;
    while (!(at.mount == root_.mount)) {
      at = ctx_.mount_namespace().MountpointOf(*at.mount);
      if (!at) return Errno::kEAGAIN;
    }
    if (!root_.dentry->IsAncestorOf(*at.dentry)) return Errno::kEAGAIN;
  }
  return {};
}

Result<VfsPath> PathWalker::Finish(bool follow) {
  if (!empty_) {
    bool must_be_directory = options_.must_be_directory;
    for (;;) {
      TRY(WalkToLast());
      must_be_directory = must_be_directory || trailing_slash_;
      bool again = TRY(StepLast(follow));
      if (!again) break;
    }
    if (must_be_directory && !current_.dentry->inode_ptr()->is_directory()) return Errno::kENOTDIR;
  } else if (options_.must_be_directory && current_ && current_.dentry->inode_ptr() != nullptr &&
             !current_.dentry->inode_ptr()->is_directory()) {
    return Errno::kENOTDIR;
  }
  return std::move(current_);
}

Result<VfsPath> Walk(CallContext& ctx, const StartAt& start, absl::string_view path,
                     const WalkOptions& options) {
  return StaleRetry::Run([&]() -> Result<VfsPath> {
    PathWalker walker(ctx, options);
    TRY(walker.Start(start, path));
    return walker.Finish(options.follow_last);
  });
}

Result<VfsPath> WalkParent(CallContext& ctx, const StartAt& start, absl::string_view path,
                           const WalkOptions& options, std::string* last, bool* trailing_slash) {
  return StaleRetry::Run([&]() -> Result<VfsPath> {
    PathWalker walker(ctx, options);
    TRY(walker.Start(start, path));
    TRY(walker.WalkToLast());
    if (walker.last_type() == LastType::kNormal) {
      *last = std::string(walker.last());
    } else {
      last->clear();
      TRY(walker.StepLast(false));
    }
    if (trailing_slash != nullptr) *trailing_slash = walker.trailing_slash();
    return std::move(walker.current());
  });
}

}  // namespace caisson::vfs
