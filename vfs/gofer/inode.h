// Inodes of host files.
#ifndef CAISSON_VFS_GOFER_INODE_H_
#define CAISSON_VFS_GOFER_INODE_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "gofer/protocol/messages.h"
#include "vfs/file_description.h"
#include "vfs/gofer/convert.h"
#include "vfs/gofer/directory_cache.h"
#include "vfs/gofer/filesystem.h"
#include "vfs/inode.h"

namespace caisson::vfs {

// A donated descriptor of a regular file, shared by those who read, or by those who write.
class GoferHostFile : public RefCounted<GoferHostFile> {
 public:
  GoferHostFile(GoferInode* writer_of, UniqueFd fd) : writer_of_(writer_of), fd_(std::move(fd)) {}
  ~GoferHostFile();
  int fd() const { return fd_.get(); }

 private:
  GoferInode* const writer_of_;  // Null for readers. Held by the descriptions that hold this.
  const UniqueFd fd_;
};

// One host file, however many names it has. Thread-safe.
//
// Attributes are kept while host events would tell of a change: while the directory by which we
// know it is watched, and for a directory's times and links while it is watched itself. What
// changes by writing (size, times) comes from a donated descriptor as soon as there is one. An
// inode is at one name, its place, which is how requests find it when it has no handle.
class GoferInode final : public Inode {
 public:
  GoferInode(GoferFileSystem& fs, const HostId& id, FileMode type, DeviceNumber dev);
  ~GoferInode() override;
  GoferFileSystem& gofer() const { return static_cast<GoferFileSystem&>(fs()); }
  const HostId& id() const { return id_; }

  Result<Attributes> GetAttributes(CallContext& ctx) override;
  Result<void> SetAttributes(CallContext& ctx, const struct SetAttributes& change) override;
  Result<void> CheckPermission(CallContext& ctx, AccessMask access) override;
  Result<RefPtr<Inode>> Lookup(CallContext& ctx, absl::string_view name) override;
  Result<RefPtr<Inode>> Create(CallContext& ctx, absl::string_view name, FileMode mode) override;
  Result<RefPtr<Inode>> Mkdir(CallContext& ctx, absl::string_view name, FileMode mode) override;
  Result<RefPtr<Inode>> Symlink(CallContext& ctx, absl::string_view name,
                                absl::string_view target) override;
  Result<RefPtr<Inode>> Mknod(CallContext& ctx, absl::string_view name, FileMode mode,
                              DeviceNumber rdev) override;
  Result<void> Link(CallContext& ctx, absl::string_view name, Inode& target) override;
  Result<void> Unlink(CallContext& ctx, absl::string_view name, Inode& victim) override;
  Result<void> Rmdir(CallContext& ctx, absl::string_view name, Inode& victim) override;
  Result<void> Rename(CallContext& ctx, absl::string_view old_name, Inode& source, Inode& new_dir,
                      absl::string_view new_name, Inode* victim, uint32_t flags) override;
  Result<RefPtr<Inode>> CreateUnlinked(CallContext& ctx, FileMode mode) override;
  uint64_t LookupGeneration() override;
  Result<std::string> ReadLink(CallContext& ctx) override;
  Result<RefPtr<FileDescription>> Open(CallContext& ctx, const OpenArgs& args) override;
  Result<std::string> GetXattr(CallContext& ctx, absl::string_view name) override;
  Result<void> SetXattr(CallContext& ctx, absl::string_view name, absl::string_view value,
                        int flags) override;
  Result<std::vector<std::string>> ListXattr(CallContext& ctx) override;
  Result<void> RemoveXattr(CallContext& ctx, absl::string_view name) override;
  std::unique_ptr<HostLocks> MakeHostLocks() override;

  // --- For open files. ---
  // A descriptor for reading that shows the file as it is now: also to a new mapping.
  Result<RefPtr<GoferHostFile>> ReadFile() ABSL_LOCKS_EXCLUDED(file_mu_);
  Result<RefPtr<GoferHostFile>> WriteFile() ABSL_LOCKS_EXCLUDED(file_mu_);
  Result<RefPtr<GoferHostFile>> DirectFile(uint32_t access);
  // A descriptor of its own for locks of the host, for writing if that is possible.
  Result<UniqueFd> LockFile();
  // Grows when descriptors for reading that exist may show an old file to new mappings.
  uint64_t file_epoch() const { return file_epoch_.load(std::memory_order_acquire); }
  void Pin();  // Keeps the handle while the file is open.
  void Unpin();
  void SetRead() {
    if (!read_since_stat_.load(std::memory_order_relaxed))
      read_since_stat_.store(true, std::memory_order_relaxed);
  }
  void SetOwnChange();
  Mutex& append_mu() ABSL_LOCK_RETURNED(append_mu_) { return append_mu_; }
  void WriterGone(GoferHostFile& file) ABSL_LOCKS_EXCLUDED(file_mu_);
  Result<void> SyncDirectory(bool data_only);
  Result<std::shared_ptr<const DirectoryListing>> List(bool for_cache = false);
  uint64_t ParentIno() ABSL_LOCKS_EXCLUDED(gofer().place_mu());

  // --- For the file system. ---
  // What a request that is about to be sent may later bring in.
  struct Snapshot {
    uint64_t stamp = 0;          // 0: older than any.
    uint64_t invalidations = 0;  // kAny: not compared.
    bool permissions_covered = false;
    bool rest_covered = false;
    int64_t taken_at = 0;        // ns; 0: now.
  };
  Snapshot Begin() ABSL_LOCKS_EXCLUDED(gofer().place_mu(), attr_mu_);
  void TakeAttributes(const caisson::gofer::WireAttributes& wire, const Snapshot& begin)
      ABSL_LOCKS_EXCLUDED(attr_mu_);
  void Invalidate(bool permissions) ABSL_LOCKS_EXCLUDED(attr_mu_);
  void DropReadFile() ABSL_LOCKS_EXCLUDED(file_mu_);
  void EvictReadFile() ABSL_LOCKS_EXCLUDED(file_mu_);  // Gives the idle descriptor up.
  void PrepareToBeWatched() override ABSL_LOCKS_EXCLUDED(attr_mu_);
  DirectoryCache* directory() { return directory_.get(); }
  bool is_watched() const { return directory_ != nullptr && directory_->watch() >= 0; }
  // The watch is gone, or events were lost: all that it covered is doubtful.
  void CoverageLost(bool watch_gone) ABSL_LOCKS_EXCLUDED(gofer().place_mu());
  // An event of this directory's watch. The result is as GoferWatcher::Listener's.
  bool HandleEvent(uint32_t mask, uint32_t cookie, absl::string_view name)
      ABSL_LOCKS_EXCLUDED(gofer().place_mu());

 private:
  friend class GoferFileSystem;
  friend class GoferPlace;
  static constexpr uint64_t kAny = ~uint64_t{0};

  enum class Evidence : uint8_t {
    kSure,      // An answer, if there was no event since.
    kDoubtful,  // An answer that events may have overtaken: it has to be asked for again.
    kRecord,    // A record of our cache, if it is still there.
  };
  // `child` is at `name` here: sets its place and our entry. Returns whether events tell of changes
  // of the entry from now on. kSure: `foreign_before` is ForeignChanges() from before the question; an event that
  // came in since, be it between the answer and here, makes it doubtful.
  bool Attach(absl::string_view name, GoferInode& child, Evidence evidence, uint64_t foreign_before = 0)
      ABSL_LOCKS_EXCLUDED(gofer().place_mu());
  // `name` is gone from here by the guest's own doing, unless an event since `foreign_before` says that it may be back.
  void SetGone(absl::string_view name, uint64_t foreign_before);
  uint64_t ForeignChanges();
  // Is not at `name` of `dir` any more: goes on with another name that it had.
  void ForgetName(GoferInode& dir, absl::string_view name) ABSL_LOCKS_EXCLUDED(gofer().place_mu());
  // Is not at its place. False if no other name of it is known.
  bool LosePlace() ABSL_LOCKS_EXCLUDED(gofer().place_mu());
  struct Name {
    RefPtr<GoferInode> directory;
    std::string name;
  };
  // The next of other_names_ becomes the place. The old parent is returned, to be dropped later.
  RefPtr<GoferInode> NextPlaceLocked();
  // Attributes of this object, asked for; with a watch if it is a directory without.
  Result<void> Fetch() ABSL_LOCKS_EXCLUDED(attr_mu_);
  // True if *attr could be filled from what is known.
  bool Known(bool permissions_only, Attributes* attr) ABSL_LOCKS_EXCLUDED(attr_mu_);
  bool CoveredByParentLocked();
  uint16_t WatchFlag();

  struct CachedLookup {
    bool known = false;
    RefPtr<GoferInode> inode;  // Null if known: there is none.
    bool should_list = false;
  };
  CachedLookup LookupCached(absl::string_view name);
  Result<RefPtr<Inode>> Make(CallContext& ctx, caisson::gofer::Op op, absl::string_view name,
                             FileMode mode, DeviceNumber rdev, absl::string_view target);
  Result<void> Remove(absl::string_view name, GoferInode& victim, uint16_t flags);
  void LostName(GoferInode& dir, absl::string_view name, uint64_t handle,
                const caisson::gofer::WireAttributes* now);
  Result<void> TakeCreatedFile(UniqueFd fd) ABSL_LOCKS_EXCLUDED(file_mu_);
  void Prime(const DirectoryListing& listing,
             const std::vector<caisson::gofer::WireAttributes>& attributes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(directory_->mu());
  bool NeedsKeeping() ABSL_LOCKS_EXCLUDED(gofer().place_mu());
  // Own changes and the host events that they cause.
  bool Expect(uint32_t mask, absl::string_view name);
  void Unexpect(bool expected, uint32_t mask, absl::string_view name);
  // The guest changed entries here: `after` is what this directory is since a request that was
  // sent at `begin`.
  void EntriesChanged(const caisson::gofer::WireAttributes& after, Snapshot begin);
  Result<UniqueFd> OpenHost(uint32_t access, uint32_t flags);
  Result<bool> HasXattrs();

  const HostId id_;
  const DeviceNumber dev_;
  const std::unique_ptr<DirectoryCache> directory_;  // Null unless a directory.

  // Guarded by gofer().place_mu() (an annotation cannot name it through fs()):
  RefPtr<GoferInode> parent_;  // Null: the root, or no name is known.
  std::string name_;
  std::vector<Name> other_names_;  // Hints: the gofer checks what is there. Not for directories.
  uint64_t handle_ = 0;
  int pins_ = 0;
  size_t ring_slot_ = ~size_t{0};

  mutable Mutex attr_mu_;
  Attributes attr_ ABSL_GUARDED_BY(attr_mu_);
  bool permissions_valid_ ABSL_GUARDED_BY(attr_mu_) = false;
  bool rest_valid_ ABSL_GUARDED_BY(attr_mu_) = false;
  bool dead_ ABSL_GUARDED_BY(attr_mu_) = false;  // No name and no handle: attr_ is all there is.
  enum class Xattrs : uint8_t { kUnknown, kNone, kSome };
  Xattrs xattrs_ ABSL_GUARDED_BY(attr_mu_) = Xattrs::kUnknown;  // Holds while permissions_valid_.
  uint64_t stamp_ ABSL_GUARDED_BY(attr_mu_) = 0;
  uint64_t invalidations_ ABSL_GUARDED_BY(attr_mu_) = 0;
  int64_t taken_at_ ABSL_GUARDED_BY(attr_mu_) = 0;  // ns, CLOCK_MONOTONIC.
  std::string link_ ABSL_GUARDED_BY(attr_mu_);      // A symbolic link's target never changes.

  Mutex file_mu_;
  RefPtr<GoferHostFile> read_file_ ABSL_GUARDED_BY(file_mu_);
  GoferHostFile* write_file_ ABSL_GUARDED_BY(file_mu_) = nullptr;  // Weak.
  RefPtr<GoferHostFile> created_file_ ABSL_GUARDED_BY(file_mu_);   // Until the first Open().
  std::atomic<uint64_t> file_epoch_{0};
  std::atomic<bool> unwatchable_{false};      // The gofer could place no watch. Relaxed.
  std::atomic<bool> must_watch_{false};       // A watch of the guest depends on ours. Relaxed.
  std::atomic<bool> read_since_stat_{false};  // Reading moved the access time. Relaxed.
  std::atomic<int64_t> own_change_{0};  // ns: when the guest last changed it. Relaxed.
  Mutex append_mu_;  // Held for a write and a stat, so that the position after an append is known.
  size_t open_slot_ = ~size_t{0};  // Guarded by the file system's open_mu_.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_GOFER_INODE_H_
