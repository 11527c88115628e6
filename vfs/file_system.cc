#include <atomic>

#include "vfs/dentry.h"
#include "vfs/dentry_cache.h"
#include "vfs/inode.h"

namespace caisson::vfs {
namespace {

// Minors of anonymous devices (Linux get_anon_bdev()). Unique in the process, which is more than a
// kernel needs.
std::atomic<uint32_t> g_next_device{20};

}  // namespace

FileSystem::FileSystem(absl::string_view type_name)
    : type_name_(type_name),
      device_{0, g_next_device.fetch_add(1, std::memory_order_relaxed)},
      dentry_cache_(std::make_unique<DentryCache>()) {}

FileSystem::~FileSystem() = default;

Result<void> FileSystem::Remount(CallContext& ctx, uint64_t flags, absl::string_view data) {
  if (!data.empty()) return Errno::kEINVAL;
  return {};
}

void FileSystem::AddUser() {
  if (users_.fetch_add(1, std::memory_order_acq_rel) == 0) dentry_cache_->set_enabled(true);
}

void FileSystem::RemoveUser() {
  if (users_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  dentry_cache_->set_enabled(false);
  dentry_cache_->Clear();
  OnLastUnmount();
}

RefPtr<Dentry> FileSystem::RootDentry() {
  RefPtr<Inode> inode = root();
  MutexLock lock(root_mu_);
  if (root_dentry_ != nullptr && root_dentry_->TryIncRef())
    return RefPtr<Dentry>::Adopt(root_dentry_);
  RefPtr<Dentry> fresh = Dentry::NewRoot(std::move(inode));
  root_dentry_ = fresh.get();
  return fresh;
}

void FileSystem::ForgetRootDentry(Dentry& dentry) {
  MutexLock lock(root_mu_);
  if (root_dentry_ == &dentry) root_dentry_ = nullptr;
}

}  // namespace caisson::vfs
