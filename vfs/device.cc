#include "vfs/device.h"

namespace caisson::vfs {

void DeviceRegistry::Register(Type type, uint32_t major, uint32_t first_minor, uint32_t count,
                              std::string name, Opener opener) {
  MutexLock lock(mu_);
  drivers_.push_back({{type, major, first_minor, count, std::move(name)}, std::move(opener)});
}

DeviceRegistry::Opener DeviceRegistry::Find(Type type, DeviceNumber rdev) const {
  MutexLock lock(mu_);
  for (auto it = drivers_.rbegin(); it != drivers_.rend(); ++it) {
    const Entry& e = it->entry;
    if (e.type == type && e.major == rdev.major && rdev.minor >= e.first_minor &&
        rdev.minor - e.first_minor < e.count)
      return it->opener;
  }
  return nullptr;
}

std::vector<DeviceRegistry::Entry> DeviceRegistry::List() const {
  MutexLock lock(mu_);
  std::vector<Entry> list;
  for (const Driver& d : drivers_) list.push_back(d.entry);
  return list;
}

}  // namespace caisson::vfs
