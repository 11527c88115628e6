// What system calls on paths do: each walks, checks as Linux fs/namei.c does, and calls one inode
// operation. Paths are as copied from the guest, without the terminating NUL.
#ifndef CAISSON_VFS_OPERATIONS_H_
#define CAISSON_VFS_OPERATIONS_H_

#include <string>

#include "absl/strings/string_view.h"
#include "vfs/file_description.h"
#include "vfs/mount.h"

namespace caisson::vfs {

// How a walk treats what it meets; RESOLVE_* of openat2(2) where the names match.
struct WalkOptions {
  bool follow_last = true;         // A symbolic link as the last component.
  bool must_be_directory = false;  // O_DIRECTORY.
  bool allow_empty = false;        // AT_EMPTY_PATH: "" is the start itself.
  bool no_xdev = false;
  bool no_magic_links = false;
  bool no_symlinks = false;
  bool beneath = false;
  bool in_root = false;
  bool no_automount = true;
};

// Where relative paths start: the caller's cwd, or the directory behind a descriptor.
using StartAt = VfsPath;

// Resolves `path`. Errors: ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EXDEV, and the file
// system's.
Result<VfsPath> Walk(CallContext& ctx, const StartAt& start, absl::string_view path,
                     const WalkOptions& options);

// Resolves all but the last component, which is returned in *last ("" if the path is "/" or ends
// in "." or "..", in which case the result is the object itself). *trailing_slash says whether the
// path ended in '/'.
Result<VfsPath> WalkParent(CallContext& ctx, const StartAt& start, absl::string_view path,
                           const WalkOptions& options, std::string* last, bool* trailing_slash);

// open(2), with O_CREAT, O_EXCL, O_TRUNC, O_TMPFILE, O_PATH, O_NOFOLLOW, O_DIRECTORY. `mode` is
// the guest's, umask not yet applied.
Result<RefPtr<FileDescription>> Open(CallContext& ctx, const StartAt& start, absl::string_view path,
                                     uint32_t flags, FileMode mode, WalkOptions options = {});
// Opens what a path leads to already (execve, /proc/PID/fd/N, O_PATH re-open).
Result<RefPtr<FileDescription>> OpenPath(CallContext& ctx, const VfsPath& path, uint32_t flags);
// As OpenPath for execution: EACCES unless a regular file with x permission on a mount without
// noexec; denies writes (undone by AllowWrites of the inode by the caller).
Result<RefPtr<FileDescription>> OpenForExec(CallContext& ctx, const StartAt& start,
                                            absl::string_view path, WalkOptions options);

Result<void> Mkdir(CallContext& ctx, const StartAt& start, absl::string_view path, FileMode mode);
Result<void> Mknod(CallContext& ctx, const StartAt& start, absl::string_view path, FileMode mode,
                   DeviceNumber rdev);
// Makes a socket node for bind(2) and returns its place. Errors: EADDRINUSE where it exists.
Result<VfsPath> BindSocket(CallContext& ctx, absl::string_view path, FileMode mode,
                           RefPtr<FileDescription> socket);
Result<void> Symlink(CallContext& ctx, const StartAt& start, absl::string_view path,
                     absl::string_view target);
Result<void> Link(CallContext& ctx, const VfsPath& source, const StartAt& start,
                  absl::string_view path);
Result<void> Unlink(CallContext& ctx, const StartAt& start, absl::string_view path);
Result<void> Rmdir(CallContext& ctx, const StartAt& start, absl::string_view path);
Result<void> Rename(CallContext& ctx, const StartAt& old_start, absl::string_view old_path,
                    const StartAt& new_start, absl::string_view new_path, uint32_t flags);

// On what a path leads to.
Result<Attributes> Stat(CallContext& ctx, const VfsPath& path);
Result<std::string> ReadLink(CallContext& ctx, const VfsPath& path);
// access(2): with `creds_real` the caller passes a context with real ids.
Result<void> Access(CallContext& ctx, const VfsPath& path, AccessMask mask);
Result<void> Chmod(CallContext& ctx, const VfsPath& path, FileMode mode);
Result<void> Chown(CallContext& ctx, const VfsPath& path, std::optional<uint32_t> uid,
                   std::optional<uint32_t> gid);
// Both null: now. An entry without a value is left alone (UTIME_OMIT).
Result<void> SetTimes(CallContext& ctx, const VfsPath& path,
                      const std::optional<SetAttributes::Time>& atime,
                      const std::optional<SetAttributes::Time>& mtime, bool both_now);
Result<void> Truncate(CallContext& ctx, const VfsPath& path, uint64_t size);
Result<std::string> GetXattr(CallContext& ctx, const VfsPath& path, absl::string_view name);
Result<void> SetXattr(CallContext& ctx, const VfsPath& path, absl::string_view name,
                      absl::string_view value, int flags);
Result<std::vector<std::string>> ListXattr(CallContext& ctx, const VfsPath& path);
Result<void> RemoveXattr(CallContext& ctx, const VfsPath& path, absl::string_view name);

// The same on open files (fchmod and so on).
Result<void> FileChmod(CallContext& ctx, FileDescription& file, FileMode mode);
Result<void> FileChown(CallContext& ctx, FileDescription& file, std::optional<uint32_t> uid,
                       std::optional<uint32_t> gid);
Result<void> FileTruncate(CallContext& ctx, FileDescription& file, uint64_t size);
// Called after data was written or read: clears set-id bits, inotify, RLIMIT_FSIZE with SIGXFSZ
// are applied in these; the system call layer reads and writes through them only.
Result<size_t> FileRead(CallContext& ctx, FileDescription& file, IoBuffer& to, uint32_t rwf);
Result<size_t> FileWrite(CallContext& ctx, FileDescription& file, IoBuffer& from, uint32_t rwf);
Result<size_t> FilePRead(CallContext& ctx, FileDescription& file, IoBuffer& to, uint64_t offset,
                         uint32_t rwf);
Result<size_t> FilePWrite(CallContext& ctx, FileDescription& file, IoBuffer& from, uint64_t offset,
                          uint32_t rwf);

// The absolute path of `path` as seen from `root` (from the top of its mounts if outside), with " (deleted)"
// after an unlinked name (Linux fs/d_path.c).
std::string PathName(const VfsPath& path, const VfsPath& root);
// getcwd(2): "(unreachable)/x" if outside of `root`. Errors: ENOENT if deleted.
Result<std::string> CwdName(const VfsPath& cwd, const VfsPath& root);

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_OPERATIONS_H_
