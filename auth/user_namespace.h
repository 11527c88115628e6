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

// Thread-safe. Maps are set once (uid_map, gid_map) and never change after.
class UserNamespace : public RefCounted<UserNamespace> {
 public:
  // The sandbox's root namespace: identity maps.
  UserNamespace();
  UserNamespace(RefPtr<UserNamespace> parent, uint32_t owner_uid, uint32_t owner_gid);

  const UserNamespace* parent() const { return parent_.get(); }
  uint32_t owner_uid() const { return owner_uid_; }
  uint32_t owner_gid() const { return owner_gid_; }
  int level() const { return level_; }
  uint64_t inode_number() const { return inode_number_; }
  // Whether this is `other` or a descendant of it.
  bool IsWithin(const UserNamespace& other) const;

  // Id of this namespace -> kernel id; nothing if unmapped.
  std::optional<uint32_t> ToKernelUid(uint32_t uid) const;
  std::optional<uint32_t> ToKernelGid(uint32_t gid) const;
  // Kernel id -> id shown in this namespace; the overflow id if unmapped.
  uint32_t FromKernelUid(uint32_t kuid) const;
  uint32_t FromKernelGid(uint32_t kgid) const;

  // Whether the kernel id has a name here.
  bool MapsUid(uint32_t kuid) const;
  bool MapsGid(uint32_t kgid) const;

  // False if a map was already set (EPERM for the writer).
  bool SetUidMap(std::vector<IdExtent> map);
  bool SetGidMap(std::vector<IdExtent> map);
  std::vector<IdExtent> uid_map() const;
  std::vector<IdExtent> gid_map() const;
  // Both: what ids are shown as here does not change any more.
  bool maps_are_set() const {
    MutexLock lock(mu_);
    return !uid_map_.empty() && !gid_map_.empty();
  }
  bool setgroups_allowed() const;
  void DenySetgroups();

 private:
  const RefPtr<UserNamespace> parent_;
  const uint32_t owner_uid_;
  const uint32_t owner_gid_;
  const int level_;
  const uint64_t inode_number_;
  mutable Mutex mu_;
  std::vector<IdExtent> uid_map_ ABSL_GUARDED_BY(mu_);
  std::vector<IdExtent> gid_map_ ABSL_GUARDED_BY(mu_);
  bool setgroups_allowed_ ABSL_GUARDED_BY(mu_) = true;
};

}  // namespace caisson::auth

#endif  // CAISSON_AUTH_USER_NAMESPACE_H_
