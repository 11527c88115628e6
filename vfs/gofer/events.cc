// What host events mean for a directory, its entries and their inodes.
#include <sys/inotify.h>

#include "time/clock.h"
#include "vfs/gofer/inode.h"
#include "vfs/watches.h"

namespace caisson::vfs {

namespace gp = caisson::gofer;

namespace {

// An event of this age or less may be of the guest's own doing, of which its watches were told.
constexpr int64_t kOwnEventAge = 200'000'000;

}  // namespace

void GoferInode::CoverageLost(bool watch_gone) {
  std::vector<RefPtr<GoferInode>> children;
  {
    // The entries' inodes leave under this lock.
    MutexLock lock(gofer().place_mu());
    if (watch_gone) directory_->set_watch(-1);
    MutexLock cache_lock(directory_->mu());
    for (GoferInode* child : directory_->ClearLocked())
      if (child->TryIncRef()) children.push_back(RefPtr<GoferInode>::Adopt(child));
    directory_->ForeignChangeLocked(true);
  }
  Invalidate(true);
  for (RefPtr<GoferInode>& child : children) {
    child->Invalidate(true);
    child->DropReadFile();
  }
}

bool GoferInode::HandleEvent(uint32_t mask, uint32_t cookie, absl::string_view name) {
  const uint32_t kind = mask & IN_ALL_EVENTS;
  const bool is_dir = (mask & IN_ISDIR) != 0;
  if (name.empty()) {  // Of this directory itself.
    if ((kind & (IN_ATTRIB | IN_DELETE_SELF)) != 0) Invalidate(true);
    return false;
  }
  const bool appears = (kind & (IN_CREATE | IN_MOVED_TO)) != 0;
  const bool goes = (kind & (IN_DELETE | IN_MOVED_FROM)) != 0;
  RefPtr<GoferInode> child;
  bool own = false;
  {
    MutexLock lock(gofer().place_mu());
    MutexLock cache_lock(directory_->mu());
    if ((appears || goes) && directory_->UnexpectLocked(kind, name)) return false;
    DirectoryCache::Found found = directory_->FindLocked(name);
    if (found.inode != nullptr && found.inode->TryIncRef())
      child = RefPtr<GoferInode>::Adopt(found.inode);
    if (child) {
      const int64_t changed = child->own_change_.load(std::memory_order_relaxed);
      own = time::MonotonicNow() - changed < kOwnEventAge;
    }
    // The last of what was done to a file that is gone by now.
    if (!appears && !goes && found.kind == DirectoryCache::Kind::kAbsent) return false;
    if (!appears && !goes && child && child->is_regular()) {
      // Somebody in the guest has it open for writing: its attributes come from that descriptor.
      MutexLock file_lock(child->file_mu_);
      if ((kind & IN_MODIFY) != 0 && child->write_file_ != nullptr) return true;
    }
    // What went may be back by now, its event being the next, and where two names are exchanged neither is ever
    // absent, although one event says that it has gone: the host is asked.
    if (appears || goes || found.kind == DirectoryCache::Kind::kRecord) directory_->SetUnknownLocked(name);
    // An answer about the inode that may be overtaken is told by its own count of invalidations.
    if (appears || goes || !own) directory_->ForeignChangeLocked(appears || goes);
  }
  if (appears || goes) Invalidate(false);
  if (child) {
    if (goes) child->ForgetName(*this, name);
    child->Invalidate((kind & IN_MODIFY) == 0);
    // The host may have copied it up; and a removed file should not be kept on its disk.
    if (child->is_regular() && !(own && (kind & (IN_ATTRIB | IN_MODIFY)) != 0))
      child->DropReadFile();
  }
  // The guest's inotify sees the host's changes. Its own were reported where they were made.
  if (appears || goes) {
    NotifyDirectoryWatches(*this, kind, name, is_dir, cookie);
  } else if (!own) {
    NotifyDirectoryWatches(*this, kind, name, is_dir);
    if (child) {
      if (InodeWatches* watches = child->watches_if_any())
        watches->Notify(kind | (is_dir ? kInIsdir : 0), 0, "");
    }
  }
  return false;
}

bool GoferInode::Expect(uint32_t mask, absl::string_view name) {
  MutexLock lock(directory_->mu());
  return directory_->ExpectLocked(mask, name);
}

void GoferInode::Unexpect(bool expected, uint32_t mask, absl::string_view name) {
  if (!expected) return;
  MutexLock lock(directory_->mu());
  if (directory_->UnexpectLocked(mask, name)) return;
  // An event of somebody else was taken for ours.
  directory_->SetUnknownLocked(name);
  directory_->ForeignChangeLocked(true);
}

void GoferInode::EntriesChanged(const gp::WireAttributes& after, Snapshot begin) {
  SetOwnChange();
  {
    MutexLock lock(directory_->mu());
    directory_->OwnChangeLocked();
  }
  if (IsPlausible(after) && begin.rest_covered) {
    TakeAttributes(after, begin);
  } else {
    Invalidate(false);
  }
}

}  // namespace caisson::vfs
