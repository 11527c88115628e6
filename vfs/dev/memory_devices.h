// /dev/null, zero, full, random and urandom (null(4), full(4), random(4)).
#ifndef CAISSON_VFS_DEV_MEMORY_DEVICES_H_
#define CAISSON_VFS_DEV_MEMORY_DEVICES_H_

#include "vfs/device.h"
#include "vfs/tmpfs/memfd.h"

namespace caisson::vfs::dev {

// Registers minors 3, 5, 7, 8 and 9 of major 1. `files` makes what shared mappings of /dev/zero
// map, and outlives the registry.
void RegisterMemoryDevices(DeviceRegistry& registry, tmpfs::AnonymousFiles& files);

}  // namespace caisson::vfs::dev

#endif  // CAISSON_VFS_DEV_MEMORY_DEVICES_H_
