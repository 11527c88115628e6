// Credentials: immutable objects that a task points to (credentials(7)).
#ifndef CAISSON_AUTH_CREDENTIALS_H_
#define CAISSON_AUTH_CREDENTIALS_H_

#include <cstdint>
#include <vector>

#include "auth/capability.h"
#include "auth/user_namespace.h"
#include "base/ref.h"

namespace caisson::auth {

// securebits of capabilities(7) / prctl(2) PR_SET_SECUREBITS.
inline constexpr uint32_t kSecNoRoot = 1 << 0;
inline constexpr uint32_t kSecNoRootLocked = 1 << 1;
inline constexpr uint32_t kSecNoSetuidFixup = 1 << 2;
inline constexpr uint32_t kSecNoSetuidFixupLocked = 1 << 3;
inline constexpr uint32_t kSecKeepCaps = 1 << 4;
inline constexpr uint32_t kSecKeepCapsLocked = 1 << 5;
inline constexpr uint32_t kSecNoCapAmbientRaise = 1 << 6;
inline constexpr uint32_t kSecNoCapAmbientRaiseLocked = 1 << 7;

// Ids are kernel ids: those of the sandbox's root user namespace. A guest in a nested namespace
// sees them through its namespace's map.
using Kuid = uint32_t;
using Kgid = uint32_t;
inline constexpr uint32_t kOverflowId = 65534;
inline constexpr uint32_t kNoId = ~0u;

// Immutable once shared: a change makes a copy, alters it and swaps the task's pointer.
class Credentials : public RefCounted<Credentials> {
 public:
  explicit Credentials(RefPtr<UserNamespace> ns) : user_ns(std::move(ns)) {}
  Credentials(const Credentials& o);

  Kuid ruid = 0, euid = 0, suid = 0, fsuid = 0;
  Kgid rgid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<Kgid> groups;  // Sorted.
  CapSet permitted = 0, effective = 0, inheritable = 0, bounding = kAllCapabilities, ambient = 0;
  uint32_t securebits = 0;
  RefPtr<UserNamespace> user_ns;

  // True if `cap` is effective in the namespace `target` (Linux kernel/capability.c,
  // cap_capable(): in an ancestor's namespace, or as owner of a child's).
  bool HasCapability(Capability cap, const UserNamespace& target) const;
  // In the credentials' own user namespace.
  bool HasCapability(Capability cap) const { return HasCapability(cap, *user_ns); }
  // In the sandbox's root user namespace (init_user_ns).
  bool HasRootCapability(Capability cap) const;
  bool InGroup(Kgid gid) const;     // fsgid or a supplementary group.
  bool InGroupEffective(Kgid gid) const;  // egid or a supplementary group.
};

// Whether who had `old` may have come to know or to be able to do what others with the same ids may not look at:
// its memory is not dumpable from then on, and PR_SET_PDEATHSIG ends (Linux kernel/cred.c, commit_creds()).
bool EndsDumpability(const Credentials& old, const Credentials& next);

}  // namespace caisson::auth

#endif  // CAISSON_AUTH_CREDENTIALS_H_
