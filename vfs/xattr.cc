// Extended attributes (Linux fs/xattr.c).
#include "absl/strings/match.h"
#include "vfs/open_internal.h"
#include "vfs/operations.h"
#include "vfs/permission.h"
#include "vfs/watches.h"

namespace caisson::vfs {
namespace {

using auth::Capability;

constexpr size_t kXattrSizeMax = 65536;
constexpr size_t kXattrListMax = 65536;

// xattr_permission(), and the capabilities that security.* needs (cap_inode_setxattr()).
Result<void> CheckName(CallContext& ctx, Inode& inode, absl::string_view name, bool write) {
  if (name.empty() || name.size() > kNameMax) return Errno::kERANGE;
  const auth::Credentials& creds = ctx.creds();
  if (absl::StartsWith(name, "security.")) {
    if (!write) return {};
    Capability needed =
        name == "security.capability" ? Capability::kSetfcap : Capability::kSysAdmin;
    // Linux differs: what a nested user namespace sets would be a namespaced attribute there. Unchecked it
    // would be one of the root namespace's, and give a program of its owner's every capability.
    if (!creds.HasRootCapability(needed)) return Errno::kEPERM;
    return {};
  }
  if (absl::StartsWith(name, "system.")) return {};
  if (absl::StartsWith(name, "trusted.")) {
    if (creds.HasRootCapability(Capability::kSysAdmin)) return {};
    return write ? Errno::kEPERM : Errno::kENODATA;
  }
  if (absl::StartsWith(name, "user.")) {
    if (!inode.is_regular() && !inode.is_directory())
      return write ? Errno::kEPERM : Errno::kENODATA;
    if (inode.is_directory() && write) {
      Attributes attr = TRY(inode.GetAttributes(ctx));
      if ((attr.mode & kModeSticky) != 0 && !IsOwnerOrCapable(creds, attr)) return Errno::kEPERM;
    }
    return MayAccess(ctx, inode, write ? kMayWrite : kMayRead);
  }
  return Errno::kEOPNOTSUPP;
}

Result<RefPtr<Inode>> InodeOf(const VfsPath& path) {
  if (!path || path.dentry->is_negative()) return Errno::kENOENT;
  return path.dentry->inode();
}

}  // namespace

Result<std::string> GetXattr(CallContext& ctx, const VfsPath& path, absl::string_view name) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  TRY(CheckName(ctx, *inode, name, false));
  return inode->GetXattr(ctx, name);
}

Result<void> SetXattr(CallContext& ctx, const VfsPath& path, absl::string_view name,
                      absl::string_view value, int flags) {
  if ((flags & ~(kXattrCreate | kXattrReplace)) != 0) return Errno::kEINVAL;
  if (value.size() > kXattrSizeMax) return Errno::kE2BIG;
  RefPtr<Inode> inode = TRY(InodeOf(path));
  MountWrite write;
  TRY(write.Begin(path.mount));
  TRY(CheckName(ctx, *inode, name, true));
  TRY(inode->SetXattr(ctx, name, value, flags));
  NotifyWatches(*path.dentry, kInAttrib);
  return {};
}

Result<std::vector<std::string>> ListXattr(CallContext& ctx, const VfsPath& path) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  std::vector<std::string> names = TRY(inode->ListXattr(ctx));
  const bool trusted = ctx.creds().HasRootCapability(Capability::kSysAdmin);
  std::vector<std::string> shown;
  size_t bytes = 0;
  for (std::string& name : names) {
    if (!trusted && absl::StartsWith(name, "trusted.")) continue;
    bytes += name.size() + 1;
    if (bytes > kXattrListMax) return Errno::kE2BIG;
    shown.push_back(std::move(name));
  }
  return shown;
}

Result<void> RemoveXattr(CallContext& ctx, const VfsPath& path, absl::string_view name) {
  RefPtr<Inode> inode = TRY(InodeOf(path));
  MountWrite write;
  TRY(write.Begin(path.mount));
  TRY(CheckName(ctx, *inode, name, true));
  TRY(inode->RemoveXattr(ctx, name));
  NotifyWatches(*path.dentry, kInAttrib);
  return {};
}

}  // namespace caisson::vfs
