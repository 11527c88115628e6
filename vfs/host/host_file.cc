#include "vfs/host/host_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vfs/dentry.h"

namespace caisson::vfs {
namespace {

constexpr int kSigpipe = 13;
constexpr uint64_t kMaxTransfer = 64 << 10;
constexpr uint32_t kFionread = 0x541b;

Timestamp FromHost(const timespec& t) { return {t.tv_sec, static_cast<uint32_t>(t.tv_nsec)}; }

class HostInode final : public Inode {
 public:
  // The inode's own type is none for what is not a regular file, so that opening it through /proc
  // comes here and not to the guest's FIFOs and device drivers.
  HostInode(FileSystem& fs, RefPtr<HostObject> object, uint64_t number, uint32_t uid, uint32_t gid)
      : Inode(fs, object->type() == kModeRegular ? kModeRegular : 0),
        object_(std::move(object)),
        number_(number),
        uid_(uid),
        gid_(gid) {}

  Result<Attributes> GetAttributes(CallContext&) override {
    struct stat st;
    if (fstat(object_->host_fd(), &st) != 0) return FromHostErrno(errno);
    Attributes attr;
    attr.ino = number_;
    attr.mode = st.st_mode;
    attr.uid = uid_;
    attr.gid = gid_;
    attr.size = static_cast<uint64_t>(st.st_size);
    attr.blocks = static_cast<uint64_t>(st.st_blocks);
    attr.block_size = static_cast<uint32_t>(st.st_blksize);
    attr.dev = fs().device();
    if (S_ISCHR(st.st_mode)) attr.rdev = {major(st.st_rdev), minor(st.st_rdev)};
    attr.atime = FromHost(st.st_atim);
    attr.mtime = FromHost(st.st_mtim);
    attr.ctime = FromHost(st.st_ctim);
    return attr;
  }

  // The host's owner and mode are not the guest's to change.
  Result<void> SetAttributes(CallContext&, const struct SetAttributes& change) override {
    if (change.mode || change.uid || change.gid) return Errno::kEPERM;
    if (change.size) {
      if (!is_regular()) return Errno::kEINVAL;
      if (*change.size > INT64_MAX) return Errno::kEFBIG;
      if (ftruncate(object_->host_fd(), static_cast<off_t>(*change.size)) != 0)
        return FromHostErrno(errno);
    }
    return {};
  }

  Result<RefPtr<FileDescription>> Open(CallContext&, const OpenArgs& args) override;

 private:
  const RefPtr<HostObject> object_;
  const uint64_t number_;
  const uint32_t uid_, gid_;
};

class HostFileSystem final : public FileSystem {
 public:
  HostFileSystem() : FileSystem("hostfs") {}
  RefPtr<Inode> root() override { return MakeRef<Root>(*this); }
  Result<FsStatistics> Statistics(CallContext&) override { return FsStatistics(); }

 private:
  class Root final : public Inode {
   public:
    explicit Root(FileSystem& fs) : Inode(fs, kModeDirectory) {}
    Result<Attributes> GetAttributes(CallContext&) override {
      Attributes attr;
      attr.mode = kModeDirectory;
      attr.dev = fs().device();
      return attr;
    }
    Result<RefPtr<FileDescription>> Open(CallContext&, const OpenArgs&) override {
      return Errno::kEACCES;
    }
  };
};

FileKind KindOf(const HostObject& object) {
  // Never kPipe, kSocket or kTty: those say which class an object is of.
  switch (object.type()) {
    case kModeRegular: return FileKind::kRegular;
    case kModeChar: return FileKind::kCharDevice;
    default: return FileKind::kOther;
  }
}

class HostFile final : public FileDescription {
 public:
  HostFile(RefPtr<HostObject> object, VfsPath path, RefPtr<Inode> inode, uint32_t flags)
      : FileDescription(KindOf(*object), std::move(path), std::move(inode), flags),
        object_(std::move(object)) {}

  Result<size_t> Read(CallContext&, IoBuffer& to, uint32_t) override { return object_->Read(to); }
  Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint32_t) override {
    Result<size_t> n = object_->Write(from);
    if (!n.ok() && n.error() == Errno::kEPIPE) ctx.SendSignal(kSigpipe);
    return n;
  }
  Result<size_t> PRead(CallContext&, IoBuffer& to, uint64_t offset, uint32_t) override {
    if (!is_regular()) return Errno::kESPIPE;
    std::string bounce;
    bounce.resize(std::min<uint64_t>(to.remaining(), kMaxTransfer));
    ssize_t n = pread(object_->host_fd(), bounce.data(), bounce.size(), static_cast<off_t>(offset));
    if (n < 0) return FromHostErrno(errno);
    return to.Put({bounce.data(), static_cast<size_t>(n)});
  }
  Result<size_t> PWrite(CallContext&, IoBuffer& from, uint64_t offset, uint32_t) override {
    if (!is_regular()) return Errno::kESPIPE;
    std::string bounce;
    bounce.resize(std::min<uint64_t>(from.remaining(), kMaxTransfer));
    size_t taken = TRY(from.Take(absl::MakeSpan(bounce)));
    ssize_t n = pwrite(object_->host_fd(), bounce.data(), taken, static_cast<off_t>(offset));
    int error = errno;
    from.Rewind(taken - (n < 0 ? 0 : static_cast<size_t>(n)));
    if (n < 0) return FromHostErrno(error);
    return static_cast<size_t>(n);
  }
  // The position is the host file's own, which other programs may share.
  Result<int64_t> Seek(CallContext&, int64_t offset, int whence) override {
    if (!is_regular()) return Errno::kESPIPE;
    if (whence < SEEK_SET || whence > SEEK_HOLE) return Errno::kEINVAL;
    off_t at = lseek(object_->host_fd(), offset, whence);
    if (at < 0) return FromHostErrno(errno);
    return int64_t{at};
  }
  Result<void> Sync(CallContext&, bool data_only) override {
    if (!is_regular()) return Errno::kEINVAL;
    if ((data_only ? fdatasync(object_->host_fd()) : fsync(object_->host_fd())) != 0)
      return FromHostErrno(errno);
    return {};
  }
  Result<HostMapping> Map(CallContext&, uint64_t offset, uint64_t, bool, bool) override {
    if (!is_regular()) return Errno::kENODEV;
    HostMapping mapping;
    mapping.host_fd = object_->host_fd();
    mapping.offset = offset;
    mapping.writable = writable();
    return mapping;
  }
  Result<int64_t> Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) override;
  EventMask Readiness(EventMask mask) override { return object_->Readiness(mask); }
  WaitQueue* EventQueue() override { return object_->queue(); }
  std::string Describe() const override { return is_regular() ? "" : path().dentry->name(); }

 private:
  bool is_regular() const { return object_->type() == kModeRegular; }
  const RefPtr<HostObject> object_;
};

Result<RefPtr<FileDescription>> HostInode::Open(CallContext&, const OpenArgs& args) {
  if (object_->type() == kModeSocket) return Errno::kENXIO;
  // No more access than the descriptor has.
  int host = fcntl(object_->host_fd(), F_GETFL);
  uint32_t have = static_cast<uint32_t>(host) & kOpenAccessMode;
  uint32_t want = args.flags & kOpenAccessMode;
  if (host < 0 || (have != kOpenReadWrite && have != want)) return Errno::kEACCES;
  return RefPtr<FileDescription>(
      MakeRef<HostFile>(object_, args.path, RefPtr<Inode>(this), args.flags));
}

// What a program may ask of a terminal that it only borrows. Others are refused: TIOCSTI above
// all, which would type into the host's shell.
Result<int64_t> HostFile::Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) {
  constexpr uint32_t kTcgets = 0x5401, kTcsets = 0x5402, kTcsetsw = 0x5403, kTcsetsf = 0x5404,
                     kTiocgwinsz = 0x5413, kTcflsh = 0x540b;
  constexpr size_t kTermiosBytes = 36, kWinsizeBytes = 8;
  char buffer[64] = {};  // More than any of these structs.
  int fd = object_->host_fd();
  if (request == kFionread) {
    int n = 0;
    if (ioctl(fd, FIONREAD, &n) != 0) return FromHostErrno(errno);
    TRY(ctx.CopyOutObject(GuestAddr(arg), n));
    return int64_t{0};
  }
  if (!object_->is_terminal()) return Errno::kENOTTY;
  switch (request) {
    case kTcgets:
    case kTiocgwinsz: {
      if (ioctl(fd, request, buffer) != 0) return FromHostErrno(errno);
      size_t size = request == kTcgets ? kTermiosBytes : kWinsizeBytes;
      TRY(ctx.CopyOutBytes(GuestAddr(arg), {buffer, size}));
      return int64_t{0};
    }
    case kTcsets:
    case kTcsetsw:
    case kTcsetsf:
      TRY(ctx.CopyInBytes(GuestAddr(arg), {buffer, kTermiosBytes}));
      // The forms that drain output could wait for as long as the host's reader likes.
      if (request == kTcsetsf && ioctl(fd, kTcflsh, 0) != 0) return FromHostErrno(errno);
      if (ioctl(fd, kTcsets, buffer) != 0) return FromHostErrno(errno);
      return int64_t{0};
    case kTcflsh:
      if (arg > 2) return Errno::kEINVAL;
      if (ioctl(fd, request, arg) != 0) return FromHostErrno(errno);
      return int64_t{0};
    default:
      return Errno::kENOTTY;
  }
}

}  // namespace

HostFiles::HostFiles(HostPoller& poller)
    : poller_(poller),
      fs_(MakeRef<HostFileSystem>()),
      mount_(MakeRef<Mount>(fs_, Dentry::NewRoot(fs_->root()), uint64_t{0}, "none")) {}

Result<RefPtr<FileDescription>> HostFiles::Import(UniqueFd fd, uint32_t uid, uint32_t gid) {
  struct stat st;
  int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fstat(fd.get(), &st) != 0) return Errno::kEBADF;
  const char* what = nullptr;
  switch (st.st_mode & S_IFMT) {
    case S_IFREG: what = "file"; break;
    case S_IFIFO: what = "pipe"; break;
    case S_IFSOCK: what = "socket"; break;
    case S_IFCHR: what = "host-device"; break;
    // An eventfd or the like has no type.
    case 0: what = "host-anon"; break;
    default: return Errno::kEINVAL;
  }
  uint64_t number = next_.fetch_add(1, std::memory_order_relaxed);
  auto object = MakeRef<HostObject>(poller_, std::move(fd), static_cast<FileMode>(st.st_mode));
  auto inode = MakeRef<HostInode>(*fs_, object, number, uid, gid);
  // As the descriptor was inherited; O_NONBLOCK of the host is not the guest's.
  uint32_t kept = static_cast<uint32_t>(flags) & (kOpenAccessMode | kOpenAppend);
  VfsPath path(mount_, Dentry::NewRoot(inode, absl::StrCat(what, ":[", number, "]")));
  return RefPtr<FileDescription>(
      MakeRef<HostFile>(std::move(object), std::move(path), std::move(inode), kept));
}

}  // namespace caisson::vfs
