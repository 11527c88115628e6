// inotify(7).
#include "syscalls/handlers.h"
#include "vfs/inotify/inotify.h"
#include "vfs/operations.h"

namespace caisson::syscalls {

SyscallResult InotifyInit1(Task& task, Flags flags) {
  if ((flags.value & ~(vfs::kOpenNonblock | vfs::kOpenCloexec)) != 0) return Errno::kEINVAL;
  return InstallFile(task, TRY(vfs::inotify::Inotify::New(task, flags.value & vfs::kOpenNonblock)),
                     (flags.value & vfs::kOpenCloexec) != 0);
}
SyscallResult InotifyInit(Task& task) { return InotifyInit1(task, Flags{0}); }

SyscallResult InotifyAddWatch(Task& task, Fd fd, PathPtr path_ptr, Flags mask) {
  constexpr uint32_t kOnlydir = 0x01000000, kDontFollow = 0x02000000;
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() != vfs::FileKind::kInotify) return Errno::kEINVAL;
  std::string path = TRY(path_ptr.Read(task));
  vfs::WalkOptions options;
  options.follow_last = (mask.value & kDontFollow) == 0;
  options.must_be_directory = (mask.value & kOnlydir) != 0;
  vfs::VfsPath at = TRY(vfs::Walk(task, TRY(StartOf(task, Fd{kAtFdcwd}, path)), path, options));
  return int64_t{TRY(static_cast<vfs::inotify::Inotify&>(*file).AddWatch(task, at, mask.value))};
}

SyscallResult InotifyRmWatch(Task& task, Fd fd, int32_t wd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() != vfs::FileKind::kInotify) return Errno::kEINVAL;
  TRY(static_cast<vfs::inotify::Inotify&>(*file).RemoveWatch(wd));
  return 0;
}

}  // namespace caisson::syscalls
