// Memory with a file description but without a name: memfd_create(2), shared anonymous mappings,
// System V segments.
#ifndef CAISSON_VFS_TMPFS_MEMFD_H_
#define CAISSON_VFS_TMPFS_MEMFD_H_

#include "absl/strings/string_view.h"
#include "vfs/file_description.h"
#include "vfs/mount.h"
#include "vfs/tmpfs/filesystem.h"

namespace caisson::vfs::tmpfs {

// MFD_* of memfd_create(2).
inline constexpr uint32_t kMfdCloexec = 1, kMfdAllowSealing = 2, kMfdHugetlb = 4,
                          kMfdNoexecSeal = 8, kMfdExec = 16;

// A kernel's mount for such files (Linux shm_mnt). One for each kernel; thread-safe.
class AnonymousFiles {
 public:
  explicit AnonymousFiles(RefPtr<MemoryAccount> account = nullptr);

  // memfd_create(2); close-on-exec is the caller's. Errors: EINVAL for flags or a name past 249
  // bytes.
  Result<RefPtr<FileDescription>> NewMemfd(CallContext& ctx, absl::string_view name,
                                           uint32_t flags);
  // What MAP_SHARED | MAP_ANONYMOUS maps: Map() of it gives the memfd. Shown as
  // "/dev/zero (deleted)".
  Result<RefPtr<FileDescription>> NewSharedAnonymous(CallContext& ctx, uint64_t size);
  // The same with a name of its own, as /proc/PID/maps shows it ("/SYSV00000000 (deleted)").
  Result<RefPtr<FileDescription>> NewFile(CallContext& ctx, absl::string_view shown_name,
                                          uint64_t size, FileMode mode, uint32_t seals);

 private:
  RefPtr<TmpfsFileSystem> fs_;
  RefPtr<Mount> mount_;
};

// fcntl(2) F_ADD_SEALS and F_GET_SEALS. Errors: EPERM, EINVAL, EBUSY.
Result<void> AddSeals(FileDescription& file, uint32_t seals);
Result<uint32_t> GetSeals(FileDescription& file);

}  // namespace caisson::vfs::tmpfs

#endif  // CAISSON_VFS_TMPFS_MEMFD_H_
