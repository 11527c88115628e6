#include "sentry/kernel/filesystems.h"

#include "absl/strings/str_cat.h"
#include "sentry/kernel/kernel.h"

namespace caisson::kernel {

Result<RefPtr<vfs::FileSystem>> NewFileSystem(Task& task, absl::string_view name, absl::string_view source,
                                              absl::string_view options) {
  const FileSystemTypes::Type* type = task.kernel().file_system_types().Find(name);
  if (type == nullptr) {
    task.kernel().NoteUnsupported(absl::StrCat("mount: file system type ", std::string(name)));
    return Errno::kENODEV;
  }
  if (task.creds().user_ns->parent() != nullptr && !type->in_user_namespace) return Errno::kEPERM;
  return type->make(task, source, options);
}

}  // namespace caisson::kernel
