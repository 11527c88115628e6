// Looking up and listing names through the layers (Linux fs/overlayfs/namei.c, readdir.c).
#include <cstring>

#include "absl/container/flat_hash_set.h"
#include "vfs/overlay/node.h"

namespace caisson::vfs::overlay {
namespace {

class CollectingSink final : public DirectorySink {
 public:
  bool Add(absl::string_view name, uint64_t ino, FileMode type, int64_t) override {
    if (name != "." && name != "..") entries.push_back({std::string(name), ino, type});
    return true;
  }
  std::vector<Node::Entry> entries;
};

// Null where there is nothing.
Result<RefPtr<Inode>> LookupOrNull(CallContext& ctx, Inode& dir, absl::string_view name) {
  Result<RefPtr<Inode>> found = dir.Lookup(ctx, name);
  if (found.ok() || found.error() != Errno::kENOENT) return found;
  return RefPtr<Inode>();
}

}  // namespace

Result<std::vector<Node::Entry>> Node::ListLayer(CallContext& ctx, Inode& dir) {
  CollectingSink sink;
  RefPtr<FileDescription> file =
      TRY(dir.Open(ctx, OpenArgs{VfsPath(), kOpenReadOnly | kOpenDirectory}));
  for (;;) {
    const size_t before = sink.entries.size();
    TRY(file->Iterate(ctx, sink));
    if (sink.entries.size() == before) break;
  }
  return std::move(sink.entries);
}

Result<RefPtr<Inode>> Node::UpperAt(CallContext& ctx, absl::string_view name) {
  if (upper() == nullptr) return RefPtr<Inode>();
  return LookupOrNull(ctx, *upper(), name);
}

Result<Layers> Node::Find(CallContext& ctx, absl::string_view name) {
  Layers found;
  found.upper = TRY(UpperAt(ctx, name));
  if (found.upper != nullptr) {
    bool whiteout = TRY(IsWhiteout(ctx, *found.upper));
    if (whiteout) return Errno::kENOENT;
    if (!found.upper->is_directory() || lowers_.empty()) return found;
    bool opaque = TRY(IsOpaque(ctx, *found.upper));
    if (opaque) return found;
  }
  for (size_t i = 0; i < lowers_.size(); ++i) {
    RefPtr<Inode> at = TRY(LookupOrNull(ctx, *lowers_[i].inode, name));
    if (at == nullptr) continue;
    bool whiteout = TRY(IsWhiteout(ctx, *at));
    if (whiteout) break;
    const bool merging = found.upper != nullptr || !found.lowers.empty();
    if (!at->is_directory()) {
      if (!merging) found.lowers.push_back({std::move(at), lowers_[i].layer});
      break;  // A file ends what a directory above it could merge with.
    }
    found.lowers.push_back({at, lowers_[i].layer});
    if (i + 1 == lowers_.size()) break;
    bool opaque = TRY(IsOpaque(ctx, *at));
    if (opaque) break;
  }
  if (found.upper == nullptr && found.lowers.empty()) return Errno::kENOENT;
  return found;
}

Result<RefPtr<Inode>> Node::LowerAt(CallContext& ctx, absl::string_view name) {
  for (const Layers::Lower& l : lowers_) {
    RefPtr<Inode> at = TRY(LookupOrNull(ctx, *l.inode, name));
    if (at == nullptr) continue;
    bool whiteout = TRY(IsWhiteout(ctx, *at));
    return whiteout ? RefPtr<Inode>() : at;
  }
  return RefPtr<Inode>();
}

Result<RefPtr<Inode>> Node::Lookup(CallContext& ctx, absl::string_view name) {
  ReaderLock lock(ofs_.change_mu());
  Layers found = TRY(Find(ctx, name));
  return RefPtr<Inode>(ofs_.GetNode(this, name, std::move(found)));
}

Result<std::vector<Node::Entry>> Node::List(CallContext& ctx) {
  ReaderLock lock(ofs_.change_mu());
  return ListLocked(ctx);
}

Result<std::vector<Node::Entry>> Node::ListLocked(CallContext& ctx) {
  std::vector<Entry> merged;
  absl::flat_hash_set<std::string> seen;  // Whiteouts too.
  if (removed()) return merged;
  auto add_layer = [&](Inode& dir, unsigned tag, bool last) -> Result<void> {
    std::vector<Entry> entries = TRY(ListLayer(ctx, dir));
    for (Entry& e : entries) {
      if (seen.contains(e.name)) continue;
      bool whiteout = false;
      uint64_t ino = OverlayFileSystem::TagInode(e.ino, tag);
      if (e.type == kModeChar || tag == OverlayFileSystem::kUpperTag) {
        RefPtr<Inode> inode = TRY(LookupOrNull(ctx, dir, e.name));
        if (inode == nullptr) continue;
        whiteout = TRY(IsWhiteout(ctx, *inode));
        // What was copied up has the number that it had below.
        if (tag == OverlayFileSystem::kUpperTag) {
          Result<std::string> origin = inode->GetXattr(ctx, kOriginXattr);
          if (origin.ok() && origin->size() == sizeof(ino))
            memcpy(&ino, origin->data(), sizeof(ino));
        }
      }
      if (!last) seen.insert(e.name);
      if (!whiteout) merged.push_back({std::move(e.name), ino, e.type});
    }
    return {};
  };
  if (Inode* up = upper()) TRY(add_layer(*up, OverlayFileSystem::kUpperTag, lowers_.empty()));
  for (size_t i = 0; i < lowers_.size(); ++i)
    TRY(add_layer(*lowers_[i].inode, lowers_[i].layer, i + 1 == lowers_.size()));
  return merged;
}

}  // namespace caisson::vfs::overlay
