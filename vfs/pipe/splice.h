// splice(2) and tee(2): bytes through pipes without the guest's memory.
#ifndef CAISSON_VFS_PIPE_SPLICE_H_
#define CAISSON_VFS_PIPE_SPLICE_H_

#include <cstdint>

#include "base/result.h"
#include "vfs/file_description.h"

namespace caisson::vfs {

inline constexpr uint32_t kSpliceMove = 1;      // No effect, as with Linux today.
inline constexpr uint32_t kSpliceNonblock = 2;
inline constexpr uint32_t kSpliceMore = 4;
inline constexpr uint32_t kSpliceGift = 8;
inline constexpr uint32_t kSpliceAllFlags = 15;

// Moves up to `length` bytes; one side at least is a pipe. These wait by themselves with
// ctx.Block() unless SPLICE_F_NONBLOCK or the pipe's O_NONBLOCK says not to. An offset (may be
// null) is advanced by what was moved; a pipe has none (ESPIPE). The result is 0 at end of file.
// Errors: EBADF by access modes, EINVAL (no pipe, the same pipe twice, O_APPEND target, unknown
// flags), ESPIPE, EAGAIN, EPIPE (with SIGPIPE), and those of the other file.
Result<size_t> Splice(CallContext& ctx, FileDescription& in, uint64_t* in_offset,
                      FileDescription& out, uint64_t* out_offset, size_t length, uint32_t flags);
// Copies between two different pipes, consuming nothing. Errors: EINVAL, EBADF, EAGAIN, EPIPE.
Result<size_t> Tee(CallContext& ctx, FileDescription& in, FileDescription& out, size_t length,
                   uint32_t flags);
// vmsplice(2) is a Write() to or a Read() from the pipe with the guest's vector: Linux's gift of
// pages cannot be told from a copy, but by programs that change the pages after.

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_PIPE_SPLICE_H_
