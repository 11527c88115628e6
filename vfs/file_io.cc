// Reads and writes with what Linux fs/read_write.c and mm/filemap.c do around them.
#include "vfs/operations.h"
#include "vfs/permission.h"
#include "vfs/privileges.h"
#include "vfs/watches.h"

namespace caisson::vfs {
namespace {

constexpr size_t kMaxTransfer = 0x7ffff000;  // MAX_RW_COUNT.

Result<void> PrepareWrite(CallContext& ctx, FileDescription& file, IoBuffer& from) {
  if (!file.writable()) return Errno::kEBADF;
  from.Truncate(kMaxTransfer);
  if (file.kind() == FileKind::kRegular && file.inode() != nullptr && from.remaining() != 0)
    TRY(RemovePrivileges(ctx, *file.inode()));
  return {};
}

Result<size_t> Wrote(FileDescription& file, Result<size_t> n) {
  if (n.ok() && *n != 0) NotifyFileWatches(file, kInModify);
  return n;
}

Result<size_t> DidRead(FileDescription& file, Result<size_t> n) {
  if (n.ok() && *n != 0) NotifyFileWatches(file, kInAccess);
  return n;
}

}  // namespace

Result<void> RemovePrivileges(CallContext& ctx, Inode& inode) {
  if (!inode.is_regular()) return {};
  if (inode.MayHaveFileCapabilities()) {
    Result<void> removed = inode.RemoveXattr(ctx, "security.capability");
    if (!removed.ok() && removed.error() != Errno::kENODATA &&
        removed.error() != Errno::kEOPNOTSUPP)
      return removed;
  }
  if (ctx.creds().HasRootCapability(auth::Capability::kFsetid)) return {};
  Attributes attr = TRY(inode.GetAttributes(ctx));
  FileMode mode = attr.mode & kModePermissions;
  FileMode kept = mode & ~kModeSetuid;
  if ((mode & 0010) != 0 || !ctx.creds().InGroup(attr.gid)) kept &= ~kModeSetgid;
  if (kept == mode) return {};
  SetAttributes change;
  change.mode = kept;
  return inode.SetAttributes(ctx, change);
}

Result<size_t> FileRead(CallContext& ctx, FileDescription& file, IoBuffer& to, uint32_t rwf) {
  if (!file.readable()) return Errno::kEBADF;
  to.Truncate(kMaxTransfer);
  return DidRead(file, file.Read(ctx, to, rwf));
}

Result<size_t> FileWrite(CallContext& ctx, FileDescription& file, IoBuffer& from, uint32_t rwf) {
  TRY(PrepareWrite(ctx, file, from));
  return Wrote(file, file.Write(ctx, from, rwf));
}

Result<size_t> FilePRead(CallContext& ctx, FileDescription& file, IoBuffer& to, uint64_t offset,
                         uint32_t rwf) {
  if (offset > INT64_MAX) return Errno::kEINVAL;
  if (!file.readable()) return Errno::kEBADF;
  to.Truncate(kMaxTransfer);
  if (to.remaining() > INT64_MAX - offset) to.Truncate(INT64_MAX - offset);
  return DidRead(file, file.PRead(ctx, to, offset, rwf));
}

Result<size_t> FilePWrite(CallContext& ctx, FileDescription& file, IoBuffer& from, uint64_t offset,
                          uint32_t rwf) {
  if (offset > INT64_MAX) return Errno::kEINVAL;
  TRY(PrepareWrite(ctx, file, from));
  if (file.kind() == FileKind::kRegular) {
    // O_APPEND wins over the offset (pwrite(2), BUGS).
    if ((file.flags() & kOpenAppend) != 0 || (rwf & kRwfAppend) != 0)
      return Wrote(file, file.PAppend(ctx, from, rwf));
    TRY(LimitWrite(ctx, offset, from));
  }
  if (from.remaining() > INT64_MAX - offset) from.Truncate(INT64_MAX - offset);
  return Wrote(file, file.PWrite(ctx, from, offset, rwf));
}

}  // namespace caisson::vfs
