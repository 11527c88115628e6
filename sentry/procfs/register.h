// Makes procfs and sysfs known to a kernel.
#ifndef CAISSON_SENTRY_PROCFS_REGISTER_H_
#define CAISSON_SENTRY_PROCFS_REGISTER_H_

#include "sentry/kernel/kernel.h"

namespace caisson::procfs {

// Registers the file system types "proc" and "sysfs". Once, at boot, before the first mount. Each
// mount of proc shows the pid namespace of who mounts it (the kernel: the root's).
// mount(2) options: of proc(5) only hidepid=0. Errors: EINVAL for others.
void RegisterProcAndSys(kernel::Kernel& kernel);

// The process that an open directory /proc/PID stands for, as pidfd_send_signal(2) takes it.
// Errors: EBADF for every other file.
Result<RefPtr<kernel::Pid>> ProcessOfDirectory(const vfs::FileDescription& file);

// A proc that shows `pid_ns`: what boot mounts for a container, which has no task yet.
Result<RefPtr<vfs::FileSystem>> NewProcFileSystem(kernel::Kernel& kernel,
                                                  RefPtr<kernel::PidNamespace> pid_ns,
                                                  absl::string_view options);

}  // namespace caisson::procfs

#endif  // CAISSON_SENTRY_PROCFS_REGISTER_H_
