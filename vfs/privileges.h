// What a change of a file's data takes away from it.
#ifndef CAISSON_VFS_PRIVILEGES_H_
#define CAISSON_VFS_PRIVILEGES_H_

#include "base/result.h"
#include "vfs/inode.h"

namespace caisson::vfs {

// Clears set-id bits and security.capability before data changes (Linux file_remove_privs()).
// Costs nothing for a caller with CAP_FSETID and files without capabilities.
Result<void> RemovePrivileges(CallContext& ctx, Inode& inode);

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_PRIVILEGES_H_
