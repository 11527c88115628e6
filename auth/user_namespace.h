// User namespaces (user_namespaces(7)): id maps, owner, parent.
#ifndef CAISSON_AUTH_USER_NAMESPACE_H_
#define CAISSON_AUTH_USER_NAMESPACE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "base/ref.h"

namespace caisson::auth {

struct IdExtent {
  uint32_t first = 0;       // In this namespace.
  uint32_t lower_first = 0;  // Kernel id (root namespace).
  uint32_t count = 0;
};

enum class IdKind : uint8_t { kUid, kGid, kProject };

// Thread-safe. Maps are set once (uid_map, gid_map, projid_map) and never change after.
class UserNamespace : public RefCounted<UserNamespace> {
 public:
  // The sandbox's root namespace: identity maps.
  UserNamespace();
  // `parent_could_setfcap`: whether its maker had CAP_SETFCAP in `parent`, and so may map root's id from inside.
  UserNamespace(RefPtr<UserNamespace> parent, uint32_t owner_uid, uint32_t owner_gid, bool parent_could_setfcap);

  const UserNamespace* parent() const { return parent_.get(); }
  uint32_t owner_uid() const { return owner_uid_; }
  uint32_t owner_gid() const { return owner_gid_; }
  bool parent_could_setfcap() const { return parent_could_setfcap_; }
  int level() const { return level_; }
  uint64_t inode_number() const { return inode_number_; }
  // Whether this is `other` or a descendant of it.
  bool IsWithin(const UserNamespace& other) const;

  // Id of this namespace -> kernel id, and back; nothing if unmapped.
  std::optional<uint32_t> ToKernel(IdKind kind, uint32_t id) const;
  std::optional<uint32_t> FromKernel(IdKind kind, uint32_t kid) const;
  std::optional<uint32_t> ToKernelUid(uint32_t uid) const { return ToKernel(IdKind::kUid, uid); }
  std::optional<uint32_t> ToKernelGid(uint32_t gid) const { return ToKernel(IdKind::kGid, gid); }
  // Kernel id -> id shown in this namespace; the overflow id if unmapped.
  uint32_t FromKernelUid(uint32_t kuid) const;
  uint32_t FromKernelGid(uint32_t kgid) const;

  // Whether the kernel id has a name here.
  bool MapsUid(uint32_t kuid) const { return FromKernel(IdKind::kUid, kuid).has_value(); }
  bool MapsGid(uint32_t kgid) const { return FromKernel(IdKind::kGid, kgid).has_value(); }

  // False if a map was already set (EPERM for the writer).
  bool SetMap(IdKind kind, std::vector<IdExtent> map);
  std::vector<IdExtent> map(IdKind kind) const;
  // Of uids and gids: what these are shown as here does not change any more.
  bool maps_are_set() const;
  // /proc/PID/setgroups. Denied for ever, in what is made inside too.
  bool setgroups_denied() const;
  // Not denied, and there are groups to set: as long as there is no map, it may still be denied.
  bool MaySetgroups() const;
  // False if it is too late: gids are mapped (EPERM for the writer).
  bool DenySetgroups();

 private:
  const RefPtr<UserNamespace> parent_;
  const uint32_t owner_uid_;
  const uint32_t owner_gid_;
  const bool parent_could_setfcap_;
  const int level_;
  const uint64_t inode_number_;
  mutable Mutex mu_;
  std::vector<IdExtent> maps_[3] ABSL_GUARDED_BY(mu_);  // By IdKind.
  bool setgroups_denied_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace caisson::auth

#endif  // CAISSON_AUTH_USER_NAMESPACE_H_
