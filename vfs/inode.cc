#include "vfs/inode.h"

#include "vfs/file_description.h"
#include "vfs/file_lock.h"
#include "vfs/permission.h"
#include "vfs/watches.h"

namespace caisson::vfs {

Inode::Inode(FileSystem& fs, FileMode type) : fs_(&fs), type_(type & kModeType) {}
Inode::~Inode() = default;

Result<void> Inode::SetAttributes(CallContext&, const struct SetAttributes&) {
  return Errno::kEPERM;
}

Result<void> Inode::CheckPermission(CallContext& ctx, AccessMask access) {
  Attributes attr = TRY(GetAttributes(ctx));
  return CheckAccess(ctx.creds(), attr, access);
}

Result<RefPtr<Inode>> Inode::Lookup(CallContext&, absl::string_view) {
  return is_directory() ? Errno::kENOENT : Errno::kENOTDIR;
}
// What Linux fs/namei.c answers where i_op lacks the operation.
Result<RefPtr<Inode>> Inode::Create(CallContext&, absl::string_view, FileMode) {
  return Errno::kEACCES;
}
Result<RefPtr<Inode>> Inode::Mkdir(CallContext&, absl::string_view, FileMode) {
  return Errno::kEPERM;
}
Result<RefPtr<Inode>> Inode::Symlink(CallContext&, absl::string_view, absl::string_view) {
  return Errno::kEPERM;
}
Result<RefPtr<Inode>> Inode::Mknod(CallContext&, absl::string_view, FileMode, DeviceNumber) {
  return Errno::kEPERM;
}
Result<void> Inode::Link(CallContext&, absl::string_view, Inode&) { return Errno::kEPERM; }
Result<void> Inode::Unlink(CallContext&, absl::string_view, Inode&) { return Errno::kEPERM; }
Result<void> Inode::Rmdir(CallContext&, absl::string_view, Inode&) { return Errno::kEPERM; }
Result<void> Inode::Rename(CallContext&, absl::string_view, Inode&, Inode&, absl::string_view,
                           Inode*, uint32_t) {
  return Errno::kEPERM;
}
Result<RefPtr<Inode>> Inode::CreateUnlinked(CallContext&, FileMode) { return Errno::kEOPNOTSUPP; }
Result<std::string> Inode::ReadLink(CallContext&) { return Errno::kEINVAL; }
Result<VfsPath> Inode::FollowMagicLink(CallContext&) { return VfsPath(); }

Result<std::string> Inode::GetXattr(CallContext&, absl::string_view) { return Errno::kEOPNOTSUPP; }
Result<void> Inode::SetXattr(CallContext&, absl::string_view, absl::string_view, int) {
  return Errno::kEOPNOTSUPP;
}
Result<std::vector<std::string>> Inode::ListXattr(CallContext&) {
  return std::vector<std::string>();
}
Result<void> Inode::RemoveXattr(CallContext&, absl::string_view) { return Errno::kEOPNOTSUPP; }

Result<void> Inode::AddSeals(uint32_t) { return Errno::kEINVAL; }
Result<uint32_t> Inode::GetSeals() { return Errno::kEINVAL; }

Result<void> Inode::DenyWrites() {
  MutexLock lock(mu_);
  if (write_count_ > 0) return Errno::kETXTBSY;
  --write_count_;
  return {};
}

void Inode::AllowWrites() {
  MutexLock lock(mu_);
  CHECK(write_count_ < 0);
  ++write_count_;
}

Result<void> Inode::AddWriter() {
  MutexLock lock(mu_);
  if (write_count_ < 0) return Errno::kETXTBSY;
  ++write_count_;
  return {};
}

void Inode::RemoveWriter() {
  MutexLock lock(mu_);
  CHECK(write_count_ > 0);
  --write_count_;
}

std::unique_ptr<HostLocks> Inode::MakeHostLocks() { return nullptr; }

FileLocks& Inode::locks() {
  if (FileLocks* made = locks_ptr_.load(std::memory_order_acquire)) return *made;
  MutexLock lock(mu_);
  if (locks_ == nullptr) {
    locks_ = std::make_unique<FileLocks>(MakeHostLocks());
    locks_ptr_.store(locks_.get(), std::memory_order_release);
  }
  return *locks_;
}

InodeWatches& Inode::watches() {
  if (InodeWatches* made = watches_ptr_.load(std::memory_order_acquire)) return *made;
  fs_->set_ever_watched();
  MutexLock lock(mu_);
  if (watches_ == nullptr) {
    watches_ = std::make_unique<InodeWatches>();
    watches_ptr_.store(watches_.get(), std::memory_order_release);
  }
  return *watches_;
}

void Inode::set_bound_object(RefPtr<FileDescription> object) {
  MutexLock lock(mu_);  // Released before `object`, by then the old one, goes.
  std::swap(bound_, object);
}

RefPtr<FileDescription> Inode::bound_object() {
  MutexLock lock(mu_);
  return bound_;
}

}  // namespace caisson::vfs
