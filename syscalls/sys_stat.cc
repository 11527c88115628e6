// stat, statx, access, chmod, chown, times, truncate, extended attributes.
#include "syscalls/handlers.h"
#include "vfs/operations.h"

namespace caisson::syscalls {
namespace {

constexpr uint32_t kAtSymlinkNofollow = 0x100, kAtEaccess = 0x200, kAtEmptyPath = 0x1000,
                   kAtNoAutomount = 0x800, kAtStatxSyncType = 0x6000;

struct StatLayout {
  uint64_t dev, ino, nlink;
  uint32_t mode, uid, gid, pad0;
  uint64_t rdev;
  int64_t size, blksize, blocks;
  int64_t atime, atime_ns, mtime, mtime_ns, ctime, ctime_ns;
  int64_t reserved[3];
};
static_assert(sizeof(StatLayout) == 144);

struct StatxTimestamp {
  int64_t sec;
  uint32_t nsec;
  int32_t reserved;
};
struct StatxLayout {
  uint32_t mask, blksize;
  uint64_t attributes;
  uint32_t nlink, uid, gid;
  uint16_t mode, spare0;
  uint64_t ino, size, blocks, attributes_mask;
  StatxTimestamp atime, btime, ctime, mtime;
  uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  uint64_t mnt_id;
  uint32_t dio_mem_align, dio_offset_align;
  uint64_t spare3[12];
};
static_assert(sizeof(StatxLayout) == 256);

SyscallResult WriteStat(Task& task, const vfs::Attributes& a, GuestAddr out) {
  const auth::UserNamespace& ns = *task.creds().user_ns;
  StatLayout s{};
  s.dev = a.dev.Encode();
  s.ino = a.ino;
  s.nlink = a.nlink;
  s.mode = a.mode;
  s.uid = ns.FromKernelUid(a.uid);
  s.gid = ns.FromKernelGid(a.gid);
  s.rdev = a.rdev.Encode();
  s.size = static_cast<int64_t>(a.size);
  s.blksize = a.block_size;
  s.blocks = static_cast<int64_t>(a.blocks);
  s.atime = a.atime.sec;
  s.atime_ns = a.atime.nsec;
  s.mtime = a.mtime.sec;
  s.mtime_ns = a.mtime.nsec;
  s.ctime = a.ctime.sec;
  s.ctime_ns = a.ctime.nsec;
  TRY(task.Write(out, s));
  return 0;
}

// The attributes of what (dir, path, AT_*) names.
Result<vfs::Attributes> AttributesAt(Task& task, Fd dir, PathPtr path_ptr, uint32_t flags,
                                     int* mount_id = nullptr, bool* mount_root = nullptr) {
  const bool empty_ok = (flags & kAtEmptyPath) != 0;
  std::string path;
  if (!(empty_ok && path_ptr.is_null())) path = TRY(path_ptr.Read(task, empty_ok));
  if (path.empty() && dir.value != kAtFdcwd) {
    RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(dir.value));
    if (mount_id != nullptr && file->path()) *mount_id = file->path().mount->id();
    return file->GetAttributes(task);
  }
  vfs::VfsPath start = TRY(StartOf(task, dir, path));
  vfs::WalkOptions options;
  options.follow_last = (flags & kAtSymlinkNofollow) == 0;
  options.allow_empty = empty_ok;
  vfs::VfsPath at = TRY(vfs::Walk(task, start, path, options));
  if (mount_id != nullptr) *mount_id = at.mount->id();
  if (mount_root != nullptr) *mount_root = at.dentry == at.mount->root();
  return vfs::Stat(task, at);
}

}  // namespace

SyscallResult Stat(Task& task, PathPtr path, GuestAddr out) {
  return WriteStat(task, TRY(AttributesAt(task, Fd{kAtFdcwd}, path, 0)), out);
}
SyscallResult Lstat(Task& task, PathPtr path, GuestAddr out) {
  return WriteStat(task, TRY(AttributesAt(task, Fd{kAtFdcwd}, path, kAtSymlinkNofollow)), out);
}
SyscallResult Fstat(Task& task, Fd fd, GuestAddr out) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  return WriteStat(task, TRY(file->GetAttributes(task)), out);
}
SyscallResult Newfstatat(Task& task, Fd dir, PathPtr path, GuestAddr out, Flags flags) {
  if ((flags.value & ~(kAtSymlinkNofollow | kAtEmptyPath | kAtNoAutomount)) != 0) return Errno::kEINVAL;
  return WriteStat(task, TRY(AttributesAt(task, dir, path, flags.value)), out);
}

SyscallResult Statx(Task& task, Fd dir, PathPtr path, Flags flags, uint32_t mask, GuestAddr out) {
  constexpr uint32_t kReserved = 0x80000000, kBasic = 0x7ff, kBtime = 0x800, kMntId = 0x1000;
  if ((flags.value & ~(kAtSymlinkNofollow | kAtEmptyPath | kAtNoAutomount | kAtStatxSyncType)) != 0 ||
      (flags.value & kAtStatxSyncType) == kAtStatxSyncType || (mask & kReserved) != 0)
    return Errno::kEINVAL;
  int mount_id = 0;
  bool mount_root = false;
  vfs::Attributes a = TRY(AttributesAt(task, dir, path, flags.value, &mount_id, &mount_root));
  const auth::UserNamespace& ns = *task.creds().user_ns;
  auto stamp = [](const vfs::Timestamp& t) { return StatxTimestamp{t.sec, t.nsec, 0}; };
  StatxLayout s{};
  s.mask = kBasic | kMntId | (a.btime ? kBtime : 0);
  s.blksize = a.block_size;
  constexpr uint64_t kAttributeMountRoot = 0x2000;
  s.attributes = mount_root ? kAttributeMountRoot : 0;
  s.attributes_mask = kAttributeMountRoot;
  s.nlink = a.nlink;
  s.uid = ns.FromKernelUid(a.uid);
  s.gid = ns.FromKernelGid(a.gid);
  s.mode = static_cast<uint16_t>(a.mode);
  s.ino = a.ino;
  s.size = a.size;
  s.blocks = a.blocks;
  s.atime = stamp(a.atime);
  s.mtime = stamp(a.mtime);
  s.ctime = stamp(a.ctime);
  if (a.btime) s.btime = stamp(*a.btime);
  s.rdev_major = a.rdev.major;
  s.rdev_minor = a.rdev.minor;
  s.dev_major = a.dev.major;
  s.dev_minor = a.dev.minor;
  s.mnt_id = static_cast<uint64_t>(mount_id);
  TRY(task.Write(out, s));
  return 0;
}

static SyscallResult WriteStatfs(Task& task, const vfs::FsStatistics& f, uint64_t mount_flags, GuestAddr out) {
  struct Statfs {
    int64_t type, bsize;
    uint64_t blocks, bfree, bavail, files, ffree;
    uint64_t fsid;
    int64_t namelen, frsize, flags, spare[4];
  };
  static_assert(sizeof(Statfs) == 120);
  constexpr int64_t kStValid = 0x20;
  Statfs s{static_cast<int64_t>(f.type), static_cast<int64_t>(f.block_size), f.blocks, f.blocks_free,
           f.blocks_available, f.files, f.files_free, f.fsid, static_cast<int64_t>(f.name_length),
           static_cast<int64_t>(f.block_size),
           kStValid | static_cast<int64_t>(mount_flags & 0xf) |
               static_cast<int64_t>((mount_flags & (vfs::kMountNoatime | vfs::kMountNodiratime))) |
               ((mount_flags & vfs::kMountRelatime) != 0 ? 0x1000 : 0),
           {}};
  TRY(task.Write(out, s));
  return 0;
}

SyscallResult Statfs(Task& task, PathPtr path, GuestAddr out) {
  vfs::VfsPath at = TRY(WalkAt(task, Fd{kAtFdcwd}, path, 0, true));
  return WriteStatfs(task, TRY(at.mount->fs().Statistics(task)), at.mount->flags(), out);
}
SyscallResult Fstatfs(Task& task, Fd fd, GuestAddr out) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  uint64_t flags = file->path() ? file->path().mount->flags() : 0;
  return WriteStatfs(task, TRY(file->Statistics(task)), flags, out);
}

// access(2) judges by the real ids, and by the permitted capabilities only of root.
static SyscallResult DoAccess(Task& task, Fd dir, PathPtr path, int32_t mode, uint32_t flags) {
  if ((mode & ~7) != 0) return Errno::kEINVAL;
  if ((flags & ~(kAtEaccess | kAtSymlinkNofollow | kAtEmptyPath)) != 0) return Errno::kEINVAL;
  RefPtr<const auth::Credentials> old = task.creds_ref();
  bool swapped = (flags & kAtEaccess) == 0 && (old->fsuid != old->ruid || old->fsgid != old->rgid || old->ruid != old->euid);
  if (swapped || (flags & kAtEaccess) == 0) {
    auto real = MakeRef<auth::Credentials>(*old);
    real->fsuid = old->ruid;
    real->fsgid = old->rgid;
    if ((old->securebits & auth::kSecNoSetuidFixup) == 0) {
      auto root = old->user_ns->ToKernelUid(0);
      real->effective = root && old->ruid == *root ? old->permitted : 0;
    }
    task.set_creds(RefPtr<const auth::Credentials>(real));
    swapped = true;
  }
  auto check = [&]() -> Result<void> {
    vfs::VfsPath at = TRY(WalkAt(task, dir, path, flags, (flags & kAtSymlinkNofollow) == 0));
    return vfs::Access(task, at, static_cast<vfs::AccessMask>(mode));
  };
  Result<void> result = check();
  if (swapped) task.set_creds(old);
  TRY(result);
  return 0;
}
SyscallResult Access(Task& task, PathPtr path, int32_t mode) {
  return DoAccess(task, Fd{kAtFdcwd}, path, mode, 0);
}
SyscallResult Faccessat(Task& task, Fd dir, PathPtr path, int32_t mode) {
  return DoAccess(task, dir, path, mode, 0);
}
SyscallResult Faccessat2(Task& task, Fd dir, PathPtr path, int32_t mode, Flags flags) {
  return DoAccess(task, dir, path, mode, flags.value);
}

SyscallResult Chmod(Task& task, PathPtr path, Mode mode) { return Fchmodat(task, Fd{kAtFdcwd}, path, mode); }
SyscallResult Fchmodat(Task& task, Fd dir, PathPtr path, Mode mode) {
  vfs::VfsPath at = TRY(WalkAt(task, dir, path, 0, true));
  TRY(vfs::Chmod(task, at, mode.value & 07777));
  return 0;
}
SyscallResult Fchmodat2(Task& task, Fd dir, PathPtr path, Mode mode, Flags flags) {
  if ((flags.value & ~(kAtSymlinkNofollow | kAtEmptyPath)) != 0) return Errno::kEINVAL;
  vfs::VfsPath at = TRY(WalkAt(task, dir, path, flags.value, (flags.value & kAtSymlinkNofollow) == 0));
  if (at.dentry->inode() && at.dentry->inode()->is_link()) return Errno::kEOPNOTSUPP;
  TRY(vfs::Chmod(task, at, mode.value & 07777));
  return 0;
}
SyscallResult Fchmod(Task& task, Fd fd, Mode mode) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  TRY(vfs::FileChmod(task, *file, mode.value & 07777));
  return 0;
}

namespace {
// -1 leaves an id alone; one without a mapping in the caller's namespace is EINVAL.
struct Owner {
  std::optional<uint32_t> uid, gid;
};
Result<void> ToOwner(Task& task, uint32_t uid, uint32_t gid, Owner* to) {
  const auth::UserNamespace& ns = *task.creds().user_ns;
  if (uid != auth::kNoId && !(to->uid = ns.ToKernelUid(uid))) return Errno::kEINVAL;
  if (gid != auth::kNoId && !(to->gid = ns.ToKernelGid(gid))) return Errno::kEINVAL;
  return {};
}
}  // namespace

SyscallResult Chown(Task& task, PathPtr path, uint32_t uid, uint32_t gid) {
  return Fchownat(task, Fd{kAtFdcwd}, path, uid, gid, Flags{0});
}
SyscallResult Lchown(Task& task, PathPtr path, uint32_t uid, uint32_t gid) {
  return Fchownat(task, Fd{kAtFdcwd}, path, uid, gid, Flags{kAtSymlinkNofollow});
}
SyscallResult Fchownat(Task& task, Fd dir, PathPtr path, uint32_t uid, uint32_t gid, Flags flags) {
  if ((flags.value & ~(kAtSymlinkNofollow | kAtEmptyPath)) != 0) return Errno::kEINVAL;
  vfs::VfsPath at = TRY(WalkAt(task, dir, path, flags.value, (flags.value & kAtSymlinkNofollow) == 0));
  Owner owner;
  TRY(ToOwner(task, uid, gid, &owner));
  TRY(vfs::Chown(task, at, owner.uid, owner.gid));
  return 0;
}
SyscallResult Fchown(Task& task, Fd fd, uint32_t uid, uint32_t gid) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  Owner owner;
  TRY(ToOwner(task, uid, gid, &owner));
  TRY(vfs::FileChown(task, *file, owner.uid, owner.gid));
  return 0;
}

namespace {

using StampChange = vfs::SetAttributes::Time;
constexpr int64_t kUtimeNow = (1 << 30) - 1, kUtimeOmit = (1 << 30) - 2;

SyscallResult SetTimesOf(Task& task, Fd dir, PathPtr path_ptr, uint32_t flags,
                         std::optional<StampChange> atime, std::optional<StampChange> mtime, bool both_now) {
  if (!atime && !mtime && !both_now) return 0;
  if (path_ptr.is_null() && dir.value != kAtFdcwd) {
    // futimens(3): the descriptor itself.
    if (flags != 0) return Errno::kEINVAL;
    RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(dir.value));
    if (file->kind() == vfs::FileKind::kPath || !file->path()) {
      if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
      vfs::SetAttributes change;
      change.atime = both_now ? StampChange{.now = true} : atime;
      change.mtime = both_now ? StampChange{.now = true} : mtime;
      TRY(file->SetAttributes(task, change));
      return 0;
    }
    TRY(vfs::SetTimes(task, file->path(), atime, mtime, both_now));
    return 0;
  }
  if ((flags & ~(kAtSymlinkNofollow | kAtEmptyPath)) != 0) return Errno::kEINVAL;
  vfs::VfsPath at = TRY(WalkAt(task, dir, path_ptr, flags, (flags & kAtSymlinkNofollow) == 0));
  TRY(vfs::SetTimes(task, at, atime, mtime, both_now));
  return 0;
}

}  // namespace

SyscallResult Utimensat(Task& task, Fd dir, PathPtr path, GuestAddr times, Flags flags) {
  if (times.is_null()) return SetTimesOf(task, dir, path, flags.value, {}, {}, true);
  struct Spec { int64_t sec, nsec; };
  struct Pair { Spec t[2]; };
  Pair pair = TRY(task.Read<Pair>(times));
  std::optional<StampChange> out[2];
  for (int i = 0; i < 2; ++i) {
    const Spec& s = pair.t[i];
    if (s.nsec == kUtimeOmit) continue;
    if (s.nsec == kUtimeNow) {
      out[i] = StampChange{.now = true};
      continue;
    }
    if (s.nsec < 0 || s.nsec >= 1'000'000'000) return Errno::kEINVAL;
    out[i] = StampChange{.now = false, .at = {s.sec, static_cast<uint32_t>(s.nsec)}};
  }
  bool both_now = out[0] && out[1] && out[0]->now && out[1]->now;
  return SetTimesOf(task, dir, path, flags.value, out[0], out[1], both_now);
}

SyscallResult Futimesat(Task& task, Fd dir, PathPtr path, GuestAddr times) {
  if (times.is_null()) return SetTimesOf(task, dir, path, 0, {}, {}, true);
  struct Val { int64_t sec, usec; };
  struct Pair { Val t[2]; };
  Pair pair = TRY(task.Read<Pair>(times));
  std::optional<StampChange> out[2];
  for (int i = 0; i < 2; ++i) {
    if (pair.t[i].usec < 0 || pair.t[i].usec >= 1'000'000) return Errno::kEINVAL;
    out[i] = StampChange{.now = false, .at = {pair.t[i].sec, static_cast<uint32_t>(pair.t[i].usec * 1000)}};
  }
  return SetTimesOf(task, dir, path, 0, out[0], out[1], false);
}
SyscallResult Utimes(Task& task, PathPtr path, GuestAddr times) {
  return Futimesat(task, Fd{kAtFdcwd}, path, times);
}
SyscallResult Utime(Task& task, PathPtr path, GuestAddr times) {
  if (times.is_null()) return SetTimesOf(task, Fd{kAtFdcwd}, path, 0, {}, {}, true);
  struct Buf { int64_t actime, modtime; };
  Buf buf = TRY(task.Read<Buf>(times));
  return SetTimesOf(task, Fd{kAtFdcwd}, path, 0, StampChange{.now = false, .at = {buf.actime, 0}},
                    StampChange{.now = false, .at = {buf.modtime, 0}}, false);
}

SyscallResult Truncate(Task& task, PathPtr path, int64_t size) {
  if (size < 0) return Errno::kEINVAL;
  vfs::VfsPath at = TRY(WalkAt(task, Fd{kAtFdcwd}, path, 0, true));
  TRY(vfs::Truncate(task, at, static_cast<uint64_t>(size)));
  return 0;
}
SyscallResult Ftruncate(Task& task, Fd fd, int64_t size) {
  if (size < 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  if (file->kind() != vfs::FileKind::kRegular || !file->writable()) return Errno::kEINVAL;
  TRY(vfs::FileTruncate(task, *file, static_cast<uint64_t>(size)));
  return 0;
}

// --- Extended attributes ---

namespace {

constexpr size_t kXattrNameMax = 255, kXattrSizeMax = 65536;

Result<std::string> XattrName(Task& task, GuestAddr name) {
  Result<std::string> text = task.memory().CopyInString(name, kXattrNameMax);
  if (!text.ok()) return text.error() == Errno::kENAMETOOLONG ? Errno::kERANGE : text.error();
  if (text->empty()) return Errno::kERANGE;
  return text;
}
Result<std::string> XattrValue(Task& task, GuestAddr value, uint64_t size) {
  if (size > kXattrSizeMax) return Errno::kE2BIG;
  std::string out(size, '\0');
  if (size != 0) TRY(task.CopyInBytes(value, absl::Span<char>(out.data(), size)));
  return out;
}
SyscallResult CopyXattr(Task& task, const std::string& value, GuestAddr out, uint64_t size) {
  if (size == 0) return static_cast<int64_t>(value.size());
  if (value.size() > size) return Errno::kERANGE;
  TRY(task.CopyOutBytes(out, value));
  return static_cast<int64_t>(value.size());
}
SyscallResult CopyXattrList(Task& task, const std::vector<std::string>& names, GuestAddr out, uint64_t size) {
  std::string packed;
  for (const std::string& n : names) packed.append(n).push_back('\0');
  return CopyXattr(task, packed, out, size);
}
Result<vfs::VfsPath> PathOfFd(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  if (!file->path()) return Errno::kEOPNOTSUPP;
  return file->path();
}
Result<vfs::VfsPath> PathOf(Task& task, PathPtr path, bool follow) {
  return WalkAt(task, Fd{kAtFdcwd}, path, 0, follow);
}
SyscallResult DoGet(Task& task, const vfs::VfsPath& at, GuestAddr name, GuestAddr value, uint64_t size) {
  return CopyXattr(task, TRY(vfs::GetXattr(task, at, TRY(XattrName(task, name)))), value, size);
}
SyscallResult DoSet(Task& task, const vfs::VfsPath& at, GuestAddr name, GuestAddr value, uint64_t size, int flags) {
  if ((flags & ~3) != 0) return Errno::kEINVAL;
  std::string n = TRY(XattrName(task, name));
  std::string v = TRY(XattrValue(task, value, size));
  TRY(vfs::SetXattr(task, at, n, v, flags));
  return 0;
}

}  // namespace

SyscallResult Getxattr(Task& t, PathPtr p, GuestAddr n, GuestAddr v, uint64_t s) { return DoGet(t, TRY(PathOf(t, p, true)), n, v, s); }
SyscallResult Lgetxattr(Task& t, PathPtr p, GuestAddr n, GuestAddr v, uint64_t s) { return DoGet(t, TRY(PathOf(t, p, false)), n, v, s); }
SyscallResult Fgetxattr(Task& t, Fd f, GuestAddr n, GuestAddr v, uint64_t s) { return DoGet(t, TRY(PathOfFd(t, f)), n, v, s); }
SyscallResult Setxattr(Task& t, PathPtr p, GuestAddr n, GuestAddr v, uint64_t s, int32_t f) { return DoSet(t, TRY(PathOf(t, p, true)), n, v, s, f); }
SyscallResult Lsetxattr(Task& t, PathPtr p, GuestAddr n, GuestAddr v, uint64_t s, int32_t f) { return DoSet(t, TRY(PathOf(t, p, false)), n, v, s, f); }
SyscallResult Fsetxattr(Task& t, Fd d, GuestAddr n, GuestAddr v, uint64_t s, int32_t f) { return DoSet(t, TRY(PathOfFd(t, d)), n, v, s, f); }
SyscallResult Listxattr(Task& t, PathPtr p, GuestAddr l, uint64_t s) { return CopyXattrList(t, TRY(vfs::ListXattr(t, TRY(PathOf(t, p, true)))), l, s); }
SyscallResult Llistxattr(Task& t, PathPtr p, GuestAddr l, uint64_t s) { return CopyXattrList(t, TRY(vfs::ListXattr(t, TRY(PathOf(t, p, false)))), l, s); }
SyscallResult Flistxattr(Task& t, Fd f, GuestAddr l, uint64_t s) { return CopyXattrList(t, TRY(vfs::ListXattr(t, TRY(PathOfFd(t, f)))), l, s); }
SyscallResult Removexattr(Task& t, PathPtr p, GuestAddr n) {
  TRY(vfs::RemoveXattr(t, TRY(PathOf(t, p, true)), TRY(XattrName(t, n))));
  return 0;
}
SyscallResult Lremovexattr(Task& t, PathPtr p, GuestAddr n) {
  TRY(vfs::RemoveXattr(t, TRY(PathOf(t, p, false)), TRY(XattrName(t, n))));
  return 0;
}
SyscallResult Fremovexattr(Task& t, Fd f, GuestAddr n) {
  TRY(vfs::RemoveXattr(t, TRY(PathOfFd(t, f)), TRY(XattrName(t, n))));
  return 0;
}

}  // namespace caisson::syscalls
