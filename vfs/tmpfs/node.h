// Inodes of tmpfs: what all kinds share, and the kinds without data.
#ifndef CAISSON_VFS_TMPFS_NODE_H_
#define CAISSON_VFS_TMPFS_NODE_H_

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "vfs/file_description.h"
#include "vfs/inode.h"
#include "vfs/tmpfs/filesystem.h"

namespace caisson::vfs::tmpfs {

Timestamp Now();

// Thread-safe. The maker has charged one inode to the file system; the destructor gives it back.
class Node : public Inode {
 public:
  Node(TmpfsFileSystem& fs, FileMode mode, uint32_t uid, uint32_t gid);
  ~Node() override;

  Result<Attributes> GetAttributes(CallContext& ctx) override;
  Result<void> SetAttributes(CallContext& ctx, const struct SetAttributes& change) override;
  Result<void> CheckPermission(CallContext& ctx, AccessMask access) override;
  Result<RefPtr<FileDescription>> Open(CallContext& ctx, const OpenArgs& args) override;
  Result<std::string> GetXattr(CallContext& ctx, absl::string_view name) override;
  Result<void> SetXattr(CallContext& ctx, absl::string_view name, absl::string_view value,
                        int flags) override;
  Result<std::vector<std::string>> ListXattr(CallContext& ctx) override;
  Result<void> RemoveXattr(CallContext& ctx, absl::string_view name) override;
  bool MayHaveFileCapabilities() override {
    return has_capabilities_.load(std::memory_order_acquire);
  }

  TmpfsFileSystem& tmpfs() { return fs_; }
  uint64_t ino() const { return ino_; }
  // Link counts, with ctime.
  void AddLinks(int change) ABSL_LOCKS_EXCLUDED(mu_);
  uint32_t links() const ABSL_LOCKS_EXCLUDED(mu_);
  void TouchAtime(const FileDescription& file) ABSL_LOCKS_EXCLUDED(mu_);

 protected:
  // Fills in size, blocks and rdev.
  virtual void FillLocked(Attributes& attr) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {}
  // Errors: EINVAL, EPERM, EFBIG, ENOSPC.
  virtual Result<void> ResizeLocked(uint64_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  virtual Result<void> CheckModeLocked(FileMode mode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return {};
  }
  void TouchModifiedLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { mtime_ = ctime_ = Now(); }
  Attributes AttributesLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  TmpfsFileSystem& fs_;
  // Guards everything that changes, data included. After no other lock of tmpfs but for a
  // directory's, in Directory::Rename.
  mutable Mutex mu_;
  // Written under mu_; walks check permission without it (relaxed: each is one decision's input).
  std::atomic<FileMode> mode_;  // With the type.
  std::atomic<uint32_t> uid_;
  std::atomic<uint32_t> gid_;
  uint32_t nlink_ ABSL_GUARDED_BY(mu_);
  Timestamp atime_ ABSL_GUARDED_BY(mu_), mtime_ ABSL_GUARDED_BY(mu_), ctime_ ABSL_GUARDED_BY(mu_);

 private:
  const uint64_t ino_;
  const Timestamp btime_;
  std::map<std::string, std::string, std::less<>> xattrs_ ABSL_GUARDED_BY(mu_);
  uint64_t xattr_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::atomic<bool> has_capabilities_{false};  // security.capability is set.
};

class Link final : public Node {
 public:
  Link(TmpfsFileSystem& fs, uint32_t uid, uint32_t gid, absl::string_view target)
      : Node(fs, kModeLink | 0777, uid, gid), target_(target) {}
  Result<std::string> ReadLink(CallContext& ctx) override { return target_; }

 protected:
  void FillLocked(Attributes& attr) override { attr.size = target_.size(); }

 private:
  const std::string target_;
};

// Devices, FIFOs and sockets: vfs/open.cc knows what to do with them.
class Special final : public Node {
 public:
  Special(TmpfsFileSystem& fs, FileMode mode, uint32_t uid, uint32_t gid, DeviceNumber rdev)
      : Node(fs, mode, uid, gid), rdev_(rdev) {}

 protected:
  void FillLocked(Attributes& attr) override { attr.rdev = rdev_; }

 private:
  const DeviceNumber rdev_;
};

}  // namespace caisson::vfs::tmpfs

#endif  // CAISSON_VFS_TMPFS_NODE_H_
