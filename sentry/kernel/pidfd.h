// Descriptors that refer to a process (pidfd_open(2)).
#ifndef CAISSON_SENTRY_KERNEL_PIDFD_H_
#define CAISSON_SENTRY_KERNEL_PIDFD_H_

#include "sentry/kernel/pid.h"
#include "sentry/kernel/thread_group.h"
#include "vfs/file_description.h"

namespace caisson::kernel {

// Readable once the process has ended. Describes itself as "anon_inode:[pidfd]".
RefPtr<vfs::FileDescription> NewPidfd(RefPtr<Pid> pid, RefPtr<ThreadGroup> group, bool nonblock);
// The process behind a descriptor of kind kPidfd. Errors: EBADF for another kind.
Result<RefPtr<Pid>> PidOf(const vfs::FileDescription& file);

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_PIDFD_H_
