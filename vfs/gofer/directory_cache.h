// What is known of one directory's entries.
#ifndef CAISSON_VFS_GOFER_DIRECTORY_CACHE_H_
#define CAISSON_VFS_GOFER_DIRECTORY_CACHE_H_

#include <atomic>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "gofer/protocol/messages.h"

namespace caisson::vfs {

class GoferInode;

struct DirectoryListingEntry {
  std::string name;
  uint64_t ino;
  uint16_t type;  // DT_*.
};
using DirectoryListing = std::vector<DirectoryListingEntry>;

// Below the dentry cache: names that a listing brought along have no inode yet, and after a host
// event only the name that it is about has to be asked for again. Everything in it holds only
// while the directory is watched; the owner drops it when the watch ends.
//
// Thread-safe through mu(), which the owner takes around several calls.
class DirectoryCache {
 public:
  enum class Kind : uint8_t {
    kUnknown,  // To be asked for, even if the listing is complete.
    kAbsent,
    kRecord,   // Attributes that a listing brought.
    kInode,    // Weak: the inode takes itself out (ForgetInode()), and is at one name only.
  };
  struct Found {
    Kind kind;
    GoferInode* inode;
    const caisson::gofer::WireAttributes* record;  // While mu() is held.
  };

  DirectoryCache();
  Mutex& mu() ABSL_LOCK_RETURNED(mu_) { return mu_; }

  // kUnknown too if nothing is known.
  Found FindLocked(absl::string_view name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetInodeLocked(absl::string_view name, GoferInode* inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetRecordLocked(absl::string_view name, const caisson::gofer::WireAttributes& attr)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetAbsentLocked(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetUnknownLocked(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `inode` goes; what is at `name` stays, with `record` if that is known and current.
  void ForgetInode(absl::string_view name, const GoferInode* inode,
                   const caisson::gofer::WireAttributes* record) ABSL_LOCKS_EXCLUDED(mu_);
  // Every listed name is in the table: what is not there does not exist.
  void SetCompleteLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { complete_ = true; }
  bool completeLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return complete_; }
  // Drops everything but the links to inodes, which it returns.
  std::vector<GoferInode*> ClearLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Frees the records (memory is short).
  void DropRecordsLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  size_t records() const { return records_.load(std::memory_order_relaxed); }

  // Counts lookups that had to ask; a few make a listing worth its message.
  int CountMissLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return ++misses_; }

  // The guest changed entries: the listing is no longer what it was.
  void OwnChangeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    ++changes_;
    listing_.reset();
  }
  // Somebody else changed an entry, or (with `names`) which entries there are: answers that are
  // on their way are doubtful, and in the latter case so are dentries.
  void ForeignChangeLocked(bool names) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint64_t foreign_changes_locked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return foreign_changes_;
  }
  // Counts the guest's too.
  uint64_t changes_locked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return changes_; }
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  std::shared_ptr<const DirectoryListing> listing_locked() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return listing_;
  }
  // `at` is when it was asked for (ns): the age of the records that come with it.
  void SetListingLocked(std::shared_ptr<const DirectoryListing> listing, int64_t at)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    listing_ = std::move(listing);
    listed_at_ = at;
  }
  int64_t listed_at_locked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return listed_at_; }

  // The guest is about to cause the host event `mask` for `name`, which shall not count as foreign.
  // The result goes to Unexpect() if it does not happen after all.
  bool ExpectLocked(uint32_t mask, absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // False if the event came already: then it was somebody else's.
  bool UnexpectLocked(uint32_t mask, absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // -1: not watched.
  int watch() const { return watch_.load(std::memory_order_acquire); }
  void set_watch(int watch) { watch_.store(watch, std::memory_order_release); }

  // Place in the file system's list of directories with records; guarded by its lock.
  std::list<GoferInode*>::iterator primed_place;
  bool primed = false;
  size_t primed_count = 0;

 private:
  struct Entry {
    Kind kind = Kind::kUnknown;
    GoferInode* inode = nullptr;
    std::unique_ptr<caisson::gofer::WireAttributes> record;
  };
  struct Expected {
    uint32_t mask;
    std::string name;
  };
  Entry& SlotLocked(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ResetLocked(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Mutex mu_;  // Inside of the file system's place_mu(); outside of inodes' attribute locks.
  absl::flat_hash_map<std::string, Entry> entries_ ABSL_GUARDED_BY(mu_);
  size_t limit_ ABSL_GUARDED_BY(mu_);
  bool complete_ ABSL_GUARDED_BY(mu_) = false;
  int misses_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t changes_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t foreign_changes_ ABSL_GUARDED_BY(mu_) = 0;
  std::shared_ptr<const DirectoryListing> listing_ ABSL_GUARDED_BY(mu_);
  int64_t listed_at_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<Expected> expected_ ABSL_GUARDED_BY(mu_);
  std::atomic<uint64_t> generation_{1};
  std::atomic<int> watch_{-1};
  std::atomic<size_t> records_{0};  // Written under mu_; read anywhere.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_GOFER_DIRECTORY_CACHE_H_
