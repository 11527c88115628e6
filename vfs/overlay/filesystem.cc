#include "vfs/overlay/filesystem.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "vfs/overlay/node.h"

namespace caisson::vfs::overlay {
namespace {

constexpr uint64_t kOverlayMagic = 0x794c7630;

bool Matches(Node& node, const Layers& found, const std::vector<Layers::Lower>& lowers) {
  if (node.is_directory() || found.upper == nullptr)
    return node.upper() == found.upper.get() && lowers == found.lowers;
  return node.upper() == found.upper.get();
}

}  // namespace

int StackDepth(const Config& config) {
  int below = 0;
  auto count = [&below](const Layer& layer) {
    if (layer.fs == nullptr || layer.fs->type_name() != "overlay") return;  // Ours alone is so named.
    below = std::max(below, static_cast<OverlayFileSystem&>(*layer.fs).stack_depth());
  };
  for (const Layer& l : config.lowers) count(l);
  count(config.upper);
  return below + 1;
}

Result<bool> IsWhiteout(CallContext& ctx, Inode& inode) {
  if (inode.type() != kModeChar) return false;
  Attributes attr = TRY(inode.GetAttributes(ctx));
  return attr.rdev == DeviceNumber{};
}

Result<bool> IsOpaque(CallContext& ctx, Inode& directory) {
  Result<std::string> value = directory.GetXattr(ctx, kOpaqueXattr);
  if (value.ok()) return *value == "y";
  if (value.error() == Errno::kENODATA || value.error() == Errno::kEOPNOTSUPP) return false;
  return value.error();
}

OverlayFileSystem::OverlayFileSystem(Config config)
    : FileSystem("overlay"), config_(std::move(config)), stack_depth_(StackDepth(config_)) {
  for (const Layer& l : config_.lowers) l.fs->AddUser();
  if (has_upper()) {
    config_.upper.fs->AddUser();
    config_.upper.fs->set_changed_beneath();
  }
}

OverlayFileSystem::~OverlayFileSystem() {
  for (const Layer& l : config_.lowers) l.fs->RemoveUser();
  if (has_upper()) config_.upper.fs->RemoveUser();
}

RefPtr<Inode> OverlayFileSystem::root() {
  MutexLock lock(root_mu_);
  if (root_ == nullptr) {
    Layers layers;
    layers.upper = config_.upper.root;
    for (size_t i = 0; i < config_.lowers.size(); ++i)
      layers.lowers.push_back({config_.lowers[i].root, static_cast<uint8_t>(i)});
    root_ = MakeRef<Node>(*this, kModeDirectory, std::move(layers), nullptr, "");
  }
  return root_;
}

void OverlayFileSystem::OnLastUnmount() {
  RefPtr<Node> root;
  MutexLock lock(root_mu_);
  root = std::move(root_);
}

Result<FsStatistics> OverlayFileSystem::Statistics(CallContext& ctx) {
  const Layer& layer = has_upper() ? config_.upper : config_.lowers[0];
  FsStatistics s = TRY(layer.fs->Statistics(ctx));
  s.type = kOverlayMagic;
  s.fsid = device().Encode();
  return s;
}

Result<void> OverlayFileSystem::Sync() {
  if (has_upper()) return config_.upper.fs->Sync();
  return {};
}

std::string OverlayFileSystem::TempName() {
  return absl::StrCat("#", absl::Hex(next_temp_.fetch_add(1, std::memory_order_relaxed)));
}

RefPtr<Node> OverlayFileSystem::GetNode(Node* parent, absl::string_view name, Layers found) {
  const FileMode type = (found.upper != nullptr ? found.upper : found.lowers[0].inode)->type();
  const bool by_upper = found.upper != nullptr && type != kModeDirectory;
  RefPtr<Node> candidate;  // Dropped after the lock.
  auto find = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(table_mu_) -> bool {
    Node* node = nullptr;
    if (by_upper) {
      if (auto it = by_upper_.find(found.upper.get()); it != by_upper_.end()) node = it->second;
    } else if (auto it = parent->table_.find(name); it != parent->table_.end()) {
      node = it->second;
    }
    if (node == nullptr || !node->TryIncRef()) return false;
    candidate = RefPtr<Node>::Adopt(node);
    return node->type() == type && Matches(*node, found, node->lowers_);
  };
  {
    MutexLock lock(table_mu_);
    if (find()) return candidate;
  }
  candidate.reset();
  auto made = MakeRef<Node>(*this, type, found, RefPtr<Node>(parent), name);
  MutexLock lock(table_mu_);
  if (find()) return candidate;
  parent->table_[std::string(name)] = made.get();
  if (by_upper) by_upper_[found.upper.get()] = made.get();
  return made;
}

void OverlayFileSystem::Unregister(Node& node, Node& parent, absl::string_view name) {
  MutexLock lock(table_mu_);
  auto it = parent.table_.find(name);
  if (it != parent.table_.end() && it->second == &node) parent.table_.erase(it);
}

void OverlayFileSystem::Register(Node& node, Node& parent, absl::string_view name) {
  RefPtr<Node> old_parent;
  std::string old_name;
  {
    MutexLock lock(node.mu_);
    old_parent = std::exchange(node.parent_, RefPtr<Node>(&parent));
    old_name = std::exchange(node.name_, std::string(name));
  }
  // A node is in one table only, which its destructor finds.
  if (old_parent != nullptr) Unregister(node, *old_parent, old_name);
  MutexLock lock(table_mu_);
  parent.table_[std::string(name)] = &node;
}

void OverlayFileSystem::SetUpper(Node& node, RefPtr<Inode> upper) {
  MutexLock lock(table_mu_);
  if (!node.is_directory()) by_upper_[upper.get()] = &node;
  node.upper_hold_ = std::move(upper);
  node.upper_.store(node.upper_hold_.get(), std::memory_order_release);
}

void OverlayFileSystem::Forget(Node& node) {
  RefPtr<Node> parent;
  std::string name;
  {
    MutexLock lock(node.mu_);
    parent = node.parent_;
    name = node.name_;
  }
  MutexLock lock(table_mu_);
  if (parent != nullptr) {
    auto it = parent->table_.find(name);
    if (it != parent->table_.end() && it->second == &node) parent->table_.erase(it);
  }
  if (Inode* upper = node.upper()) {
    auto it = by_upper_.find(upper);
    if (it != by_upper_.end() && it->second == &node) by_upper_.erase(it);
  }
}

}  // namespace caisson::vfs::overlay
