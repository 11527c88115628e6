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

std::optional<uint32_t> Unmap(const std::vector<IdExtent>& map, uint32_t kid) {
  for (const IdExtent& e : map) {
    if (kid >= e.lower_first && kid - e.lower_first < e.count) return e.first + (kid - e.lower_first);
  }
  return std::nullopt;
}

}  // namespace

UserNamespace::UserNamespace()
    : owner_uid_(0), owner_gid_(0), parent_could_setfcap_(true), level_(0), inode_number_(kRootInode) {
  for (std::vector<IdExtent>& map : maps_) map = {{0, 0, ~0u}};
}

UserNamespace::UserNamespace(RefPtr<UserNamespace> parent, uint32_t owner_uid, uint32_t owner_gid,
                             bool parent_could_setfcap)
    : parent_(std::move(parent)),
      owner_uid_(owner_uid),
      owner_gid_(owner_gid),
      parent_could_setfcap_(parent_could_setfcap),
      level_(parent_->level() + 1),
      inode_number_(g_next_inode.fetch_add(1, std::memory_order_relaxed)) {
  setgroups_denied_ = parent_->setgroups_denied();
}

bool UserNamespace::IsWithin(const UserNamespace& other) const {
  for (const UserNamespace* ns = this; ns != nullptr; ns = ns->parent())
    if (ns == &other) return true;
  return false;
}

std::optional<uint32_t> UserNamespace::ToKernel(IdKind kind, uint32_t id) const {
  MutexLock lock(mu_);
  return Map(maps_[static_cast<size_t>(kind)], id);
}
std::optional<uint32_t> UserNamespace::FromKernel(IdKind kind, uint32_t kid) const {
  MutexLock lock(mu_);
  return Unmap(maps_[static_cast<size_t>(kind)], kid);
}
uint32_t UserNamespace::FromKernelUid(uint32_t kuid) const {
  return FromKernel(IdKind::kUid, kuid).value_or(kOverflowId);
}
uint32_t UserNamespace::FromKernelGid(uint32_t kgid) const {
  return FromKernel(IdKind::kGid, kgid).value_or(kOverflowId);
}

bool UserNamespace::SetMap(IdKind kind, std::vector<IdExtent> map) {
  MutexLock lock(mu_);
  std::vector<IdExtent>& now = maps_[static_cast<size_t>(kind)];
  if (!now.empty()) return false;
  now = std::move(map);
  return true;
}
std::vector<IdExtent> UserNamespace::map(IdKind kind) const {
  MutexLock lock(mu_);
  return maps_[static_cast<size_t>(kind)];
}
bool UserNamespace::maps_are_set() const {
  MutexLock lock(mu_);
  return !maps_[static_cast<size_t>(IdKind::kUid)].empty() && !maps_[static_cast<size_t>(IdKind::kGid)].empty();
}
bool UserNamespace::setgroups_denied() const {
  MutexLock lock(mu_);
  return setgroups_denied_;
}
bool UserNamespace::MaySetgroups() const {
  MutexLock lock(mu_);
  return !setgroups_denied_ && !maps_[static_cast<size_t>(IdKind::kGid)].empty();
}
bool UserNamespace::DenySetgroups() {
  MutexLock lock(mu_);
  if (!maps_[static_cast<size_t>(IdKind::kGid)].empty()) return false;
  setgroups_denied_ = true;
  return true;
}

}  // namespace caisson::auth
