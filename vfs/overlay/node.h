// Inodes of an overlay.
#ifndef CAISSON_VFS_OVERLAY_NODE_H_
#define CAISSON_VFS_OVERLAY_NODE_H_

#include <atomic>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "vfs/file_description.h"
#include "vfs/overlay/filesystem.h"

namespace caisson::vfs::overlay {

// One name, or several names of one upper file. What is only in lower layers is copied up when it
// is first changed; the node, its number and what is open of it stay. A lower file with several
// names is copied for one of them: the others stay as they are, as in Linux. Thread-safe.
class Node final : public Inode {
 public:
  Node(OverlayFileSystem& fs, FileMode type, Layers layers, RefPtr<Node> parent,
       absl::string_view name);
  ~Node() override;

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
  bool MayHaveFileCapabilities() override { return real().MayHaveFileCapabilities(); }

  OverlayFileSystem& overlay() { return ofs_; }
  // Null while it is only in lower layers. Never changes once set.
  Inode* upper() const { return upper_.load(std::memory_order_acquire); }
  Inode& real() const {
    Inode* up = upper();
    return up != nullptr ? *up : *lowers_[0].inode;
  }
  // Gives it an upper inode. `without_data`: it is about to be truncated. Errors: EROFS, ENOSPC,
  // the layers'.
  Result<void> CopyUp(CallContext& ctx, bool without_data = false);
  uint64_t ParentIno(CallContext& ctx);

  struct Entry {
    std::string name;
    uint64_t ino;
    FileMode type;
  };
  // The names of a directory, without "." and "..".
  Result<std::vector<Entry>> List(CallContext& ctx);

 private:
  friend class OverlayFileSystem;
  // --- With change_mu() held, shared or not. ---
  Result<Layers> Find(CallContext& ctx, absl::string_view name);
  Result<std::vector<Entry>> ListLocked(CallContext& ctx);
  static Result<std::vector<Entry>> ListLayer(CallContext& ctx, Inode& dir);
  // The name's first lower inode that would show without the upper layer; null if none would.
  Result<RefPtr<Inode>> LowerAt(CallContext& ctx, absl::string_view name);
  // What the upper directory has at the name, whiteouts included; null if nothing.
  Result<RefPtr<Inode>> UpperAt(CallContext& ctx, absl::string_view name);
  Result<uint64_t> Ino(CallContext& ctx);

  // --- With change_mu() held exclusively. ---
  Result<void> CopyUpDirectoryLocked(CallContext& ctx);  // With all directories above it.
  Result<void> CopyUpOneLocked(CallContext& ctx, RefPtr<Inode> data);
  Result<void> PrepareChangeLocked(CallContext& ctx);
  template <typename Make>
  Result<RefPtr<Inode>> AddNew(CallContext& ctx, absl::string_view name, FileMode mode, Make make);
  Result<void> CheckEmptyLocked(CallContext& ctx);
  void ClearWhiteoutsLocked(CallContext& ctx);
  // An inode in the work directory, under *temp.
  Result<RefPtr<Inode>> MakeWhiteoutInWork(CallContext& ctx, std::string* temp);
  void RemoveFromWork(CallContext& ctx, const std::string& temp, Inode& inode);
  void MarkRemoved();
  bool removed() const { return removed_.load(std::memory_order_acquire); }
  bool is_merged() const { return !lowers_.empty(); }  // Of a directory: has lower ones.

  Result<RefPtr<Inode>> CopyToUnlinked(CallContext& ctx, const Attributes& attr, bool with_data);
  Result<void> CopyMetadata(CallContext& ctx, const Attributes& attr, Inode& to);
  RefPtr<Node> parent();

  OverlayFileSystem& ofs_;
  const std::vector<Layers::Lower> lowers_;
  RefPtr<Inode> upper_hold_;            // Set once, before upper_ is published.
  std::atomic<Inode*> upper_{nullptr};
  std::atomic<uint64_t> ino_{0};        // 0: not computed yet. Relaxed.
  std::atomic<bool> removed_{false};    // Written under change_mu().
  Mutex copy_mu_;                       // Held while data is copied up.
  Mutex mu_;
  // Where it is, for copying it up; changed under change_mu() too. A directory above is kept.
  RefPtr<Node> parent_ ABSL_GUARDED_BY(mu_);
  std::string name_ ABSL_GUARDED_BY(mu_);
  // Guarded by the file system's table_mu_: children by name, weak.
  absl::flat_hash_map<std::string, Node*> table_;
};

}  // namespace caisson::vfs::overlay

#endif  // CAISSON_VFS_OVERLAY_NODE_H_
