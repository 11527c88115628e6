#include "vfs/overlay/node.h"

#include <cstring>

#include "absl/strings/match.h"
#include "vfs/overlay/file.h"

namespace caisson::vfs::overlay {
namespace {

// Parents whose children have gone, while a node's destructor runs on this thread: a guest can make
// trees that are deeper than a stack.
thread_local std::vector<RefPtr<Node>>* t_pending = nullptr;

bool IsPrivate(absl::string_view name) { return absl::StartsWith(name, kPrivateXattrs); }

}  // namespace

Node::Node(OverlayFileSystem& fs, FileMode type, Layers layers, RefPtr<Node> parent,
           absl::string_view name)
    : Inode(fs, type),
      ofs_(fs),
      lowers_(std::move(layers.lowers)),
      upper_hold_(std::move(layers.upper)),
      upper_(upper_hold_.get()),
      parent_(std::move(parent)),
      name_(name) {}

Node::~Node() {
  ofs_.Forget(*this);
  RefPtr<Node> parent;
  {
    MutexLock lock(mu_);
    parent = std::move(parent_);
  }
  if (t_pending != nullptr) {
    t_pending->push_back(std::move(parent));
    return;
  }
  std::vector<RefPtr<Node>> pending;
  t_pending = &pending;
  pending.push_back(std::move(parent));
  while (!pending.empty()) {
    RefPtr<Node> next = std::move(pending.back());
    pending.pop_back();
    next.reset();  // May push its own parent.
  }
  t_pending = nullptr;
}

RefPtr<Node> Node::parent() {
  MutexLock lock(mu_);
  return parent_;
}

Result<uint64_t> Node::Ino(CallContext& ctx) {
  if (uint64_t known = ino_.load(std::memory_order_relaxed); known != 0) return known;
  uint64_t ino = 0;
  if (Inode* up = upper()) {
    Result<std::string> origin = up->GetXattr(ctx, kOriginXattr);
    if (origin.ok() && origin->size() == sizeof(ino)) {
      memcpy(&ino, origin->data(), sizeof(ino));
    } else {
      Attributes attr = TRY(up->GetAttributes(ctx));
      ino = OverlayFileSystem::TagInode(attr.ino, OverlayFileSystem::kUpperTag);
    }
  } else {
    Attributes attr = TRY(lowers_[0].inode->GetAttributes(ctx));
    ino = OverlayFileSystem::TagInode(attr.ino, lowers_[0].layer);
  }
  // A copy-up keeps the number that was shown before it.
  uint64_t none = 0;
  if (!ino_.compare_exchange_strong(none, ino, std::memory_order_relaxed)) return none;
  return ino;
}

uint64_t Node::ParentIno(CallContext& ctx) {
  RefPtr<Node> up = parent();
  Result<uint64_t> ino = up != nullptr ? up->Ino(ctx) : Ino(ctx);
  return ino.ok() ? *ino : 0;
}

Result<Attributes> Node::GetAttributes(CallContext& ctx) {
  uint64_t ino = TRY(Ino(ctx));
  Inode* up = upper();
  Attributes attr = TRY(real().GetAttributes(ctx));
  attr.ino = ino;
  attr.dev = ofs_.device();
  if (is_directory() && is_merged()) attr.nlink = 1;  // Nobody counted them all.
  if (removed() && (up == nullptr || is_directory())) attr.nlink = 0;
  return attr;
}

Result<void> Node::SetAttributes(CallContext& ctx, const struct SetAttributes& change) {
  TRY(CopyUp(ctx, /*without_data=*/change.size.has_value() && *change.size == 0));
  return upper()->SetAttributes(ctx, change);
}

Result<void> Node::CheckPermission(CallContext& ctx, AccessMask access) {
  return real().CheckPermission(ctx, access);
}

uint64_t Node::LookupGeneration() {
  uint64_t sum = 0;
  auto add = [&](Inode& layer) {
    const uint64_t g = layer.LookupGeneration();
    if (g == kNeverCache || sum == kNeverCache) {
      sum = kNeverCache;
    } else {
      // Each only grows, and a mixed sum that comes back to an old value is as good as impossible.
      sum = (sum ^ g) * 0x9E3779B97F4A7C15;
      if (sum == kNeverCache) sum = 0;
    }
  };
  if (Inode* up = upper()) add(*up);
  for (const Layers::Lower& l : lowers_) add(*l.inode);
  return sum;
}

Result<std::string> Node::ReadLink(CallContext& ctx) { return real().ReadLink(ctx); }

Result<RefPtr<FileDescription>> Node::Open(CallContext& ctx, const OpenArgs& args) {
  if (is_directory())
    return RefPtr<FileDescription>(MakeRef<DirectoryFile>(args, RefPtr<Node>(this)));
  if (!is_regular()) return is_link() ? Errno::kELOOP : Errno::kENXIO;
  const uint32_t mode = args.flags & kOpenAccessMode;
  if (mode == kOpenWriteOnly || mode == kOpenReadWrite) TRY(CopyUp(ctx, args.truncates));
  Inode* up = upper();
  OpenArgs inner{VfsPath(), args.flags};
  inner.truncates = args.truncates;
  RefPtr<FileDescription> file = TRY(real().Open(ctx, inner));
  return RefPtr<FileDescription>(
      MakeRef<File>(args, RefPtr<Node>(this), std::move(file), up != nullptr));
}

Result<std::string> Node::GetXattr(CallContext& ctx, absl::string_view name) {
  if (IsPrivate(name)) return Errno::kENODATA;
  return real().GetXattr(ctx, name);
}

Result<void> Node::SetXattr(CallContext& ctx, absl::string_view name, absl::string_view value,
                            int flags) {
  if (IsPrivate(name)) return Errno::kEPERM;
  TRY(CopyUp(ctx));
  return upper()->SetXattr(ctx, name, value, flags);
}

Result<std::vector<std::string>> Node::ListXattr(CallContext& ctx) {
  std::vector<std::string> names = TRY(real().ListXattr(ctx));
  std::erase_if(names, [](const std::string& n) { return IsPrivate(n); });
  return names;
}

Result<void> Node::RemoveXattr(CallContext& ctx, absl::string_view name) {
  if (IsPrivate(name)) return Errno::kEPERM;
  if (upper() == nullptr) TRY(real().GetXattr(ctx, name));  // No copy only to find nothing.
  TRY(CopyUp(ctx));
  return upper()->RemoveXattr(ctx, name);
}

}  // namespace caisson::vfs::overlay
