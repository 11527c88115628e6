// Inodes and file systems: what a file system implements.
#ifndef CAISSON_VFS_INODE_H_
#define CAISSON_VFS_INODE_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "vfs/call_context.h"
#include "vfs/types.h"

namespace caisson::vfs {

class DentryCache;
class FileLocks;
class HostLocks;
class InodeWatches;

// One mounted instance of a file system (a superblock).
class FileSystem : public RefCounted<FileSystem> {
 public:
  explicit FileSystem(absl::string_view type_name);
  virtual ~FileSystem();
  // "tmpfs", "proc": as in /proc/mounts.
  const std::string& type_name() const { return type_name_; }
  // st_dev of its inodes: an anonymous device (major 0), made unique at construction unless it stands
  // for a part of another one.
  DeviceNumber device() const { return device_; }
  virtual RefPtr<Inode> root() = 0;
  virtual Result<FsStatistics> Statistics(CallContext& ctx) = 0;
  virtual Result<void> Sync() { return {}; }
  // Options as /proc/mounts shows them after rw/ro etc: "size=1024k,mode=755"; empty for none.
  virtual std::string MountOptions() const { return ""; }
  // mount -o remount,DATA. Errors: EINVAL for an unknown option.
  virtual Result<void> Remount(CallContext& ctx, uint64_t flags, absl::string_view data);
  virtual bool read_only() const { return false; }

  // Each Mount counts as a user, and so does what uses the file system without one (the layers of
  // an overlay). When the last one goes, cached dentries are dropped and OnLastUnmount() runs:
  // an implementation whose root and inodes hold each other lets go of its root there.
  void AddUser();
  void RemoveUser();
  // The one dentry of root(), shared by all mounts.
  RefPtr<Dentry> RootDentry();

  // An overlay changes directories of this file system without our dentries: from now on every
  // walk asks Lookup() again.
  void set_changed_beneath() { changed_beneath_.store(true, std::memory_order_release); }
  bool changed_beneath() const { return changed_beneath_.load(std::memory_order_acquire); }

  // --- For the vfs core. ---
  DentryCache& dentry_cache() { return *dentry_cache_; }
  // Taken by renames from one directory to another, before directory locks: only under it does
  // the shape of the tree change (Linux s_vfs_rename_mutex).
  Mutex& rename_mutex() ABSL_LOCK_RETURNED(rename_mutex_) { return rename_mutex_; }
  // Whether any inode was ever watched: spares the others the search for watches.
  bool ever_watched() const { return ever_watched_.load(std::memory_order_relaxed); }
  void set_ever_watched() { ever_watched_.store(true, std::memory_order_relaxed); }

 protected:
  virtual void OnLastUnmount() {}
  // Before anybody else has the file system.
  void set_device(DeviceNumber device) { device_ = device; }

 private:
  friend class Dentry;
  void ForgetRootDentry(Dentry& dentry);

  const std::string type_name_;
  DeviceNumber device_;
  const std::unique_ptr<DentryCache> dentry_cache_;
  Mutex rename_mutex_;
  std::atomic<bool> ever_watched_{false};
  std::atomic<bool> changed_beneath_{false};
  std::atomic<int64_t> users_{0};
  Mutex root_mu_;
  Dentry* root_dentry_ ABSL_GUARDED_BY(root_mu_) = nullptr;  // Weak: it leaves in its destructor.
};

struct OpenArgs {
  VfsPath path;    // The name it was opened by; empty for anonymous files.
  uint32_t flags;  // O_* of open(2), without O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC, O_CLOEXEC.
  bool no_ctty = false;  // O_NOCTTY: a terminal does not become the controlling one.
  bool truncates = false;  // O_TRUNC: SetAttributes(size 0) follows, so data need not be kept.
};

// RENAME_* of renameat2(2).
inline constexpr uint32_t kRenameNoReplace = 1;
inline constexpr uint32_t kRenameExchange = 2;
inline constexpr uint32_t kRenameWhiteout = 4;

// XATTR_* of setxattr(2).
inline constexpr int kXattrCreate = 1;
inline constexpr int kXattrReplace = 2;

// An inode. Thread-safe.
//
// The path walk and vfs/operations.h have checked permission, name length, sticky bits, read-only
// mounts and file types that Linux checks in fs/namei.c; an implementation checks what it alone
// knows. An operation that it lacks is not overridden: the base returns what Linux returns for it.
class Inode : public RefCounted<Inode> {
 public:
  // `type` is the S_IFMT part of the mode, which never changes.
  Inode(FileSystem& fs, FileMode type);
  virtual ~Inode();

  // The file system outlives its inodes: each inode holds a reference.
  FileSystem& fs() const { return *fs_; }
  FileMode type() const { return type_; }
  bool is_directory() const { return type_ == kModeDirectory; }
  bool is_link() const { return type_ == kModeLink; }
  bool is_regular() const { return type_ == kModeRegular; }

  virtual Result<Attributes> GetAttributes(CallContext& ctx) = 0;
  virtual Result<void> SetAttributes(CallContext& ctx, const struct SetAttributes& change);
  // The default checks mode bits and owner of GetAttributes() with vfs/permission.h.
  virtual Result<void> CheckPermission(CallContext& ctx, AccessMask access);

  // --- Directories. Names are single components, never "." or "..". ---
  // ENOENT: there is none (the dentry becomes negative).
  virtual Result<RefPtr<Inode>> Lookup(CallContext& ctx, absl::string_view name);
  // Creators return the new inode. `mode` has type and permissions, umask already applied; owner
  // and group are ctx.creds().fsuid and the directory's set-group-id rule (OwnerFor in
  // vfs/permission.h). Errors: EEXIST, ENOSPC, EROFS, EDQUOT, EPERM where unsupported.
  virtual Result<RefPtr<Inode>> Create(CallContext& ctx, absl::string_view name, FileMode mode);
  virtual Result<RefPtr<Inode>> Mkdir(CallContext& ctx, absl::string_view name, FileMode mode);
  virtual Result<RefPtr<Inode>> Symlink(CallContext& ctx, absl::string_view name,
                                        absl::string_view target);
  // Device nodes, FIFOs and sockets (mode's type); `rdev` for devices.
  virtual Result<RefPtr<Inode>> Mknod(CallContext& ctx, absl::string_view name, FileMode mode,
                                      DeviceNumber rdev);
  virtual Result<void> Link(CallContext& ctx, absl::string_view name, Inode& target);
  // `victim` is what the name leads to now.
  virtual Result<void> Unlink(CallContext& ctx, absl::string_view name, Inode& victim);
  virtual Result<void> Rmdir(CallContext& ctx, absl::string_view name, Inode& victim);
  // `new_dir` is of the same file system. `victim` is what the new name leads to now, or null.
  virtual Result<void> Rename(CallContext& ctx, absl::string_view old_name, Inode& source,
                              Inode& new_dir, absl::string_view new_name, Inode* victim,
                              uint32_t flags);
  // O_TMPFILE: an unlinked regular file. Errors: EOPNOTSUPP.
  virtual Result<RefPtr<Inode>> CreateUnlinked(CallContext& ctx, FileMode mode);
  // Changes whenever cached lookups (positive and negative) of this directory became doubtful.
  // kNeverCache: every walk asks Lookup() again.
  static constexpr uint64_t kNeverCache = ~uint64_t{0};
  virtual uint64_t LookupGeneration() { return 0; }

  // --- Links. ---
  virtual Result<std::string> ReadLink(CallContext& ctx);
  // A magic link (/proc/PID/fd/N) leads to an object, not to a name: returns it, or an empty path
  // if this is an ordinary link.
  virtual Result<VfsPath> FollowMagicLink(CallContext& ctx);

  // --- Opening. Permission for args.flags was checked. ---
  virtual Result<RefPtr<FileDescription>> Open(CallContext& ctx, const OpenArgs& args) = 0;
  // O_TRUNC and truncate(2) go through SetAttributes(size).

  // --- Extended attributes (xattr(7)); namespace permission was checked. ---
  virtual Result<std::string> GetXattr(CallContext& ctx, absl::string_view name);
  virtual Result<void> SetXattr(CallContext& ctx, absl::string_view name, absl::string_view value,
                                int flags);
  virtual Result<std::vector<std::string>> ListXattr(CallContext& ctx);
  virtual Result<void> RemoveXattr(CallContext& ctx, absl::string_view name);

  // F_ADD_SEALS and F_GET_SEALS of fcntl(2). Errors: EINVAL where there are none, EPERM, EBUSY.
  virtual Result<void> AddSeals(uint32_t seals);
  virtual Result<uint32_t> GetSeals();

  // ETXTBSY accounting: executables being run deny writers and writers deny execution
  // (Linux i_writecount).
  Result<void> DenyWrites();
  void AllowWrites();
  Result<void> AddWriter();
  void RemoveWriter();

  // Counts writable shared mappings (mm calls it as such a VMA comes and goes): F_SEAL_WRITE is
  // refused while there are any.
  void AddWritableMapping() { writable_mappings_.fetch_add(1, std::memory_order_acq_rel); }
  void RemoveWritableMapping() { writable_mappings_.fetch_sub(1, std::memory_order_acq_rel); }
  int64_t writable_mappings() const { return writable_mappings_.load(std::memory_order_acquire); }

  // Held exclusively by vfs/operations.h around every change of this directory's entries, and
  // shared around Lookup() (Linux i_rwsem). Unlike other locks it is held across an inode
  // operation that may ask the gofer; never across an access to guest memory. Parent before child.
  SharedMutex& directory_lock() ABSL_LOCK_RETURNED(directory_lock_) { return directory_lock_; }
  // Whether a write must look for security.capability, which it would have to remove.
  virtual bool MayHaveFileCapabilities() { return false; }
  // The last name is gone (set by vfs/operations.h): IN_DELETE_SELF is due at the last close.
  void set_unlinked(bool unlinked) { unlinked_.store(unlinked, std::memory_order_release); }
  bool unlinked() const { return unlinked_.load(std::memory_order_acquire); }
  // An O_TMPFILE inode may be given a name although its link count is 0 (Linux I_LINKABLE).
  void set_linkable(bool linkable) { linkable_.store(linkable, std::memory_order_release); }
  bool linkable() const { return linkable_.load(std::memory_order_acquire); }

  // Locks (flock, POSIX, OFD) and inotify watches, made when first asked for.
  FileLocks& locks();
  // Called once, when locks() is first asked for. Null: nobody outside shares the file.
  virtual std::unique_ptr<HostLocks> MakeHostLocks();
  FileLocks* locks_if_any() { return locks_ptr_.load(std::memory_order_acquire); }
  // Called before a watch is added: a file system that others change sees to it that it is told.
  virtual void PrepareToBeWatched() {}
  InodeWatches& watches();
  InodeWatches* watches_if_any() { return watches_ptr_.load(std::memory_order_acquire); }
  // What is bound here: AF_UNIX sockets put themselves, FIFOs their pipe. Compared by the owner.
  void set_bound_object(RefPtr<FileDescription> object);
  RefPtr<FileDescription> bound_object();

 private:
  const RefPtr<FileSystem> fs_;
  const FileMode type_;
  Mutex mu_;
  std::unique_ptr<FileLocks> locks_ ABSL_GUARDED_BY(mu_);
  std::atomic<FileLocks*> locks_ptr_{nullptr};      // Published with release once made.
  std::unique_ptr<InodeWatches> watches_ ABSL_GUARDED_BY(mu_);
  std::atomic<InodeWatches*> watches_ptr_{nullptr};  // As above.
  int64_t write_count_ ABSL_GUARDED_BY(mu_) = 0;     // Writers; negative: denied.
  RefPtr<FileDescription> bound_ ABSL_GUARDED_BY(mu_);
  SharedMutex directory_lock_;
  std::atomic<int64_t> writable_mappings_{0};
  std::atomic<bool> unlinked_{false};
  std::atomic<bool> linkable_{false};
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_INODE_H_
