// Open files and directories of an overlay.
#ifndef CAISSON_VFS_OVERLAY_FILE_H_
#define CAISSON_VFS_OVERLAY_FILE_H_

#include <string>
#include <vector>

#include "vfs/file_description.h"
#include "vfs/overlay/node.h"

namespace caisson::vfs::overlay {

// Passes everything on to the open file of the layer. One that was opened for reading before the
// file was copied up reads the copy from then on; mappings that exist stay of the lower file (as in
// Linux). Thread-safe.
class File final : public SeekableFile {
 public:
  File(const OpenArgs& args, RefPtr<Node> node, RefPtr<FileDescription> real, bool of_upper);
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
  Result<RefPtr<FileDescription>> Current(CallContext& ctx) ABSL_LOCKS_EXCLUDED(mu_);
  Node& node_;  // inode().
  Mutex mu_;
  RefPtr<FileDescription> real_ ABSL_GUARDED_BY(mu_);
  RefPtr<FileDescription> lower_ ABSL_GUARDED_BY(mu_);  // Kept for its mappings.
  bool of_upper_ ABSL_GUARDED_BY(mu_);
};

// A snapshot of the merged names, taken when reading starts at 0.
class DirectoryFile final : public FileDescription {
 public:
  DirectoryFile(const OpenArgs& args, RefPtr<Node> node);
  Result<size_t> Read(CallContext&, IoBuffer&, uint32_t) override { return Errno::kEISDIR; }
  Result<size_t> PRead(CallContext&, IoBuffer&, uint64_t, uint32_t) override {
    return Errno::kEISDIR;
  }
  Result<int64_t> Seek(CallContext& ctx, int64_t offset, int whence) override;
  Result<void> Iterate(CallContext& ctx, DirectorySink& sink) override;
  Result<void> Sync(CallContext& ctx, bool data_only) override { return {}; }

 private:
  Node& node_;  // inode().
  Mutex mu_;    // Held while the sink takes entries, as Linux's f_pos_lock.
  int64_t position_ ABSL_GUARDED_BY(mu_) = 0;
  bool listed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<Node::Entry> entries_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::vfs::overlay

#endif  // CAISSON_VFS_OVERLAY_FILE_H_
