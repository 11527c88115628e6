// signalfd(2): signals of the reading task, as records.
#ifndef CAISSON_SENTRY_KERNEL_SIGNALFD_H_
#define CAISSON_SENTRY_KERNEL_SIGNALFD_H_

#include "sentry/kernel/task.h"
#include "vfs/file_description.h"

namespace caisson::kernel {

RefPtr<vfs::FileDescription> NewSignalfd(Task& task, signal::Set mask, uint32_t flags);
// Errors: EINVAL if `file` is no signalfd.
Result<void> SetSignalfdMask(vfs::FileDescription& file, signal::Set mask);

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_SIGNALFD_H_
