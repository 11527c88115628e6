// Namespaces as files: /proc/PID/ns/*, and what setns(2) takes (namespaces(7), ioctl_ns(2)).
#ifndef CAISSON_SENTRY_KERNEL_NAMESPACE_FILE_H_
#define CAISSON_SENTRY_KERNEL_NAMESPACE_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "auth/user_namespace.h"
#include "sentry/kernel/clone_flags.h"
#include "sentry/kernel/task.h"
#include "vfs/file_description.h"

namespace caisson::kernel {

// One namespace of any kind: the pointer that `type` names is set.
struct NamespaceRef {
  uint64_t type = 0;  // CLONE_NEW*.
  RefPtr<vfs::MountNamespace> mount;
  RefPtr<UtsNamespace> uts;
  RefPtr<ipc::IpcNamespace> ipc;
  RefPtr<netstack::NetNamespace> net;
  RefPtr<PidNamespace> pid;
  RefPtr<auth::UserNamespace> user;
  RefPtr<CgroupNamespace> cgroup;
  RefPtr<TimeNamespace> time;
  RefPtr<auth::UserNamespace> mount_or_net_owner;  // Of `mount` or `net`.

  NamespaceRef();
  NamespaceRef(const NamespaceRef&);
  ~NamespaceRef();
  uint64_t inode_number() const;
  const char* type_name() const;  // "mnt", "uts", as in the link's text.
  std::string Text() const;       // "uts:[4026531838]".
};

// The namespace of kind `type` that the task is in, or that its children will be in (CLONE_NEWPID,
// CLONE_NEWTIME). Errors: ENOENT for a task that has left it.
Result<NamespaceRef> NamespaceOf(Task& task, uint64_t type, bool for_children);

// setns(2): the caller enters all of `wanted`, or none. Errors: EPERM, EINVAL, EUSERS.
Result<void> EnterNamespaces(Task& task, const std::vector<NamespaceRef>& wanted);

// An open namespace. Immutable.
class NamespaceFile final : public vfs::FileDescription {
 public:
  NamespaceFile(const vfs::OpenArgs& args, RefPtr<vfs::Inode> inode, const NamespaceRef& ns)
      : FileDescription(vfs::FileKind::kNamespace, args.path, std::move(inode), args.flags),
        ns_(ns) {}
  const NamespaceRef& ns() const { return ns_; }
  // NS_GET_USERNS, NS_GET_PARENT, NS_GET_NSTYPE, NS_GET_OWNER_UID.
  Result<int64_t> Ioctl(vfs::CallContext& ctx, uint32_t request, uint64_t arg) override;

 private:
  const NamespaceRef ns_;
};

// Null unless `file` is a NamespaceFile.
inline NamespaceFile* AsNamespace(vfs::FileDescription& file) {
  return file.kind() == vfs::FileKind::kNamespace ? static_cast<NamespaceFile*>(&file) : nullptr;
}

// "nsfs" and its mount. One for each kernel. Thread-safe.
class NamespaceFiles {
 public:
  NamespaceFiles();
  // Where a magic link to the namespace leads.
  vfs::VfsPath PathOf(const NamespaceRef& ns) const;

 private:
  const RefPtr<vfs::FileSystem> fs_;
  const RefPtr<vfs::Mount> mount_;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_NAMESPACE_FILE_H_
