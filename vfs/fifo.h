// FIFOs on any file system: opening one goes to the pipe implementation (vfs/pipe).
#ifndef CAISSON_VFS_FIFO_H_
#define CAISSON_VFS_FIFO_H_

#include "base/result.h"
#include "vfs/file_description.h"
#include "vfs/inode.h"

namespace caisson::vfs {

// Opens an S_IFIFO inode as fifo(7) says, waiting with ctx.Block() for the other end unless
// O_NONBLOCK. The pipe is kept in inode.bound_object(). Permission was checked. Implemented by
// vfs/pipe. Errors: ENXIO (write-only, non-blocking, no reader), Block()'s.
Result<RefPtr<FileDescription>> OpenFifo(CallContext& ctx, const OpenArgs& args, Inode& inode);

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_FIFO_H_
