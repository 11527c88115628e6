// Open regular files: reads and writes go to a donated descriptor.
#ifndef CAISSON_VFS_GOFER_FILE_H_
#define CAISSON_VFS_GOFER_FILE_H_

#include <vector>

#include "vfs/file_description.h"
#include "vfs/gofer/inode.h"

namespace caisson::vfs {

class GoferFile final : public SeekableFile {
 public:
  // `epoch` is the inode's file_epoch() from before `file` was asked for.
  GoferFile(const OpenArgs& args, GoferInode& inode, RefPtr<GoferHostFile> file, uint64_t epoch);
  ~GoferFile() override;

  Result<size_t> PRead(CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t rwf) override;
  Result<size_t> PWrite(CallContext& ctx, IoBuffer& from, uint64_t offset, uint32_t rwf) override;
  Result<HostMapping> Map(CallContext& ctx, uint64_t offset, uint64_t length, bool shared,
                          bool write) override;
  Result<void> Sync(CallContext& ctx, bool data_only) override;
  Result<void> Allocate(CallContext& ctx, int mode, uint64_t offset, uint64_t length) override;
  Result<void> SetStatusFlags(CallContext& ctx, uint32_t flags) override;

 protected:
  Result<size_t> Append(CallContext& ctx, IoBuffer& from, uint32_t rwf, uint64_t* end) override;
  Result<int64_t> SeekExtent(CallContext& ctx, int64_t offset, bool hole) override;

 private:
  GoferInode& gofer_inode() const { return static_cast<GoferInode&>(*inode()); }
  // What to read and write with now: one with O_DIRECT while that flag is set.
  RefPtr<GoferHostFile> current() const;
  Result<size_t> WriteAt(IoBuffer& from, uint64_t offset, uint32_t rwf, bool append);
  uint32_t HostFlags(uint32_t rwf) const;

  const RefPtr<GoferHostFile> file_;
  mutable Mutex mu_;
  RefPtr<GoferHostFile> direct_ ABSL_GUARDED_BY(mu_);
  // Descriptors that mappings were made from, other than file_: the mapper may ask for them again
  // as long as this description lives.
  std::vector<RefPtr<GoferHostFile>> mapped_ ABSL_GUARDED_BY(mu_);
  uint64_t mapped_epoch_ ABSL_GUARDED_BY(mu_);
};

// An open directory. Its listing is taken when it is first read, and again after a rewind, so
// offsets stay what they are while names come and go.
class GoferDirectoryFile final : public FileDescription {
 public:
  GoferDirectoryFile(const OpenArgs& args, GoferInode& inode);
  ~GoferDirectoryFile() override;
  Result<void> Iterate(CallContext& ctx, DirectorySink& sink) override;
  Result<int64_t> Seek(CallContext& ctx, int64_t offset, int whence) override;
  Result<void> Sync(CallContext& ctx, bool data_only) override;

 private:
  GoferInode& gofer_inode() const { return static_cast<GoferInode&>(*inode()); }

  Mutex mu_;  // Linux f_pos_lock: held while the listing is asked for.
  int64_t position_ ABSL_GUARDED_BY(mu_) = 0;
  std::shared_ptr<const DirectoryListing> listing_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_GOFER_FILE_H_
