// Inodes of generated trees.
#ifndef CAISSON_VFS_PROC_INODE_H_
#define CAISSON_VFS_PROC_INODE_H_

#include "vfs/file_description.h"
#include "vfs/proc/tree.h"

namespace caisson::vfs::proc {

class GeneratedInode final : public Inode {
 public:
  GeneratedInode(GeneratedFileSystem& fs, uint64_t ino, const Entry& entry, RefPtr<Object> object);
  ~GeneratedInode() override;

  const Entry& entry() const { return entry_; }
  Object& object() const { return *object_; }
  const RefPtr<Object>& object_ref() const { return object_; }
  uint64_t ino() const { return ino_; }
  // The number of the inode that `name` in this directory has.
  uint64_t ChildNumber(absl::string_view name) const;

  Result<Attributes> GetAttributes(CallContext& ctx) override;
  // Times and size (O_TRUNC) may be set, to no effect. Errors: EPERM for the rest.
  Result<void> SetAttributes(CallContext& ctx, const struct SetAttributes& change) override;
  Result<void> CheckPermission(CallContext& ctx, AccessMask access) override;
  Result<RefPtr<Inode>> Lookup(CallContext& ctx, absl::string_view name) override;
  uint64_t LookupGeneration() override;
  // Names that are not there cannot be made: ENOENT, as where Lookup() of Linux fails.
  Result<RefPtr<Inode>> Create(CallContext& ctx, absl::string_view name, FileMode mode) override;
  Result<RefPtr<Inode>> Mkdir(CallContext& ctx, absl::string_view name, FileMode mode) override;
  Result<RefPtr<Inode>> Symlink(CallContext& ctx, absl::string_view name,
                                absl::string_view target) override;
  Result<RefPtr<Inode>> Mknod(CallContext& ctx, absl::string_view name, FileMode mode,
                              DeviceNumber rdev) override;
  Result<std::string> ReadLink(CallContext& ctx) override;
  Result<VfsPath> FollowMagicLink(CallContext& ctx) override;
  Result<RefPtr<FileDescription>> Open(CallContext& ctx, const OpenArgs& args) override;

 private:
  GeneratedFileSystem& tree() const { return static_cast<GeneratedFileSystem&>(fs()); }
  const uint64_t ino_;
  const Entry& entry_;
  const RefPtr<Object> object_;
  const Timestamp made_;
};

// A file of text. Reads take from one buffer, made at the first read and at each that starts at
// offset 0, so that one pass sees one state (Linux fs/seq_file.c).
class GeneratedFile final : public SeekableFile {
 public:
  GeneratedFile(const OpenArgs& args, RefPtr<GeneratedInode> inode, RefPtr<Object> object);
  Result<size_t> PRead(CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t rwf) override;
  Result<size_t> PWrite(CallContext& ctx, IoBuffer& from, uint64_t offset, uint32_t rwf) override;
  Result<int64_t> Seek(CallContext& ctx, int64_t offset, int whence) override;

 private:
  const Entry& entry_;
  const RefPtr<Object> object_;
  // Held across what makes the content, which may copy guest memory; taken after position_mu_.
  Mutex content_mu_;
  bool made_ ABSL_GUARDED_BY(content_mu_) = false;
  std::string content_ ABSL_GUARDED_BY(content_mu_);
};

class GeneratedDirectory final : public FileDescription {
 public:
  GeneratedDirectory(const OpenArgs& args, RefPtr<GeneratedInode> inode);
  Result<void> Iterate(CallContext& ctx, DirectorySink& sink) override;
  Result<int64_t> Seek(CallContext& ctx, int64_t offset, int whence) override;
  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override;

 private:
  GeneratedInode& directory() const { return static_cast<GeneratedInode&>(*inode()); }
  // Names from *position on, until the sink is full; *position is then after the last one taken.
  Result<void> Emit(CallContext& ctx, DirectorySink& sink, int64_t* position) const;
  Mutex mu_;
  int64_t position_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace caisson::vfs::proc

#endif  // CAISSON_VFS_PROC_INODE_H_
