// Names in the tree, cached: what a path walk steps over without asking a file system.
#ifndef CAISSON_VFS_DENTRY_H_
#define CAISSON_VFS_DENTRY_H_

#include <atomic>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "vfs/inode.h"
#include "vfs/name_hash.h"

namespace caisson::vfs {

// One name in one directory. Holds its parent; the parent's table of children is weak, and a
// bounded LRU list of the DentryCache keeps recently used ones alive. What it leads to never
// changes: a name that comes to mean something else gets a new dentry. Thread-safe; parent and
// name change under the tree lock (vfs/dentry.cc).
class Dentry : public RefCounted<Dentry> {
 public:
  // A root of a file system, or a detached name (anonymous files, memfds) when `inode` is not a
  // directory of the tree. A name other than "/" is shown as it is ("pipe:[7]").
  static RefPtr<Dentry> NewRoot(RefPtr<Inode> inode, absl::string_view name = "/");
  // A name that was never in `parent`, deleted from the start (O_TMPFILE).
  static RefPtr<Dentry> NewUnlinked(RefPtr<Dentry> parent, absl::string_view name,
                                    RefPtr<Inode> inode);
  virtual ~Dentry();
  // Ends chains of parents in a loop: a guest can make them deeper than a stack.
  void DecRef() const;

  // Null for a negative dentry (a name known not to exist).
  RefPtr<Inode> inode() const { return inode_; }
  Inode* inode_ptr() const { return inode_.get(); }  // Borrowed from this dentry.
  bool is_negative() const { return inode_ == nullptr; }
  // Null for a root.
  RefPtr<Dentry> parent() const ABSL_LOCKS_EXCLUDED(mu_);
  std::string name() const ABSL_LOCKS_EXCLUDED(mu_);
  bool is_root() const;
  // Unlinked or removed since it was looked up: /proc shows " (deleted)".
  bool is_deleted() const { return deleted_.load(std::memory_order_acquire); }
  // Whether `other` is this dentry or below it.
  bool IsAncestorOf(const Dentry& other) const;
  // "/a/b" from the root of its file system.
  std::string NameInFileSystem() const;
  // How many mounts sit on this dentry, over all namespaces; walks look for them if not 0.
  bool is_mountpoint() const { return mounts_here_.load(std::memory_order_acquire) != 0; }

  // The child of that name: from the cache while the directory's LookupGeneration() is what it was,
  // else by Inode::Lookup. A negative dentry is a result, not an error. Errors: Lookup's, but ENOENT.
  Result<RefPtr<Dentry>> LookupChild(CallContext& ctx, absl::string_view name);
  // The same for callers that hold the directory_lock() of the inode, shared or not.
  Result<RefPtr<Dentry>> LookupChildLocked(CallContext& ctx, absl::string_view name);
  // Tells the cache of a change that was made in the file system.
  void AttachChild(absl::string_view name, RefPtr<Inode> inode, RefPtr<Dentry>* out = nullptr);
  void DetachChild(absl::string_view name);  // Unlinked: the dentry becomes deleted.
  static void Move(Dentry& old_parent, absl::string_view old_name, Dentry& new_parent,
                   absl::string_view new_name, bool exchange);
  // Forgets cached children (all, or one), for changes made behind our back.
  void Invalidate();
  void InvalidateChild(absl::string_view name);

 private:
  friend class DentryCache;
  friend class MountNamespace;
  friend class MountTree;
  Dentry(RefPtr<Dentry> parent, absl::string_view name, RefPtr<Inode> inode, uint64_t generation);

  // The cached child, if it may be used while the generation is `generation`.
  RefPtr<Dentry> FindFresh(absl::string_view name, uint64_t generation) ABSL_LOCKS_EXCLUDED(mu_);
  RefPtr<Dentry> FindAny(absl::string_view name) ABSL_LOCKS_EXCLUDED(mu_);
  RefPtr<Dentry> TakeChild(absl::string_view name) ABSL_LOCKS_EXCLUDED(mu_);
  bool IsFresh(uint64_t generation) const;
  void AddMount() { mounts_here_.fetch_add(1, std::memory_order_acq_rel); }
  void RemoveMount() { mounts_here_.fetch_sub(1, std::memory_order_acq_rel); }

  // No reference to another dentry is dropped under it: that could end one, which locks its
  // parent. Parent before child.
  mutable Mutex mu_;
  RefPtr<Dentry> parent_ ABSL_GUARDED_BY(mu_);
  std::string name_ ABSL_GUARDED_BY(mu_);
  const RefPtr<Inode> inode_;
  std::atomic<uint64_t> generation_;  // The parent's LookupGeneration() when looked up. Relaxed.
  absl::flat_hash_map<std::string, Dentry*, NameHash, NameEqual> children_ ABSL_GUARDED_BY(mu_);
  std::atomic<bool> deleted_{false};
  std::atomic<uint32_t> mounts_here_{0};
  std::atomic<bool> recently_used_{false};  // For the DentryCache. Relaxed.
  size_t cache_slot_ = ~size_t{0};          // Guarded by the DentryCache's lock.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_DENTRY_H_
