// Permission rules of Linux fs/namei.c, fs/attr.c: pure functions of credentials and attributes.
#ifndef CAISSON_VFS_PERMISSION_H_
#define CAISSON_VFS_PERMISSION_H_

#include "auth/credentials.h"
#include "base/result.h"
#include "vfs/types.h"

namespace caisson::vfs {

// generic_permission(): mode bits, then CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH. EACCES.
Result<void> CheckAccess(const auth::Credentials& creds, const Attributes& attr, AccessMask access);
// The same from what of the attributes it needs; `mode` with the type.
Result<void> CheckAccess(const auth::Credentials& creds, FileMode mode, uint32_t uid, uint32_t gid,
                         AccessMask access);
// inode_owner_or_capable().
bool IsOwnerOrCapable(const auth::Credentials& creds, const Attributes& attr);
// check_sticky(): may `creds` remove `victim` from `directory`? EPERM.
Result<void> CheckSticky(const auth::Credentials& creds, const Attributes& directory,
                         const Attributes& victim);
// inode_init_owner(): owner of a new inode; `mode` loses or gains set-group-id as Linux does.
struct NewOwner {
  uint32_t uid;
  uint32_t gid;
  FileMode mode;
};
NewOwner OwnerFor(const auth::Credentials& creds, const Attributes& directory, FileMode mode);
// setattr_prepare() for chown and chmod: EPERM, and the mode with set-id bits dropped.
Result<void> PrepareSetAttributes(const auth::Credentials& creds, const Attributes& attr,
                                  SetAttributes& change);

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_PERMISSION_H_
