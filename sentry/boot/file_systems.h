// Registers the file systems and devices that a sandbox has.
#ifndef CAISSON_SENTRY_BOOT_FILE_SYSTEMS_H_
#define CAISSON_SENTRY_BOOT_FILE_SYSTEMS_H_

#include "sentry/kernel/kernel.h"

namespace caisson::boot {

// Before the first container.
void RegisterFileSystems(kernel::Kernel& kernel);

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_FILE_SYSTEMS_H_
