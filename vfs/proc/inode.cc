#include "vfs/proc/inode.h"

#include "vfs/permission.h"

namespace caisson::vfs::proc {

GeneratedInode::GeneratedInode(GeneratedFileSystem& fs, uint64_t ino, const Entry& entry,
                               RefPtr<Object> object)
    : Inode(fs, entry.mode),
      ino_(ino),
      entry_(entry),
      object_(std::move(object)),
      made_(Timestamp::FromNanoseconds(time::RealtimeNow())) {}

GeneratedInode::~GeneratedInode() { tree().Forget(*this, ino_); }

// FNV-1a over the parent's number and the name: the same for readdir(3) and stat(2) without any
// table, 48 bits wide so that sums and prints stay short.
uint64_t GeneratedInode::ChildNumber(absl::string_view name) const {
  uint64_t hash = 0xcbf29ce484222325;
  auto mix = [&hash](uint8_t byte) { hash = (hash ^ byte) * 0x100000001b3; };
  for (int i = 0; i < 8; ++i) mix(static_cast<uint8_t>(ino_ >> (8 * i)));
  for (char c : name) mix(static_cast<uint8_t>(c));
  return (hash ^ (hash >> 48)) & 0xffffffffffff;
}

Result<Attributes> GeneratedInode::GetAttributes(CallContext& ctx) {
  Attributes attr;
  attr.ino = ino_;
  attr.mode = entry_.mode;
  attr.block_size = 1024;
  attr.dev = fs().device();
  attr.atime = attr.mtime = attr.ctime = made_;
  if (entry_.directory != nullptr) {
    attr.nlink = 2;
    for (const Entry& e : entry_.directory->entries)
      if ((e.mode & kModeType) == kModeDirectory) ++attr.nlink;
  }
  object_->FillAttributes(ctx, entry_, attr);
  return attr;
}

// The walk has checked that the caller could change an ordinary file. Linux lets root chown some
// of these until the inode is forgotten; nobody needs that.
Result<void> GeneratedInode::SetAttributes(CallContext&, const struct SetAttributes& change) {
  if (change.mode || change.uid || change.gid) return Errno::kEPERM;
  return {};
}

Result<void> GeneratedInode::CheckPermission(CallContext& ctx, AccessMask access) {
  Attributes attr = TRY(GetAttributes(ctx));
  if (entry_.permission != nullptr) return entry_.permission(ctx, *object_, attr, access);
  return CheckAccess(ctx.creds(), attr, access);
}

Result<RefPtr<Inode>> GeneratedInode::Lookup(CallContext& ctx, absl::string_view name) {
  if (entry_.directory == nullptr) return Errno::kENOTDIR;
  if (!object_->Exists()) return Errno::kENOENT;
  for (const Entry& e : entry_.directory->entries)
    if (e.name == name) return tree().GetInode(ChildNumber(name), e, object_);
  if (entry_.directory->lookup == nullptr) return Errno::kENOENT;
  Child child = TRY(entry_.directory->lookup(ctx, *object_, name));
  return tree().GetInode(ChildNumber(name), *child.entry, std::move(child.object));
}

uint64_t GeneratedInode::LookupGeneration() {
  return entry_.directory != nullptr && entry_.directory->cached ? 0 : kNeverCache;
}

Result<RefPtr<Inode>> GeneratedInode::Create(CallContext&, absl::string_view, FileMode) {
  return Errno::kENOENT;
}
Result<RefPtr<Inode>> GeneratedInode::Mkdir(CallContext&, absl::string_view, FileMode) {
  return Errno::kENOENT;
}
Result<RefPtr<Inode>> GeneratedInode::Symlink(CallContext&, absl::string_view, absl::string_view) {
  return Errno::kENOENT;
}
Result<RefPtr<Inode>> GeneratedInode::Mknod(CallContext&, absl::string_view, FileMode,
                                            DeviceNumber) {
  return Errno::kENOENT;
}

Result<std::string> GeneratedInode::ReadLink(CallContext& ctx) {
  if (entry_.link == nullptr) return Errno::kEINVAL;
  return entry_.link(ctx, *object_);
}

Result<VfsPath> GeneratedInode::FollowMagicLink(CallContext& ctx) {
  if (entry_.follow == nullptr) return VfsPath();
  VfsPath path = TRY(entry_.follow(ctx, *object_));
  if (!path) return Errno::kENOENT;
  return path;
}

Result<RefPtr<FileDescription>> GeneratedInode::Open(CallContext& ctx, const OpenArgs& args) {
  RefPtr<GeneratedInode> self(this);
  if (is_directory()) return RefPtr<FileDescription>(MakeRef<GeneratedDirectory>(args, self));
  RefPtr<Object> object = object_;
  if (entry_.pin != nullptr) object = TRY(entry_.pin(ctx, *object_, args));
  if (entry_.open != nullptr) return entry_.open(ctx, *object, args, *this);
  return RefPtr<FileDescription>(MakeRef<GeneratedFile>(args, self, std::move(object)));
}

}  // namespace caisson::vfs::proc
