// How rows of /proc/sys are made.
#ifndef CAISSON_SENTRY_PROCFS_SYSCTL_H_
#define CAISSON_SENTRY_PROCFS_SYSCTL_H_

#include "sentry/procfs/objects.h"

namespace caisson::procfs {

// sysctl_perm(): the owner's bits are root's, the group's are those of group 0; capabilities do
// not help. So a value that is fixed here is not writable, even to root.
Result<void> MaySysctl(CallContext& ctx, KernelObject& o, const vfs::Attributes& attr,
                       vfs::AccessMask access);

// A value that does not change: what it says is how this kernel behaves.
template <const char* kText>
constexpr Entry Value(absl::string_view name, vfs::FileMode permissions = 0444) {
  Entry e = File<Constant<kText>>(name, permissions);
  e.permission = Adapt<MaySysctl>::Call;
  return e;
}
template <auto Read>
constexpr Entry Sysctl(absl::string_view name, vfs::FileMode permissions = 0444) {
  Entry e = File<Read>(name, permissions);
  e.permission = Adapt<MaySysctl>::Call;
  return e;
}
template <auto Read, auto Write>
constexpr Entry Sysctl(absl::string_view name, vfs::FileMode permissions = 0644) {
  Entry e = File<Read, Write>(name, permissions);
  e.permission = Adapt<MaySysctl>::Call;
  return e;
}
constexpr Entry SysctlDir(absl::string_view name, const Directory& directory) {
  Entry e = Dir(name, directory);
  e.permission = Adapt<MaySysctl>::Call;
  return e;
}

// sysctl_kernel.cc
extern const Directory kSysctlKernelDirectory;

}  // namespace caisson::procfs

#endif  // CAISSON_SENTRY_PROCFS_SYSCTL_H_
