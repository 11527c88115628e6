// Calls that name files: open, mkdir, link, rename, unlink and their -at forms.
#include "syscalls/handlers.h"
#include "vfs/operations.h"

namespace caisson::syscalls {
namespace {

constexpr uint32_t kAtSymlinkNofollow = 0x100, kAtRemovedir = 0x200, kAtSymlinkFollow = 0x400,
                   kAtEmptyPath = 0x1000;
constexpr uint32_t kKnownOpenFlags =
    vfs::kOpenAccessMode | vfs::kOpenCreate | vfs::kOpenExclusive | vfs::kOpenNoCtty |
    vfs::kOpenTruncate | vfs::kOpenAppend | vfs::kOpenNonblock | vfs::kOpenSync | vfs::kOpenAsync |
    vfs::kOpenDirect | vfs::kOpenLargeFile | vfs::kOpenDirectory | vfs::kOpenNoFollow |
    vfs::kOpenNoAtime | vfs::kOpenCloexec | vfs::kOpenPath | vfs::kOpenTmpfile;

SyscallResult DoOpen(Task& task, Fd dir, PathPtr path_ptr, uint32_t flags, vfs::FileMode mode,
                     vfs::WalkOptions options) {
  std::string path = TRY(path_ptr.Read(task, true));
  if (path.empty()) return Errno::kENOENT;
  vfs::VfsPath start = TRY(StartOf(task, dir, path));
  RefPtr<vfs::FileDescription> file =
      TRY(vfs::Open(task, start, path, flags & ~vfs::kOpenCloexec, mode, options));
  return TRY(task.fd_table().Install(std::move(file), 0, NofileLimit(task),
                                     (flags & vfs::kOpenCloexec) != 0));
}

}  // namespace

Result<vfs::VfsPath> StartOf(Task& task, Fd dir, absl::string_view path) {
  if (!path.empty() && path[0] == '/') return task.root();
  if (dir.value == kAtFdcwd) return task.cwd();
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(dir.value));
  // With AT_EMPTY_PATH the descriptor need not be a directory; files without a place (pipes) are
  // handled by the caller.
  if (!file->path()) return path.empty() ? Result<vfs::VfsPath>(vfs::VfsPath()) : Errno::kENOTDIR;
  return file->path();
}

Result<vfs::VfsPath> WalkAt(Task& task, Fd dir, PathPtr path_ptr, uint32_t at_flags, bool follow) {
  bool allow_empty = (at_flags & kAtEmptyPath) != 0;
  std::string path = TRY(path_ptr.Read(task, allow_empty));
  vfs::VfsPath start = TRY(StartOf(task, dir, path));
  if (path.empty() && !start) return Errno::kENOENT;
  vfs::WalkOptions options;
  options.follow_last = follow;
  options.allow_empty = allow_empty;
  return vfs::Walk(task, start, path, options);
}

SyscallResult Open(Task& task, PathPtr path, Flags flags, Mode mode) {
  return Openat(task, Fd{kAtFdcwd}, path, flags, mode);
}

SyscallResult Openat(Task& task, Fd dir, PathPtr path, Flags flags, Mode mode) {
  return DoOpen(task, dir, path, flags.value & kKnownOpenFlags, mode.value & 07777, {});
}

SyscallResult Creat(Task& task, PathPtr path, Mode mode) {
  return DoOpen(task, Fd{kAtFdcwd}, path, vfs::kOpenCreate | vfs::kOpenWriteOnly | vfs::kOpenTruncate,
                mode.value & 07777, {});
}

SyscallResult Openat2(Task& task, Fd dir, PathPtr path, GuestAddr how_address, uint64_t size) {
  struct How {
    uint64_t flags, mode, resolve;
  };
  if (size < sizeof(How)) return Errno::kEINVAL;
  if (size > kPageSize) return Errno::kE2BIG;
  How how = TRY(task.Read<How>(how_address));
  TRY(CheckZeroTail(task, how_address, sizeof(How), size));
  if ((how.flags & ~uint64_t{kKnownOpenFlags}) != 0) return Errno::kEINVAL;
  auto flags = static_cast<uint32_t>(how.flags);
  bool makes = (flags & vfs::kOpenCreate) != 0 || (flags & vfs::kOpenTmpfile) == vfs::kOpenTmpfile;
  if (how.mode != 0 && !makes) return Errno::kEINVAL;
  if ((how.mode & ~uint64_t{07777}) != 0) return Errno::kEINVAL;
  constexpr uint64_t kNoXdev = 1, kNoMagiclinks = 2, kNoSymlinks = 4, kBeneath = 8, kInRoot = 16, kCached = 32;
  if ((how.resolve & ~(kNoXdev | kNoMagiclinks | kNoSymlinks | kBeneath | kInRoot | kCached)) != 0)
    return Errno::kEINVAL;
  if ((how.resolve & kBeneath) != 0 && (how.resolve & kInRoot) != 0) return Errno::kEINVAL;
  if ((how.resolve & kCached) != 0) return Errno::kEAGAIN;  // Never promised: openat2(2).
  vfs::WalkOptions options;
  options.no_xdev = (how.resolve & kNoXdev) != 0;
  options.no_magic_links = (how.resolve & kNoMagiclinks) != 0;
  options.no_symlinks = (how.resolve & kNoSymlinks) != 0;
  options.beneath = (how.resolve & kBeneath) != 0;
  options.in_root = (how.resolve & kInRoot) != 0;
  std::string text = TRY(path.Read(task, true));
  if (text.empty()) return Errno::kENOENT;
  // Under RESOLVE_IN_ROOT and RESOLVE_BENEATH the start is the directory even for "/x".
  vfs::VfsPath start = options.in_root || options.beneath ? TRY(StartOf(task, dir, "."))
                                                          : TRY(StartOf(task, dir, text));
  RefPtr<vfs::FileDescription> file = TRY(vfs::Open(task, start, text, flags & ~vfs::kOpenCloexec,
                                                    static_cast<vfs::FileMode>(how.mode), options));
  return TRY(task.fd_table().Install(std::move(file), 0, NofileLimit(task),
                                     (flags & vfs::kOpenCloexec) != 0));
}

SyscallResult Mkdir(Task& task, PathPtr path, Mode mode) { return Mkdirat(task, Fd{kAtFdcwd}, path, mode); }
SyscallResult Mkdirat(Task& task, Fd dir, PathPtr path_ptr, Mode mode) {
  std::string path = TRY(path_ptr.Read(task));
  TRY(vfs::Mkdir(task, TRY(StartOf(task, dir, path)), path, mode.value & 01777));
  return 0;
}

SyscallResult Mknod(Task& task, PathPtr path, Mode mode, uint64_t dev) {
  return Mknodat(task, Fd{kAtFdcwd}, path, mode, dev);
}
SyscallResult Mknodat(Task& task, Fd dir, PathPtr path_ptr, Mode mode, uint64_t dev) {
  std::string path = TRY(path_ptr.Read(task));
  vfs::FileMode m = mode.value & (vfs::kModeType | vfs::kModePermissions);
  if ((m & vfs::kModeType) == 0) m |= vfs::kModeRegular;
  if ((m & vfs::kModeType) == vfs::kModeDirectory) return Errno::kEPERM;
  TRY(vfs::Mknod(task, TRY(StartOf(task, dir, path)), path, m,
                 vfs::DeviceNumber::Decode(static_cast<uint32_t>(dev))));
  return 0;
}

SyscallResult Symlink(Task& task, PathPtr target, PathPtr path) {
  return Symlinkat(task, target, Fd{kAtFdcwd}, path);
}
SyscallResult Symlinkat(Task& task, PathPtr target_ptr, Fd dir, PathPtr path_ptr) {
  std::string target = TRY(target_ptr.Read(task));
  std::string path = TRY(path_ptr.Read(task));
  TRY(vfs::Symlink(task, TRY(StartOf(task, dir, path)), path, target));
  return 0;
}

SyscallResult Link(Task& task, PathPtr old_path, PathPtr new_path) {
  return Linkat(task, Fd{kAtFdcwd}, old_path, Fd{kAtFdcwd}, new_path, Flags{0});
}
SyscallResult Linkat(Task& task, Fd old_dir, PathPtr old_path, Fd new_dir, PathPtr new_path,
                     Flags flags) {
  if ((flags.value & ~(kAtSymlinkFollow | kAtEmptyPath)) != 0) return Errno::kEINVAL;
  if ((flags.value & kAtEmptyPath) != 0 &&
      !task.creds().HasRootCapability(auth::Capability::kDacReadSearch))
    return Errno::kENOENT;
  vfs::VfsPath source =
      TRY(WalkAt(task, old_dir, old_path, flags.value, (flags.value & kAtSymlinkFollow) != 0));
  std::string path = TRY(new_path.Read(task));
  TRY(vfs::Link(task, source, TRY(StartOf(task, new_dir, path)), path));
  return 0;
}

SyscallResult Unlink(Task& task, PathPtr path) { return Unlinkat(task, Fd{kAtFdcwd}, path, Flags{0}); }
SyscallResult Rmdir(Task& task, PathPtr path) {
  return Unlinkat(task, Fd{kAtFdcwd}, path, Flags{kAtRemovedir});
}
SyscallResult Unlinkat(Task& task, Fd dir, PathPtr path_ptr, Flags flags) {
  if ((flags.value & ~kAtRemovedir) != 0) return Errno::kEINVAL;
  std::string path = TRY(path_ptr.Read(task));
  vfs::VfsPath start = TRY(StartOf(task, dir, path));
  if ((flags.value & kAtRemovedir) != 0) TRY(vfs::Rmdir(task, start, path));
  else TRY(vfs::Unlink(task, start, path));
  return 0;
}

SyscallResult Rename(Task& task, PathPtr old_path, PathPtr new_path) {
  return Renameat2(task, Fd{kAtFdcwd}, old_path, Fd{kAtFdcwd}, new_path, Flags{0});
}
SyscallResult Renameat(Task& task, Fd old_dir, PathPtr old_path, Fd new_dir, PathPtr new_path) {
  return Renameat2(task, old_dir, old_path, new_dir, new_path, Flags{0});
}
SyscallResult Renameat2(Task& task, Fd old_dir, PathPtr old_ptr, Fd new_dir, PathPtr new_ptr,
                        Flags flags) {
  constexpr uint32_t kKnown = vfs::kRenameNoReplace | vfs::kRenameExchange | vfs::kRenameWhiteout;
  if ((flags.value & ~kKnown) != 0) return Errno::kEINVAL;
  if ((flags.value & vfs::kRenameExchange) != 0 && (flags.value & ~vfs::kRenameExchange) != 0)
    return Errno::kEINVAL;
  if ((flags.value & vfs::kRenameWhiteout) != 0 && !task.creds().HasRootCapability(auth::Capability::kMknod))
    return Errno::kEPERM;
  std::string old_path = TRY(old_ptr.Read(task));
  std::string new_path = TRY(new_ptr.Read(task));
  TRY(vfs::Rename(task, TRY(StartOf(task, old_dir, old_path)), old_path,
                  TRY(StartOf(task, new_dir, new_path)), new_path, flags.value));
  return 0;
}

SyscallResult Readlink(Task& task, PathPtr path, GuestAddr buffer, int32_t size) {
  return Readlinkat(task, Fd{kAtFdcwd}, path, buffer, size);
}
SyscallResult Readlinkat(Task& task, Fd dir, PathPtr path_ptr, GuestAddr buffer, int32_t size) {
  if (size <= 0) return Errno::kEINVAL;
  // An empty path is the descriptor itself (readlinkat(2), since Linux 2.6.39).
  std::string path = TRY(path_ptr.Read(task, dir.value != kAtFdcwd));
  vfs::VfsPath start = TRY(StartOf(task, dir, path));
  if (!start) return Errno::kENOENT;
  vfs::WalkOptions options;
  options.follow_last = false;
  options.allow_empty = true;
  vfs::VfsPath at = TRY(vfs::Walk(task, start, path, options));
  Result<std::string> target = vfs::ReadLink(task, at);
  if (!target.ok()) return path.empty() && target.error() == Errno::kEINVAL ? Errno::kENOENT : target.error();
  size_t n = std::min<size_t>(target->size(), static_cast<size_t>(size));
  TRY(task.CopyOutBytes(buffer, {target->data(), n}));
  return static_cast<int64_t>(n);
}

SyscallResult Chdir(Task& task, PathPtr path) {
  vfs::WalkOptions options;
  options.must_be_directory = true;
  std::string text = TRY(path.Read(task));
  vfs::VfsPath at = TRY(vfs::Walk(task, TRY(StartOf(task, Fd{kAtFdcwd}, text)), text, options));
  TRY(vfs::Access(task, at, vfs::kMayExec));
  task.fs().set_cwd(at);
  return 0;
}

SyscallResult Fchdir(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->inode() == nullptr || !file->inode()->is_directory() || !file->path()) return Errno::kENOTDIR;
  TRY(vfs::Access(task, file->path(), vfs::kMayExec));
  task.fs().set_cwd(file->path());
  return 0;
}

SyscallResult Chroot(Task& task, PathPtr path) {
  vfs::WalkOptions options;
  options.must_be_directory = true;
  std::string text = TRY(path.Read(task));
  vfs::VfsPath at = TRY(vfs::Walk(task, TRY(StartOf(task, Fd{kAtFdcwd}, text)), text, options));
  TRY(vfs::Access(task, at, vfs::kMayExec));
  if (!task.creds().HasCapability(auth::Capability::kSysChroot)) return Errno::kEPERM;
  task.fs().set_root(at);
  return 0;
}

SyscallResult Getcwd(Task& task, GuestAddr buffer, uint64_t size) {
  std::string name = TRY(vfs::CwdName(task.cwd(), task.root()));
  if (name.size() + 1 > vfs::kPathMax) return Errno::kENAMETOOLONG;
  if (name.size() + 1 > size) return Errno::kERANGE;
  TRY(task.CopyOutBytes(buffer, {name.c_str(), name.size() + 1}));
  return static_cast<int64_t>(name.size() + 1);
}

namespace {

// Packs linux_dirent (old) or linux_dirent64 records.
class DirentSink final : public vfs::DirectorySink {
 public:
  DirentSink(size_t capacity, bool old) : old_(old) { buffer_.reserve(std::min<size_t>(capacity, 64 << 10)); capacity_ = capacity; }
  bool Add(absl::string_view name, uint64_t ino, vfs::FileMode type, int64_t next) override {
    size_t header = old_ ? 18 : 19;
    size_t length = (header + name.size() + (old_ ? 2 : 1) + 7) & ~size_t{7};
    if (buffer_.size() + length > capacity_) {
      full_ = true;
      return false;
    }
    size_t at = buffer_.size();
    buffer_.resize(at + length);
    char* p = buffer_.data() + at;
    auto reclen = static_cast<uint16_t>(length);
    char dtype = static_cast<char>((type & vfs::kModeType) >> 12);
    memcpy(p, &ino, 8);
    memcpy(p + 8, &next, 8);
    memcpy(p + 16, &reclen, 2);
    if (old_) p[length - 1] = dtype;
    else p[18] = dtype;
    memcpy(p + (old_ ? 18 : 19), name.data(), name.size());
    return true;
  }
  const std::string& buffer() const { return buffer_; }
  bool full() const { return full_; }

 private:
  const bool old_;
  size_t capacity_;
  std::string buffer_;
  bool full_ = false;
};

SyscallResult DoGetdents(Task& task, Fd fd, GuestAddr buffer, uint32_t size, bool old) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  if (file->path() && file->kind() == vfs::FileKind::kDirectory && file->path().dentry->is_deleted())
    return Errno::kENOENT;
  constexpr uint32_t kMax = 1 << 20;  // What one call returns is bounded; programs call again.
  DirentSink sink(std::min(size, kMax), old);
  TRY(file->Iterate(task, sink));
  if (sink.buffer().empty() && sink.full()) return Errno::kEINVAL;
  TRY(task.CopyOutBytes(buffer, sink.buffer()));
  return static_cast<int64_t>(sink.buffer().size());
}

}  // namespace

SyscallResult Getdents(Task& task, Fd fd, GuestAddr buffer, uint32_t size) {
  return DoGetdents(task, fd, buffer, size, true);
}
SyscallResult Getdents64(Task& task, Fd fd, GuestAddr buffer, uint32_t size) {
  return DoGetdents(task, fd, buffer, size, false);
}

}  // namespace caisson::syscalls
