// What inotify(7) hangs on an inode.
#ifndef CAISSON_VFS_WATCHES_H_
#define CAISSON_VFS_WATCHES_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "base/ref.h"

namespace caisson::vfs {

class Dentry;
class FileDescription;
class Inode;

// IN_* of inotify(7).
inline constexpr uint32_t kInAccess = 0x1, kInModify = 0x2, kInAttrib = 0x4, kInCloseWrite = 0x8,
                          kInCloseNowrite = 0x10, kInOpen = 0x20, kInMovedFrom = 0x40,
                          kInMovedTo = 0x80, kInCreate = 0x100, kInDelete = 0x200,
                          kInDeleteSelf = 0x400, kInMoveSelf = 0x800, kInUnmount = 0x2000,
                          kInQOverflow = 0x4000, kInIgnored = 0x8000, kInOnlydir = 0x01000000,
                          kInDontFollow = 0x02000000, kInExclUnlink = 0x04000000,
                          kInMaskCreate = 0x10000000, kInMaskAdd = 0x20000000,
                          kInIsdir = 0x40000000, kInOneshot = 0x80000000u;

// One watcher of one inode; inotify instances derive from it.
class InodeWatch : public RefCounted<InodeWatch> {
 public:
  virtual ~InodeWatch() = default;
  // `name` is empty for events of the inode itself, else of its child. `mask` has one event bit
  // and perhaps kInIsdir. Runs under the lock of InodeWatches: it must not add or remove watches
  // and must not block. False: it is done, and InodeWatches lets go of it.
  virtual bool OnEvent(uint32_t mask, uint32_t cookie, absl::string_view name,
                       bool child_unlinked) = 0;
};

// The watches of one inode (Inode::watches()). Thread-safe.
class InodeWatches {
 public:
  void Add(RefPtr<InodeWatch> watch);
  void Remove(InodeWatch& watch);
  // The caller holds a reference to the inode: a watch may give up its own.
  void Notify(uint32_t mask, uint32_t cookie, absl::string_view name, bool child_unlinked = false);
  bool empty() const { return count_.load(std::memory_order_acquire) == 0; }

 private:
  mutable Mutex mu_;
  std::vector<RefPtr<InodeWatch>> watches_ ABSL_GUARDED_BY(mu_);
  std::atomic<uint32_t> count_{0};
};

// Tells the watches of `dentry`'s inode, and those of its parent with the name, of `mask`
// (Linux fs/notify/fsnotify.c, fsnotify_dentry()). Costs a load when nothing of the file system is
// watched.
void NotifyWatches(Dentry& dentry, uint32_t mask);
// Of an open file: IN_ACCESS, IN_MODIFY, IN_OPEN, IN_CLOSE_*.
void NotifyFileWatches(FileDescription& file, uint32_t mask);
// A directory's own event about a child: IN_CREATE, IN_DELETE, IN_MOVED_*. For changes that come
// from the host too.
void NotifyDirectoryWatches(Inode& directory, uint32_t mask, absl::string_view name, bool is_dir,
                            uint32_t cookie = 0);

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_WATCHES_H_
