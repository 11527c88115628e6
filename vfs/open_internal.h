// Shared by the sources that implement vfs/operations.h.
#ifndef CAISSON_VFS_OPEN_INTERNAL_H_
#define CAISSON_VFS_OPEN_INTERNAL_H_

#include "vfs/file_description.h"
#include "vfs/mount.h"
#include "vfs/path_walk.h"

namespace caisson::vfs {

// mnt_want_write() for a scope.
class MountWrite {
 public:
  MountWrite() = default;
  MountWrite(const MountWrite&) = delete;
  MountWrite& operator=(const MountWrite&) = delete;
  ~MountWrite() {
    if (mount_ != nullptr) mount_->EndWrite();
  }
  // Errors: EROFS.
  Result<void> Begin(const RefPtr<Mount>& mount) {
    if (mount == nullptr) return {};
    TRY(mount->BeginWrite());
    mount_ = mount;
    return {};
  }
  // The write goes on: someone else ends it.
  void Release() { mount_.reset(); }

 private:
  RefPtr<Mount> mount_;
};

// may_create() and may_delete() of a directory whose lock is held: ENOENT if it was removed,
// EACCES.
Result<void> MayChangeDirectory(CallContext& ctx, const VfsPath& directory);

// O_PATH: a place, not an open file. Everything but its path and attributes is EBADF.
class PathFile final : public FileDescription {
 public:
  PathFile(VfsPath path, RefPtr<Inode> inode, uint32_t flags)
      : FileDescription(FileKind::kPath, std::move(path), std::move(inode), flags) {}
  Result<size_t> Read(CallContext&, IoBuffer&, uint32_t) override { return Errno::kEBADF; }
  Result<size_t> Write(CallContext&, IoBuffer&, uint32_t) override { return Errno::kEBADF; }
  Result<size_t> PRead(CallContext&, IoBuffer&, uint64_t, uint32_t) override {
    return Errno::kEBADF;
  }
  Result<size_t> PWrite(CallContext&, IoBuffer&, uint64_t, uint32_t) override {
    return Errno::kEBADF;
  }
  Result<int64_t> Seek(CallContext&, int64_t, int) override { return Errno::kEBADF; }
  Result<void> Iterate(CallContext&, DirectorySink&) override { return Errno::kEBADF; }
  Result<int64_t> Ioctl(CallContext&, uint32_t, uint64_t) override { return Errno::kEBADF; }
  Result<HostMapping> Map(CallContext&, uint64_t, uint64_t, bool, bool) override {
    return Errno::kEBADF;
  }
  Result<void> Sync(CallContext&, bool) override { return Errno::kEBADF; }
  Result<void> Allocate(CallContext&, int, uint64_t, uint64_t) override { return Errno::kEBADF; }
  Result<void> SetAttributes(CallContext&, const struct SetAttributes&) override {
    return Errno::kEBADF;
  }
  Result<void> SetStatusFlags(CallContext&, uint32_t) override { return Errno::kEBADF; }
  EventMask Readiness(EventMask) override { return kEventNval; }
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_OPEN_INTERNAL_H_
