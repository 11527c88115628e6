#include "base/check.h"
#include "vfs/file_description.h"

namespace caisson::vfs {

void FileDescription::AddWatcher(FileWatcher& watcher) {
  MutexLock lock(async_mu_);
  CHECK(!watcher.linked_);
  watcher.linked_ = true;
  watcher.prev_ = nullptr;
  watcher.next_ = watchers_;
  if (watchers_ != nullptr) watchers_->prev_ = &watcher;
  watchers_ = &watcher;
  was_watched_.store(true, std::memory_order_release);
}

void FileDescription::RemoveWatcher(FileWatcher& watcher) {
  MutexLock lock(async_mu_);
  if (!watcher.linked_) return;
  watcher.linked_ = false;
  if (watcher.next_ != nullptr) watcher.next_->prev_ = watcher.prev_;
  (watcher.prev_ != nullptr ? watcher.prev_->next_ : watchers_) = watcher.next_;
}

void FileDescription::OnLastRelease() const {
  // Whoever added a watcher held a reference then, so the flag is current here.
  if (!was_watched_.load(std::memory_order_acquire)) return;
  // Each watcher leaves the list by itself, under the lock of its owner: one that is being removed
  // by another thread at this moment is waited for there.
  for (;;) {
    RefPtr<FileWatcher> watcher;
    {
      MutexLock lock(async_mu_);
      if (watchers_ == nullptr) return;
      watcher = RefPtr<FileWatcher>(watchers_);
    }
    watcher->OnFileRelease();
  }
}

}  // namespace caisson::vfs
