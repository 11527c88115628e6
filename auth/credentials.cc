#include "auth/credentials.h"

#include <algorithm>

namespace caisson::auth {

Credentials::Credentials(const Credentials& o)
    : RefCounted<Credentials>(),
      ruid(o.ruid), euid(o.euid), suid(o.suid), fsuid(o.fsuid),
      rgid(o.rgid), egid(o.egid), sgid(o.sgid), fsgid(o.fsgid),
      groups(o.groups),
      permitted(o.permitted), effective(o.effective), inheritable(o.inheritable),
      bounding(o.bounding), ambient(o.ambient),
      securebits(o.securebits),
      user_ns(o.user_ns) {}

bool Credentials::HasCapability(Capability cap, const UserNamespace& target) const {
  for (const UserNamespace* ns = &target; ns != nullptr; ns = ns->parent()) {
    if (ns == user_ns.get()) return (effective & CapBit(cap)) != 0;
    if (ns->level() <= user_ns->level()) return false;
    // The owner of a namespace, seen from its parent, has all capabilities in it.
    if (ns->parent() == user_ns.get() && ns->owner_uid() == euid) return true;
  }
  return false;
}

// cred_cap_issubset(): what one has in a namespace of one's own making is no gain.
static bool Gains(const Credentials& old, const Credentials& next) {
  if (old.user_ns == next.user_ns) return (next.permitted & ~old.permitted) != 0;
  for (const UserNamespace* ns = next.user_ns.get(); ns->parent() != nullptr; ns = ns->parent())
    if (ns->parent() == old.user_ns.get() && ns->owner_uid() == old.euid) return false;
  return true;
}

bool EndsDumpability(const Credentials& old, const Credentials& next) {
  return old.euid != next.euid || old.egid != next.egid || old.fsuid != next.fsuid ||
         old.fsgid != next.fsgid || Gains(old, next);
}

bool Credentials::HasRootCapability(Capability cap) const {
  return user_ns->parent() == nullptr && (effective & CapBit(cap)) != 0;
}

bool Credentials::InGroup(Kgid gid) const {
  return gid == fsgid || std::binary_search(groups.begin(), groups.end(), gid);
}

bool Credentials::InGroupEffective(Kgid gid) const {
  return gid == egid || std::binary_search(groups.begin(), groups.end(), gid);
}

}  // namespace caisson::auth
