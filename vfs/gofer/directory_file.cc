#include <algorithm>

#include "vfs/gofer/file.h"

namespace caisson::vfs {

GoferDirectoryFile::GoferDirectoryFile(const OpenArgs& args, GoferInode& inode)
    : FileDescription(FileKind::kDirectory, args.path, RefPtr<Inode>(&inode), args.flags) {
  inode.Pin();
}

GoferDirectoryFile::~GoferDirectoryFile() { gofer_inode().Unpin(); }

Result<void> GoferDirectoryFile::Iterate(CallContext&, DirectorySink& sink) {
  GoferInode& directory = gofer_inode();
  MutexLock lock(mu_);
  if (directory.unlinked()) return Errno::kENOENT;
  if (position_ == 0) listing_.reset();
  if (listing_ == nullptr) listing_ = TRY(directory.List());
  if (position_ == 0) {
    if (!sink.Add(".", directory.id().ino, 4, 1)) return {};
    position_ = 1;
  }
  if (position_ == 1) {
    if (!sink.Add("..", directory.ParentIno(), 4, 2)) return {};
    position_ = 2;
  }
  while (position_ - 2 < static_cast<int64_t>(listing_->size())) {
    const DirectoryListingEntry& entry = (*listing_)[position_ - 2];
    if (!sink.Add(entry.name, entry.ino, entry.type, position_ + 1)) return {};
    ++position_;
  }
  return {};
}

Result<int64_t> GoferDirectoryFile::Seek(CallContext&, int64_t offset, int whence) {
  MutexLock lock(mu_);
  switch (whence) {
    case 0: break;
    case 1:
      if (offset > 0 && position_ > INT64_MAX - offset) return Errno::kEINVAL;
      offset += position_;
      break;
    default: return Errno::kEINVAL;
  }
  if (offset < 0) return Errno::kEINVAL;
  position_ = offset;
  return offset;
}

Result<void> GoferDirectoryFile::Sync(CallContext&, bool data_only) {
  return gofer_inode().SyncDirectory(data_only);
}

}  // namespace caisson::vfs
