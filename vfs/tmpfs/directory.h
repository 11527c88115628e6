// Directories of tmpfs.
#ifndef CAISSON_VFS_TMPFS_DIRECTORY_H_
#define CAISSON_VFS_TMPFS_DIRECTORY_H_

#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "vfs/name_hash.h"
#include "vfs/tmpfs/node.h"

namespace caisson::vfs::tmpfs {

// Entries have cookies that only grow, so that a reader's position stays meaningful while others
// make and remove names (Linux fs/libfs.c, simple_offset_*). Thread-safe.
class Directory final : public Node {
 public:
  Directory(TmpfsFileSystem& fs, FileMode mode, uint32_t uid, uint32_t gid);
  ~Directory() override;

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
  Result<RefPtr<FileDescription>> Open(CallContext& ctx, const OpenArgs& args) override;

  struct EntryInfo {
    std::string name;
    uint64_t ino;
    FileMode type;
    uint64_t cookie;
  };
  // At most `max` entries with a cookie in [from, below), in order.
  std::vector<EntryInfo> List(uint64_t from, uint64_t below, size_t max) const;
  uint64_t next_cookie() const;
  // Takes all entries out, for the end of the file system.
  std::vector<RefPtr<Inode>> TakeAll();

  static constexpr uint64_t kFirstCookie = 2;  // After "." and "..".

 protected:
  void FillLocked(Attributes& attr) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

 private:
  struct Entry {
    std::string name;
    RefPtr<Node> node;
  };
  // Adds a new node under a name. Errors: ENOENT if removed, EEXIST, ENOSPC.
  template <typename Make>
  Result<RefPtr<Inode>> AddNew(absl::string_view name, bool is_directory, Make make);
  Attributes OwnAttributes() const;
  void InsertLocked(absl::string_view name, RefPtr<Node> node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  RefPtr<Node> EraseLocked(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Marks as removed if empty.
  bool TryRemove() ABSL_LOCKS_EXCLUDED(mu_);

  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mu_);  // By cookie.
  // Names point into entries_, whose nodes do not move.
  absl::flat_hash_map<absl::string_view, uint64_t, NameHash, NameEqual> index_ ABSL_GUARDED_BY(mu_);
  uint64_t next_cookie_ ABSL_GUARDED_BY(mu_) = kFirstCookie;
  uint32_t subdirectories_ ABSL_GUARDED_BY(mu_) = 0;
  bool removed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace caisson::vfs::tmpfs

#endif  // CAISSON_VFS_TMPFS_DIRECTORY_H_
