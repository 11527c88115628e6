#include "vfs/watches.h"

#include <algorithm>

#include "vfs/dentry.h"
#include "vfs/file_description.h"

namespace caisson::vfs {

void InodeWatches::Add(RefPtr<InodeWatch> watch) {
  MutexLock lock(mu_);
  watches_.push_back(std::move(watch));
  count_.store(static_cast<uint32_t>(watches_.size()), std::memory_order_release);
}

void InodeWatches::Remove(InodeWatch& watch) {
  RefPtr<InodeWatch> dropped;  // Released after the lock.
  MutexLock lock(mu_);
  auto it = std::find(watches_.begin(), watches_.end(), &watch);
  if (it == watches_.end()) return;
  dropped = std::move(*it);
  watches_.erase(it);
  count_.store(static_cast<uint32_t>(watches_.size()), std::memory_order_release);
}

void InodeWatches::Notify(uint32_t mask, uint32_t cookie, absl::string_view name,
                          bool child_unlinked) {
  if (empty()) return;
  std::vector<RefPtr<InodeWatch>> done;
  MutexLock lock(mu_);
  for (size_t i = 0; i < watches_.size();) {
    if (watches_[i]->OnEvent(mask, cookie, name, child_unlinked)) {
      ++i;
      continue;
    }
    done.push_back(std::move(watches_[i]));
    watches_.erase(watches_.begin() + static_cast<ptrdiff_t>(i));
  }
  count_.store(static_cast<uint32_t>(watches_.size()), std::memory_order_release);
}

void NotifyWatches(Dentry& dentry, uint32_t mask) {
  Inode* inode = dentry.inode_ptr();
  if (inode == nullptr || !inode->fs().ever_watched()) return;
  const uint32_t dir_bit = inode->is_directory() ? kInIsdir : 0;
  if (RefPtr<Dentry> parent = dentry.parent()) {
    InodeWatches* watches = parent->inode_ptr()->watches_if_any();
    if (watches != nullptr && !watches->empty())
      watches->Notify(mask | dir_bit, 0, dentry.name(), dentry.is_deleted());
  }
  if (InodeWatches* watches = inode->watches_if_any()) watches->Notify(mask | dir_bit, 0, "");
}

void NotifyFileWatches(FileDescription& file, uint32_t mask) {
  if (file.kind() == FileKind::kPath || !file.path()) return;
  NotifyWatches(*file.path().dentry, mask);
}

void NotifyDirectoryWatches(Inode& directory, uint32_t mask, absl::string_view name, bool is_dir,
                            uint32_t cookie) {
  if (InodeWatches* watches = directory.watches_if_any())
    watches->Notify(mask | (is_dir ? kInIsdir : 0), cookie, name);
}

}  // namespace caisson::vfs
