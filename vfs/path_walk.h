// The path walk (Linux fs/namei.c, link_path_walk() and its kin).
#ifndef CAISSON_VFS_PATH_WALK_H_
#define CAISSON_VFS_PATH_WALK_H_

#include <string>

#include "absl/strings/string_view.h"
#include "base/result.h"
#include "vfs/dentry.h"
#include "vfs/mount.h"
#include "vfs/operations.h"

namespace caisson::vfs {

enum class LastType { kNormal, kRoot, kDot, kDotDot };

// inode_permission(): read-only file systems, then the inode's own rule.
Result<void> MayAccess(CallContext& ctx, Inode& inode, AccessMask access);

// One resolution of one path. Used by one thread; `path` given to Start() must outlive it.
class PathWalker {
 public:
  PathWalker(CallContext& ctx, const WalkOptions& options) : ctx_(ctx), options_(options) {}

  // Errors: ENOENT for "" (unless allow_empty), ENAMETOOLONG, EXDEV.
  Result<void> Start(const StartAt& start, absl::string_view path);
  // Walks until the last component is next: current() is its directory, searchable by the caller.
  Result<void> WalkToLast();
  LastType last_type() const { return last_type_; }
  absl::string_view last() const { return last_; }
  bool trailing_slash() const { return trailing_slash_; }
  VfsPath& current() { return current_; }
  // Steps over the last component. True: it was a link whose target has to be walked:
  // WalkToLast() comes next. Errors: ENOENT and so on.
  Result<bool> StepLast(bool follow);
  // The same with the child already looked up (a last component of type kNormal).
  Result<bool> StepInto(RefPtr<Dentry> child, bool follow, bool trailing);
  // All of it, from where Start() left.
  Result<VfsPath> Finish(bool follow);

 private:
  Result<void> MayLookup();
  Result<void> GoUp();
  Result<bool> FollowLink(Inode& link, bool trailing);
  Result<void> CheckProtectedLink(Inode& link);
  Result<void> JumpToRoot();

  CallContext& ctx_;
  const WalkOptions& options_;
  VfsPath root_;
  VfsPath current_;
  std::string storage_;      // What rest_ and last_ point into once a link was followed.
  absl::string_view rest_;   // Not walked yet.
  absl::string_view last_;
  LastType last_type_ = LastType::kRoot;
  bool trailing_slash_ = false;
  bool empty_ = false;
  int links_ = 0;
  uint64_t mount_changes_ = 0;  // At the start, for scoped walks.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_PATH_WALK_H_
