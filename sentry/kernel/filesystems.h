// The file systems that mount(2) can make.
#ifndef CAISSON_SENTRY_KERNEL_FILESYSTEMS_H_
#define CAISSON_SENTRY_KERNEL_FILESYSTEMS_H_

#include <functional>
#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "base/result.h"
#include "vfs/inode.h"

namespace caisson::kernel {

class Task;

// Makers by type name, registered at boot before the first task runs; not changed after.
class FileSystemTypes {
 public:
  using Maker = std::function<Result<RefPtr<vfs::FileSystem>>(vfs::CallContext& ctx, absl::string_view source,
                                                             absl::string_view options)>;
  struct Type {
    Maker make;
    bool needs_device = false;     // Without "nodev" in /proc/filesystems.
    bool in_user_namespace = false;  // May be mounted in a nested user namespace.
  };
  void Register(std::string name, Type type) { types_[std::move(name)] = std::move(type); }
  const Type* Find(absl::string_view name) const {
    auto it = types_.find(std::string(name));
    return it == types_.end() ? nullptr : &it->second;
  }
  const std::map<std::string, Type>& all() const { return types_; }

 private:
  std::map<std::string, Type> types_;
};

// Errors: ENODEV for an unknown type; EPERM where a nested user namespace may not; the maker's.
Result<RefPtr<vfs::FileSystem>> NewFileSystem(Task& task, absl::string_view type, absl::string_view source,
                                              absl::string_view options);

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_FILESYSTEMS_H_
