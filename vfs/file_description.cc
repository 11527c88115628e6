#include "vfs/file_description.h"

#include <atomic>

#include "vfs/file_lock.h"
#include "vfs/mount.h"
#include "vfs/permission.h"
#include "vfs/watches.h"

namespace caisson::vfs {
namespace {

std::atomic<uint64_t> g_next_id{1};

}  // namespace

FileDescription::FileDescription(FileKind kind, VfsPath path, RefPtr<Inode> inode, uint32_t flags)
    : kind_(kind),
      path_(std::move(path)),
      inode_(std::move(inode)),
      flags_(flags),
      id_(g_next_id.fetch_add(1, std::memory_order_relaxed)) {}

FileDescription::~FileDescription() {
  if (notifies_close_) NotifyFileWatches(*this, writable() ? kInCloseWrite : kInCloseNowrite);
  if (inode_ == nullptr) return;
  if (FileLocks* locks = inode_->locks_if_any()) {
    locks->ReleaseRecords(this);
    locks->ReleaseFlock(this);
  }
  if (counts_as_writer_) {
    inode_->RemoveWriter();
    if (path_.mount != nullptr) path_.mount->EndWrite();
  }
}

Result<void> FileDescription::SetStatusFlags(CallContext& ctx, uint32_t flags) {
  constexpr uint32_t kSettable =
      kOpenAppend | kOpenAsync | kOpenDirect | kOpenNoAtime | kOpenNonblock;
  if ((flags & kOpenNoAtime) != 0 && (this->flags() & kOpenNoAtime) == 0 && inode_ != nullptr) {
    Attributes attr = TRY(GetAttributes(ctx));
    if (!IsOwnerOrCapable(ctx.creds(), attr)) return Errno::kEPERM;
  }
  if ((flags & kOpenDirect) != 0 && kind_ != FileKind::kRegular && kind_ != FileKind::kPipe)
    return Errno::kEINVAL;
  uint32_t old = flags_.load(std::memory_order_relaxed);
  while (!flags_.compare_exchange_weak(old, (old & ~kSettable) | (flags & kSettable),
                                       std::memory_order_relaxed)) {
  }
  return {};
}

bool FileDescription::readable() const {
  // Access mode 3 (only for ioctl) gives neither.
  uint32_t mode = flags() & kOpenAccessMode;
  return kind_ != FileKind::kPath && (mode == kOpenReadOnly || mode == kOpenReadWrite);
}

bool FileDescription::writable() const {
  uint32_t mode = flags() & kOpenAccessMode;
  return kind_ != FileKind::kPath && (mode == kOpenWriteOnly || mode == kOpenReadWrite);
}

Result<size_t> FileDescription::Read(CallContext&, IoBuffer&, uint32_t) { return Errno::kEINVAL; }
Result<size_t> FileDescription::Write(CallContext&, IoBuffer&, uint32_t) { return Errno::kEINVAL; }
Result<size_t> FileDescription::PRead(CallContext&, IoBuffer&, uint64_t, uint32_t) {
  return Errno::kESPIPE;
}
Result<size_t> FileDescription::PWrite(CallContext&, IoBuffer&, uint64_t, uint32_t) {
  return Errno::kESPIPE;
}
Result<size_t> FileDescription::PAppend(CallContext&, IoBuffer&, uint32_t) {
  return Errno::kESPIPE;
}
Result<int64_t> FileDescription::Seek(CallContext&, int64_t, int) { return Errno::kESPIPE; }
Result<void> FileDescription::Iterate(CallContext&, DirectorySink&) { return Errno::kENOTDIR; }
Result<int64_t> FileDescription::Ioctl(CallContext&, uint32_t, uint64_t) { return Errno::kENOTTY; }
Result<HostMapping> FileDescription::Map(CallContext&, uint64_t, uint64_t, bool, bool) {
  return Errno::kENODEV;
}
Result<void> FileDescription::Sync(CallContext&, bool) { return Errno::kEINVAL; }

// vfs_fallocate().
Result<void> FileDescription::Allocate(CallContext&, int, uint64_t, uint64_t) {
  switch (kind_) {
    case FileKind::kPipe: return Errno::kESPIPE;
    case FileKind::kDirectory: return Errno::kEISDIR;
    case FileKind::kRegular: return Errno::kEOPNOTSUPP;
    default: return Errno::kENODEV;
  }
}

Result<Attributes> FileDescription::GetAttributes(CallContext& ctx) {
  CHECK(inode_ != nullptr);
  return inode_->GetAttributes(ctx);
}

Result<void> FileDescription::SetAttributes(CallContext& ctx, const struct SetAttributes& change) {
  if (inode_ == nullptr) return Errno::kEPERM;
  return inode_->SetAttributes(ctx, change);
}

Result<FsStatistics> FileDescription::Statistics(CallContext& ctx) {
  if (inode_ == nullptr) return Errno::kENOSYS;
  return inode_->fs().Statistics(ctx);
}

EventMask FileDescription::Readiness(EventMask mask) { return mask & (kReadable | kWritable); }

FileDescription::AsyncOwner FileDescription::async_owner() const {
  MutexLock lock(async_mu_);
  return async_owner_;
}

void FileDescription::set_async_owner(const AsyncOwner& owner) {
  MutexLock lock(async_mu_);
  async_owner_ = owner;
}

}  // namespace caisson::vfs
