// An overlay: its layers, and the table of its inodes.
#ifndef CAISSON_VFS_OVERLAY_FILESYSTEM_H_
#define CAISSON_VFS_OVERLAY_FILESYSTEM_H_

#include <atomic>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "vfs/overlay/overlay.h"

namespace caisson::vfs::overlay {

class Node;

inline constexpr absl::string_view kPrivateXattrs = "trusted.overlay.";
inline constexpr absl::string_view kOpaqueXattr = "trusted.overlay.opaque";
inline constexpr absl::string_view kOriginXattr = "trusted.overlay.origin";

// A character device 0:0 hides the name below it.
Result<bool> IsWhiteout(CallContext& ctx, Inode& inode);
Result<bool> IsOpaque(CallContext& ctx, Inode& directory);

// What is at a name in the layers: a directory merges several.
struct Layers {
  struct Lower {
    RefPtr<Inode> inode;
    uint8_t layer;
    friend bool operator==(const Lower&, const Lower&) = default;
  };
  RefPtr<Inode> upper;
  std::vector<Lower> lowers;
};

// The overlays that one over these layers would make, itself included, one upon the other.
int StackDepth(const Config& config);

// Thread-safe. Lock order: a node's copy_mu_, change_mu_, then table_mu_ and nodes' mu_; the layers'
// own locks come after change_mu_.
class OverlayFileSystem final : public FileSystem {
 public:
  explicit OverlayFileSystem(Config config);
  ~OverlayFileSystem() override;

  RefPtr<Inode> root() override;
  Result<FsStatistics> Statistics(CallContext& ctx) override;
  Result<void> Sync() override;
  std::string MountOptions() const override { return config_.options; }
  bool read_only() const override { return config_.upper.fs == nullptr; }

  // --- For nodes. ---
  // How many overlays lie upon each other, this one included.
  int stack_depth() const { return stack_depth_; }
  bool has_upper() const { return config_.upper.fs != nullptr; }
  Inode& work() { return *config_.work; }
  std::string TempName();
  // Held exclusively while names change in the upper layer, shared by lookups and listings: what
  // these see in the layers belongs together. Held across operations of the layers, which may ask
  // the gofer.
  SharedMutex& change_mu() ABSL_LOCK_RETURNED(change_mu_) { return change_mu_; }
  // The node for what was found at a name: the one that exists, or a new one.
  RefPtr<Node> GetNode(Node* parent, absl::string_view name, Layers found);
  // The node is no longer, or is now, at that name.
  void Unregister(Node& node, Node& parent, absl::string_view name);
  void Register(Node& node, Node& parent, absl::string_view name);
  void SetUpper(Node& node, RefPtr<Inode> upper);
  void Forget(Node& node);  // From its destructor.
  // st_ino of a layer's inode: layers are told apart by the highest bits (Linux "xino").
  static uint64_t TagInode(uint64_t ino, unsigned layer) {
    return (ino & ~(uint64_t{15} << 60)) | (uint64_t{layer} << 60);
  }
  // The first lower layer has tag 0: its numbers stay what they are.
  static constexpr unsigned kUpperTag = 15;

 protected:
  void OnLastUnmount() override;

 private:
  const Config config_;
  const int stack_depth_;
  SharedMutex change_mu_;
  std::atomic<uint64_t> next_temp_{0};
  Mutex root_mu_;
  RefPtr<Node> root_ ABSL_GUARDED_BY(root_mu_);
  Mutex table_mu_;  // Innermost; no reference to a node is dropped under it. Guards Node's table_.
  absl::flat_hash_map<const Inode*, Node*> by_upper_ ABSL_GUARDED_BY(table_mu_);  // Files. Weak.
};

}  // namespace caisson::vfs::overlay

#endif  // CAISSON_VFS_OVERLAY_FILESYSTEM_H_
