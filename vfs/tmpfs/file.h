// Open files and directories of tmpfs.
#ifndef CAISSON_VFS_TMPFS_FILE_H_
#define CAISSON_VFS_TMPFS_FILE_H_

#include "vfs/file_description.h"
#include "vfs/tmpfs/directory.h"
#include "vfs/tmpfs/regular_file.h"

namespace caisson::vfs::tmpfs {

// Thread-safe. Guest memory is touched with no lock of the inode held: data goes through a bounce
// buffer, so that a transfer of more than BounceBuffer::kLarge bytes is not one step to other writers.
class File final : public SeekableFile {
 public:
  File(VfsPath path, RefPtr<RegularFile> node, uint32_t flags);
  Result<size_t> PRead(CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t rwf) override;
  Result<size_t> PWrite(CallContext& ctx, IoBuffer& from, uint64_t offset, uint32_t rwf) override;
  Result<HostMapping> Map(CallContext& ctx, uint64_t offset, uint64_t length, bool shared,
                          bool write) override;
  Result<void> Sync(CallContext& ctx, bool data_only) override { return {}; }
  Result<void> Allocate(CallContext& ctx, int mode, uint64_t offset, uint64_t length) override;

 protected:
  Result<size_t> Append(CallContext& ctx, IoBuffer& from, uint32_t rwf, uint64_t* end) override;
  Result<int64_t> SeekExtent(CallContext& ctx, int64_t offset, bool hole) override;

 private:
  Result<size_t> WriteAt(IoBuffer& from, const uint64_t* offset, uint64_t* end);
  RegularFile& node_;  // inode().
};

class DirectoryFile final : public FileDescription {
 public:
  DirectoryFile(VfsPath path, RefPtr<Directory> node, uint32_t flags);
  Result<size_t> Read(CallContext&, IoBuffer&, uint32_t) override { return Errno::kEISDIR; }
  Result<size_t> PRead(CallContext&, IoBuffer&, uint64_t, uint32_t) override {
    return Errno::kEISDIR;
  }
  Result<int64_t> Seek(CallContext& ctx, int64_t offset, int whence) override;
  Result<void> Iterate(CallContext& ctx, DirectorySink& sink) override;
  Result<void> Sync(CallContext& ctx, bool data_only) override { return {}; }

 private:
  Directory& node_;  // inode().
  Mutex mu_;         // Held while the sink takes entries, as Linux's f_pos_lock.
  int64_t position_ ABSL_GUARDED_BY(mu_) = 0;
  // Entries made after the reader started at 0 are left out: it would never end if each entry
  // read made another.
  uint64_t end_cookie_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace caisson::vfs::tmpfs

#endif  // CAISSON_VFS_TMPFS_FILE_H_
