// Bringing what is in a lower layer to the upper one (Linux fs/overlayfs/copy_up.c).
#include <cstring>

#include "absl/strings/match.h"
#include "vfs/overlay/node.h"

namespace caisson::vfs::overlay {
namespace {

constexpr size_t kCopyStep = size_t{256} << 10;
constexpr int kSeekData = 3, kSeekHole = 4;

Result<void> CopyRange(CallContext& ctx, FileDescription& from, FileDescription& to,
                       std::string& buffer, uint64_t at, uint64_t end) {
  while (at < end) {
    const size_t want = std::min<uint64_t>(buffer.size(), end - at);
    SpanBuffer in(absl::Span<char>(&buffer[0], want));
    size_t n = TRY(from.PRead(ctx, in, at, 0));
    if (n == 0) break;  // Cut short on the host meanwhile.
    for (size_t done = 0; done < n;) {
      SpanBuffer out(absl::Span<char>(&buffer[done], n - done));
      size_t written = TRY(to.PWrite(ctx, out, at + done, 0));
      if (written == 0) return Errno::kENOSPC;
      done += written;
    }
    at += n;
  }
  return {};
}

Result<void> CopyData(CallContext& ctx, Inode& from, Inode& to, uint64_t size) {
  RefPtr<FileDescription> in = TRY(from.Open(ctx, OpenArgs{VfsPath(), kOpenReadOnly}));
  RefPtr<FileDescription> out = TRY(to.Open(ctx, OpenArgs{VfsPath(), kOpenWriteOnly}));
  std::string buffer(std::min<uint64_t>(size, kCopyStep), '\0');
  for (uint64_t at = 0; at < size;) {
    // Holes stay holes.
    Result<int64_t> data = in->Seek(ctx, static_cast<int64_t>(at), kSeekData);
    if (!data.ok() && data.error() == Errno::kENXIO) break;
    const uint64_t start = data.ok() ? static_cast<uint64_t>(*data) : at;
    uint64_t end = size;
    if (data.ok()) {
      Result<int64_t> hole = in->Seek(ctx, *data, kSeekHole);
      if (hole.ok() && static_cast<uint64_t>(*hole) > start)
        end = std::min(size, static_cast<uint64_t>(*hole));
    }
    if (start < end) TRY(CopyRange(ctx, *in, *out, buffer, start, end));
    at = std::max(end, at + 1);
  }
  SetAttributes change;
  change.size = size;
  return to.SetAttributes(ctx, change);
}

}  // namespace

Result<void> Node::CopyMetadata(CallContext& ctx, const Attributes& attr, Inode& to) {
  Inode& from = *lowers_[0].inode;
  Result<std::vector<std::string>> names = from.ListXattr(ctx);
  if (names.ok()) {
    for (const std::string& name : *names) {
      if (absl::StartsWith(name, kPrivateXattrs)) continue;
      Result<std::string> value = from.GetXattr(ctx, name);
      if (!value.ok()) continue;
      Result<void> set = to.SetXattr(ctx, name, *value, 0);
      if (!set.ok() && set.error() != Errno::kEOPNOTSUPP) return set;
    }
  }
  uint64_t ino = TRY(Ino(ctx));
  std::string origin(reinterpret_cast<const char*>(&ino), sizeof(ino));
  Result<void> set = to.SetXattr(ctx, kOriginXattr, origin, 0);
  if (!set.ok() && set.error() != Errno::kEOPNOTSUPP && set.error() != Errno::kEPERM) return set;
  // The mode after the owner, which may cost set-id bits.
  struct SetAttributes change;
  change.uid = attr.uid;
  change.gid = attr.gid;
  TRY(to.SetAttributes(ctx, change));
  change = {};
  if (!to.is_link()) change.mode = attr.mode & kModePermissions;
  change.atime = SetAttributes::Time{.now = false, .at = attr.atime};
  change.mtime = SetAttributes::Time{.now = false, .at = attr.mtime};
  return to.SetAttributes(ctx, change);
}

Result<RefPtr<Inode>> Node::CopyToUnlinked(CallContext& ctx, const Attributes& attr,
                                           bool with_data) {
  RefPtr<Inode> copy = TRY(ofs_.work().CreateUnlinked(ctx, kModeRegular | 0600));
  if (with_data && attr.size != 0) TRY(CopyData(ctx, *lowers_[0].inode, *copy, attr.size));
  TRY(CopyMetadata(ctx, attr, *copy));
  return copy;
}

Result<void> Node::CopyUp(CallContext& ctx, bool without_data) {
  if (upper() != nullptr) return {};
  if (!ofs_.has_upper()) return Errno::kEROFS;
  if (is_regular()) {
    // The data is copied while names may change; then it gets the name that the file has by now.
    MutexLock copying(copy_mu_);
    if (upper() != nullptr) return {};
    Attributes attr = TRY(lowers_[0].inode->GetAttributes(ctx));
    RefPtr<Inode> data = TRY(CopyToUnlinked(ctx, attr, !without_data));
    WriterLock change(ofs_.change_mu());
    return CopyUpOneLocked(ctx, std::move(data));
  }
  WriterLock change(ofs_.change_mu());
  if (is_directory()) return CopyUpDirectoryLocked(ctx);
  if (upper() != nullptr) return {};
  return CopyUpOneLocked(ctx, nullptr);
}

Result<void> Node::CopyUpDirectoryLocked(CallContext& ctx) {
  std::vector<RefPtr<Node>> chain;
  for (RefPtr<Node> n(this); n->upper() == nullptr; n = n->parent()) {
    if (n->removed()) return Errno::kENOENT;
    chain.push_back(n);
    if (n->parent() == nullptr) return Errno::kEROFS;  // The root, of an overlay without upper.
  }
  for (auto it = chain.rbegin(); it != chain.rend(); ++it)
    TRY((*it)->CopyUpOneLocked(ctx, nullptr));
  return {};
}

Result<void> Node::CopyUpOneLocked(CallContext& ctx, RefPtr<Inode> data) {
  if (removed()) {
    if (data == nullptr) return Errno::kENOENT;
    ofs_.SetUpper(*this, std::move(data));  // Still open, without a name.
    return {};
  }
  RefPtr<Node> up;
  std::string name;
  {
    MutexLock lock(mu_);
    up = parent_;
    name = name_;
  }
  if (up == nullptr) return Errno::kEROFS;
  TRY(up->CopyUpDirectoryLocked(ctx));
  Inode& dir = *up->upper();
  Attributes before = TRY(dir.GetAttributes(ctx));
  if (data != nullptr) {
    TRY(dir.Link(ctx, name, *data));
  } else {
    Attributes attr = TRY(lowers_[0].inode->GetAttributes(ctx));
    if (is_directory()) {
      data = TRY(dir.Mkdir(ctx, name, kModeDirectory | 0700));
    } else if (is_link()) {
      std::string target = TRY(lowers_[0].inode->ReadLink(ctx));
      data = TRY(dir.Symlink(ctx, name, target));
    } else {
      data = TRY(dir.Mknod(ctx, name, type() | 0600, attr.rdev));
    }
    if (Result<void> copied = CopyMetadata(ctx, attr, *data); !copied.ok()) {
      (void)(is_directory() ? dir.Rmdir(ctx, name, *data) : dir.Unlink(ctx, name, *data)).ok();
      return copied;
    }
  }
  // Nothing has changed that a user could see: the directory's times neither.
  struct SetAttributes times;
  times.atime = SetAttributes::Time{.now = false, .at = before.atime};
  times.mtime = SetAttributes::Time{.now = false, .at = before.mtime};
  (void)dir.SetAttributes(ctx, times).ok();
  ofs_.SetUpper(*this, std::move(data));
  return {};
}

}  // namespace caisson::vfs::overlay
