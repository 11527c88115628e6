// Names in the tree, cached: what a path walk steps over without asking a file system.
#ifndef CAISSON_VFS_DENTRY_H_
#define CAISSON_VFS_DENTRY_H_

#include <atomic>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "vfs/inode.h"

namespace caisson::vfs {

// One name in one directory. Holds its parent; the parent's table of children is weak, and a
// bounded LRU list of the DentryCache keeps recently used ones alive. Thread-safe; the tree's
// shape changes under the rename lock (vfs/dentry.cc), taken shared by walks.
class Dentry : public RefCounted<Dentry> {
 public:
  // A root of a file system, or a detached name (anonymous files, memfds) when `inode` is not a
  // directory of the tree.
  static RefPtr<Dentry> NewRoot(RefPtr<Inode> inode, absl::string_view name = "/");
  virtual ~Dentry();

  // Null for a negative dentry (a name known not to exist).
  RefPtr<Inode> inode() const ABSL_LOCKS_EXCLUDED(mu_);
  // Null for a root.
  RefPtr<Dentry> parent() const ABSL_LOCKS_EXCLUDED(mu_);
  std::string name() const ABSL_LOCKS_EXCLUDED(mu_);
  bool is_root() const;
  // Unlinked or removed since it was looked up: /proc shows " (deleted)".
  bool is_deleted() const { return deleted_.load(std::memory_order_acquire); }
  // Whether `other` is this dentry or below it.
  bool IsAncestorOf(const Dentry& other) const;
  // How many mounts sit on this dentry, over all namespaces; walks look for them if not 0.
  bool is_mountpoint() const { return mounts_here_.load(std::memory_order_acquire) != 0; }

  // The child of that name: from the cache while the directory's LookupGeneration() is what it was,
  // else by Inode::Lookup. A negative dentry is a result, not an error. Errors: Lookup's, but ENOENT.
  Result<RefPtr<Dentry>> LookupChild(CallContext& ctx, absl::string_view name);
  // Tells the cache of a change that was made in the file system.
  void AttachChild(absl::string_view name, RefPtr<Inode> inode, RefPtr<Dentry>* out = nullptr);
  void DetachChild(absl::string_view name);  // Unlinked: the dentry becomes deleted.
  static void Move(Dentry& old_parent, absl::string_view old_name, Dentry& new_parent,
                   absl::string_view new_name, bool exchange);
  // Forgets cached children (all, or one), for changes made behind our back.
  void Invalidate();
  void InvalidateChild(absl::string_view name);

 private:
  friend class Mount;
  friend class MountNamespace;
  Dentry(RefPtr<Dentry> parent, absl::string_view name, RefPtr<Inode> inode, uint64_t generation);

  mutable Mutex mu_;
  RefPtr<Dentry> parent_ ABSL_GUARDED_BY(mu_);
  std::string name_ ABSL_GUARDED_BY(mu_);
  RefPtr<Inode> inode_ ABSL_GUARDED_BY(mu_);
  uint64_t generation_ ABSL_GUARDED_BY(mu_);  // The parent's LookupGeneration() when looked up.
  absl::flat_hash_map<std::string, Dentry*> children_ ABSL_GUARDED_BY(mu_);
  std::atomic<bool> deleted_{false};
  std::atomic<uint32_t> mounts_here_{0};
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_DENTRY_H_
