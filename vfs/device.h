// Which driver opens which device number.
#ifndef CAISSON_VFS_DEVICE_H_
#define CAISSON_VFS_DEVICE_H_

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "vfs/file_description.h"
#include "vfs/inode.h"

namespace caisson::vfs {

// The devices of one kernel. A mount namespace points to it (MountNamespace::set_devices), so
// that device nodes work on every file system. Thread-safe.
//
// Opening a device node asks the registry first; where no driver is registered the inode's own
// Open() decides (the slaves of devpts), whose answer for a bare node is ENXIO.
class DeviceRegistry {
 public:
  // Opens the device behind `inode`. Permission, O_PATH and nodev were handled.
  using Opener = std::function<Result<RefPtr<FileDescription>>(
      CallContext& ctx, const OpenArgs& args, Inode& inode, DeviceNumber rdev)>;
  enum class Type : uint8_t { kChar, kBlock };

  // Registers minors [first, first + count) of `major`. `name` is for /proc/devices. The last
  // registration of a number wins.
  void Register(Type type, uint32_t major, uint32_t first_minor, uint32_t count, std::string name,
                Opener opener);
  // Null if there is none.
  Opener Find(Type type, DeviceNumber rdev) const;
  struct Entry {
    Type type;
    uint32_t major, first_minor, count;
    std::string name;
  };
  std::vector<Entry> List() const;

 private:
  struct Driver {
    Entry entry;
    Opener opener;
  };
  mutable Mutex mu_;
  std::vector<Driver> drivers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_DEVICE_H_
