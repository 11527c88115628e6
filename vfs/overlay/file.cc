#include "vfs/overlay/file.h"

namespace caisson::vfs::overlay {

File::File(const OpenArgs& args, RefPtr<Node> node, RefPtr<FileDescription> real, bool of_upper)
    : SeekableFile(FileKind::kRegular, args.path, node, args.flags),
      node_(*node),
      real_(std::move(real)),
      of_upper_(of_upper) {}

Result<RefPtr<FileDescription>> File::Current(CallContext& ctx) {
  {
    MutexLock lock(mu_);
    if (of_upper_ || node_.upper() == nullptr) return real_;
  }
  // Copied up since it was opened.
  RefPtr<FileDescription> fresh = TRY(node_.upper()->Open(ctx, OpenArgs{VfsPath(), flags()}));
  MutexLock lock(mu_);
  if (!of_upper_) {
    lower_ = std::exchange(real_, std::move(fresh));
    of_upper_ = true;
  }
  return real_;
}

Result<size_t> File::PRead(CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t rwf) {
  RefPtr<FileDescription> real = TRY(Current(ctx));
  return real->PRead(ctx, to, offset, rwf);
}

Result<size_t> File::PWrite(CallContext& ctx, IoBuffer& from, uint64_t offset, uint32_t rwf) {
  RefPtr<FileDescription> real = TRY(Current(ctx));
  return real->PWrite(ctx, from, offset, rwf);
}

Result<size_t> File::Append(CallContext& ctx, IoBuffer& from, uint32_t rwf, uint64_t* end) {
  RefPtr<FileDescription> real = TRY(Current(ctx));
  size_t n = TRY(real->PAppend(ctx, from, rwf));
  Attributes attr = TRY(real->GetAttributes(ctx));
  *end = attr.size;
  return n;
}

Result<int64_t> File::SeekExtent(CallContext& ctx, int64_t offset, bool hole) {
  RefPtr<FileDescription> real = TRY(Current(ctx));
  return real->Seek(ctx, offset, hole ? 4 : 3);
}

Result<HostMapping> File::Map(CallContext& ctx, uint64_t offset, uint64_t length, bool shared,
                              bool write) {
  RefPtr<FileDescription> real = TRY(Current(ctx));
  return real->Map(ctx, offset, length, shared, write);
}

Result<void> File::Sync(CallContext& ctx, bool data_only) {
  RefPtr<FileDescription> real = TRY(Current(ctx));
  return real->Sync(ctx, data_only);
}

Result<void> File::Allocate(CallContext& ctx, int mode, uint64_t offset, uint64_t length) {
  RefPtr<FileDescription> real = TRY(Current(ctx));
  return real->Allocate(ctx, mode, offset, length);
}

Result<void> File::SetStatusFlags(CallContext& ctx, uint32_t flags) {
  RefPtr<FileDescription> real = TRY(Current(ctx));
  TRY(FileDescription::SetStatusFlags(ctx, flags));
  return real->SetStatusFlags(ctx, flags);
}

DirectoryFile::DirectoryFile(const OpenArgs& args, RefPtr<Node> node)
    : FileDescription(FileKind::kDirectory, args.path, node, args.flags), node_(*node) {}

Result<int64_t> DirectoryFile::Seek(CallContext& ctx, int64_t offset, int whence) {
  MutexLock lock(mu_);
  int64_t position = offset;
  if (whence == 1) {
    if (__builtin_add_overflow(position_, offset, &position)) return Errno::kEINVAL;
  } else if (whence != 0) {
    return Errno::kEINVAL;
  }
  if (position < 0) return Errno::kEINVAL;
  position_ = position;
  return position;
}

Result<void> DirectoryFile::Iterate(CallContext& ctx, DirectorySink& sink) {
  MutexLock lock(mu_);
  if (position_ == 0 || !listed_) {
    entries_ = TRY(node_.List(ctx));
    listed_ = true;
  }
  if (position_ == 0) {
    Attributes attr = TRY(node_.GetAttributes(ctx));
    if (!sink.Add(".", attr.ino, kModeDirectory, 1)) return {};
    position_ = 1;
  }
  if (position_ == 1) {
    if (!sink.Add("..", node_.ParentIno(ctx), kModeDirectory, 2)) return {};
    position_ = 2;
  }
  while (static_cast<uint64_t>(position_ - 2) < entries_.size()) {
    const Node::Entry& e = entries_[static_cast<size_t>(position_ - 2)];
    if (!sink.Add(e.name, e.ino, e.type, position_ + 1)) break;
    ++position_;
  }
  return {};
}

}  // namespace caisson::vfs::overlay
