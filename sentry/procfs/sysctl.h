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

// --- Values of namespaces (sysctl_namespaced.cc): those of the caller's. ---
// Which one; a row of /proc/sys and a name of config.json each.
enum class Namespaced : uint8_t {
  kShmmax, kShmall, kShmmni, kMsgmax, kMsgmnb, kMsgmni, kSem, kQueuesMax, kMqMsgMax, kMqMsgDefault,
  kMqMsgsizeMax, kMqMsgsizeDefault, kSomaxconn, kMaxDgramQlen, kPortStart, kPingGroups, kPorts,
};
Result<std::string> ReadNamespaced(CallContext& ctx, Namespaced which);
Result<void> WriteNamespaced(CallContext& ctx, Namespaced which, absl::string_view data, uint64_t offset);
template <Namespaced kWhich>
Result<std::string> ReadNamespacedRow(CallContext& ctx, KernelObject&) {
  return ReadNamespaced(ctx, kWhich);
}
template <Namespaced kWhich>
Result<void> WriteNamespacedRow(CallContext& ctx, KernelObject&, absl::string_view data, uint64_t offset) {
  return WriteNamespaced(ctx, kWhich, data, offset);
}
template <Namespaced kWhich>
constexpr Entry NamespacedValue(absl::string_view name) {
  return Sysctl<ReadNamespacedRow<kWhich>, WriteNamespacedRow<kWhich>>(name);
}
// linux.sysctl of config.json. Errors: ENOENT for a name that is no namespace's here, EINVAL.
Result<void> SetNamespacedSysctl(const kernel::NamespaceSet& set, absl::string_view name, absl::string_view value);

}  // namespace caisson::procfs

#endif  // CAISSON_SENTRY_PROCFS_SYSCTL_H_
