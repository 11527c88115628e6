#include "vfs/permission.h"

namespace caisson::vfs {
namespace {

using auth::Capability;

// capable_wrt_inode_uidgid(): effective in the user namespace, and the owner has a name there.
bool HasCapabilityOver(const auth::Credentials& creds, uint32_t uid, uint32_t gid,
                       Capability cap) {
  if (!creds.HasCapability(cap)) return false;
  const auth::UserNamespace& ns = *creds.user_ns;
  return ns.parent() == nullptr || (ns.MapsUid(uid) && ns.MapsGid(gid));
}
bool HasCapabilityOver(const auth::Credentials& creds, const Attributes& attr, Capability cap) {
  return HasCapabilityOver(creds, attr.uid, attr.gid, cap);
}

bool InGroupOrCapable(const auth::Credentials& creds, const Attributes& attr, uint32_t gid) {
  return creds.InGroup(gid) || HasCapabilityOver(creds, attr, Capability::kFsetid);
}

}  // namespace

Result<void> CheckAccess(const auth::Credentials& creds, const Attributes& attr,
                         AccessMask access) {
  return CheckAccess(creds, attr.mode, attr.uid, attr.gid, access);
}

Result<void> CheckAccess(const auth::Credentials& creds, FileMode mode, uint32_t uid, uint32_t gid,
                         AccessMask access) {
  FileMode bits = mode;
  if (creds.fsuid == uid) {
    bits >>= 6;
  } else if (((bits >> 3) ^ bits) & 7 && creds.InGroup(gid)) {
    bits >>= 3;
  }
  access &= kMayExec | kMayWrite | kMayRead;
  if ((access & ~bits) == 0) return {};
  auto capable = [&](Capability cap) { return HasCapabilityOver(creds, uid, gid, cap); };
  if ((mode & kModeType) == kModeDirectory) {
    if ((access & kMayWrite) == 0 && capable(Capability::kDacReadSearch)) return {};
    if (capable(Capability::kDacOverride)) return {};
    return Errno::kEACCES;
  }
  if (access == kMayRead && capable(Capability::kDacReadSearch)) return {};
  if (((access & kMayExec) == 0 || (mode & 0111) != 0) && capable(Capability::kDacOverride))
    return {};
  return Errno::kEACCES;
}

// inode_owner_or_capable(): here the group needs no name.
bool IsOwnerOrCapable(const auth::Credentials& creds, const Attributes& attr) {
  return creds.fsuid == attr.uid ||
         (creds.HasCapability(Capability::kFowner) && creds.user_ns->MapsUid(attr.uid));
}

Result<void> CheckSticky(const auth::Credentials& creds, const Attributes& directory,
                         const Attributes& victim) {
  if ((directory.mode & kModeSticky) == 0 || creds.fsuid == victim.uid ||
      creds.fsuid == directory.uid || HasCapabilityOver(creds, victim, Capability::kFowner))
    return {};
  return Errno::kEPERM;
}

NewOwner OwnerFor(const auth::Credentials& creds, const Attributes& directory, FileMode mode) {
  NewOwner owner{creds.fsuid, creds.fsgid, mode};
  if ((directory.mode & kModeSetgid) == 0) return owner;
  owner.gid = directory.gid;
  if ((mode & kModeType) == kModeDirectory) {
    owner.mode |= kModeSetgid;
  } else if ((mode & (kModeSetgid | 0010)) == (kModeSetgid | 0010) &&
             !InGroupOrCapable(creds, directory, directory.gid)) {
    owner.mode &= ~kModeSetgid;
  }
  return owner;
}

Result<void> PrepareSetAttributes(const auth::Credentials& creds, const Attributes& attr,
                                  SetAttributes& change) {
  const bool owner = creds.fsuid == attr.uid;
  const bool may_chown = HasCapabilityOver(creds, attr, Capability::kChown);
  if (change.uid && !(owner && *change.uid == attr.uid) && !may_chown) return Errno::kEPERM;
  if (change.gid &&
      !(owner && (creds.InGroup(*change.gid) || *change.gid == attr.gid)) && !may_chown)
    return Errno::kEPERM;
  if (change.mode) {
    if (!IsOwnerOrCapable(creds, attr)) return Errno::kEPERM;
    *change.mode &= kModePermissions;
    if ((*change.mode & kModeSetgid) != 0 &&
        !InGroupOrCapable(creds, attr, change.gid.value_or(attr.gid)))
      *change.mode &= ~kModeSetgid;
  }
  if ((change.atime && !change.atime->now) || (change.mtime && !change.mtime->now)) {
    if (!IsOwnerOrCapable(creds, attr)) return Errno::kEPERM;
  }
  // chown drops set-id bits, also for root (Linux chown_common(), setattr_should_drop_sgid()).
  if ((change.uid || change.gid) && !change.mode && !attr.is_directory()) {
    FileMode mode = attr.mode & kModePermissions & ~kModeSetuid;
    if ((mode & 0010) != 0 || !InGroupOrCapable(creds, attr, attr.gid)) mode &= ~kModeSetgid;
    if (mode != (attr.mode & kModePermissions)) change.mode = mode;
  }
  return {};
}

}  // namespace caisson::vfs
