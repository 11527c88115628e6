#include "auth/user_namespace.h"

#include <atomic>

#include "auth/credentials.h"

namespace caisson::auth {
namespace {

// Inode numbers of namespaces as /proc/PID/ns shows them start where Linux's do
// (include/linux/proc_ns.h, PROC_USER_INIT_INO); children count up from PROC_DYNAMIC_FIRST.
constexpr uint64_t kRootInode = 0xEFFFFFFD;
std::atomic<uint64_t> g_next_inode{0xF1000000};

std::optional<uint32_t> Map(const std::vector<IdExtent>& map, uint32_t id) {
  for (const IdExtent& e : map) {
    if (id >= e.first && id - e.first < e.count) return e.lower_first + (id - e.first);
  }
  return std::nullopt;
}

uint32_t Unmap(const std::vector<IdExtent>& map, uint32_t kid) {
  for (const IdExtent& e : map) {
    if (kid >= e.lower_first && kid - e.lower_first < e.count) return e.first + (kid - e.lower_first);
  }
  return kOverflowId;
}

}  // namespace

UserNamespace::UserNamespace() : owner_uid_(0), owner_gid_(0), level_(0), inode_number_(kRootInode) {
  uid_map_ = gid_map_ = {{0, 0, ~0u}};
}

UserNamespace::UserNamespace(RefPtr<UserNamespace> parent, uint32_t owner_uid, uint32_t owner_gid)
    : parent_(std::move(parent)),
      owner_uid_(owner_uid),
      owner_gid_(owner_gid),
      level_(parent_->level() + 1),
      inode_number_(g_next_inode.fetch_add(1, std::memory_order_relaxed)) {
  setgroups_allowed_ = parent_->setgroups_allowed();
}

bool UserNamespace::IsWithin(const UserNamespace& other) const {
  for (const UserNamespace* ns = this; ns != nullptr; ns = ns->parent())
    if (ns == &other) return true;
  return false;
}

std::optional<uint32_t> UserNamespace::ToKernelUid(uint32_t uid) const {
  MutexLock lock(mu_);
  return Map(uid_map_, uid);
}
std::optional<uint32_t> UserNamespace::ToKernelGid(uint32_t gid) const {
  MutexLock lock(mu_);
  return Map(gid_map_, gid);
}
uint32_t UserNamespace::FromKernelUid(uint32_t kuid) const {
  MutexLock lock(mu_);
  return Unmap(uid_map_, kuid);
}
uint32_t UserNamespace::FromKernelGid(uint32_t kgid) const {
  MutexLock lock(mu_);
  return Unmap(gid_map_, kgid);
}

bool UserNamespace::MapsUid(uint32_t kuid) const {
  return ToKernelUid(FromKernelUid(kuid)) == std::optional<uint32_t>(kuid);
}
bool UserNamespace::MapsGid(uint32_t kgid) const {
  return ToKernelGid(FromKernelGid(kgid)) == std::optional<uint32_t>(kgid);
}

bool UserNamespace::SetUidMap(std::vector<IdExtent> map) {
  MutexLock lock(mu_);
  if (!uid_map_.empty()) return false;
  uid_map_ = std::move(map);
  return true;
}
bool UserNamespace::SetGidMap(std::vector<IdExtent> map) {
  MutexLock lock(mu_);
  if (!gid_map_.empty()) return false;
  gid_map_ = std::move(map);
  return true;
}
std::vector<IdExtent> UserNamespace::uid_map() const {
  MutexLock lock(mu_);
  return uid_map_;
}
std::vector<IdExtent> UserNamespace::gid_map() const {
  MutexLock lock(mu_);
  return gid_map_;
}
bool UserNamespace::setgroups_allowed() const {
  MutexLock lock(mu_);
  return setgroups_allowed_;
}
void UserNamespace::DenySetgroups() {
  MutexLock lock(mu_);
  setgroups_allowed_ = false;
}

}  // namespace caisson::auth
