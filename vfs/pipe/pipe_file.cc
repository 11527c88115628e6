#include "vfs/pipe/pipe_file.h"

#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "auth/credentials.h"
#include "vfs/dentry.h"
#include "vfs/permission.h"

namespace caisson::vfs {
namespace {

constexpr int kSigpipe = 13;
constexpr uint32_t kFionread = 0x541b;
constexpr uint64_t kPipefsMagic = 0x50495045;

std::string PipeName(uint64_t ino) { return absl::StrCat("pipe:[", ino, "]"); }

// An inode with attributes of its own and nothing behind it.
class PipefsInode : public Inode {
 public:
  PipefsInode(FileSystem& fs, uint64_t ino, FileMode mode, uint32_t uid, uint32_t gid)
      : Inode(fs, mode & kModeType) {
    attr_.ino = ino;
    attr_.mode = mode;
    attr_.uid = uid;
    attr_.gid = gid;
    attr_.dev = fs.device();
    attr_.atime = attr_.mtime = attr_.ctime = Timestamp::FromNanoseconds(time::RealtimeNow());
  }

  Result<Attributes> GetAttributes(CallContext&) override {
    MutexLock lock(mu_);
    return attr_;
  }

  Result<void> SetAttributes(CallContext&, const struct SetAttributes& change) override {
    if (change.size) return Errno::kEINVAL;
    MutexLock lock(mu_);
    Timestamp now = Timestamp::FromNanoseconds(time::RealtimeNow());
    if (change.mode) attr_.mode = (attr_.mode & kModeType) | (*change.mode & kModePermissions);
    if (change.uid) attr_.uid = *change.uid;
    if (change.gid) attr_.gid = *change.gid;
    if (change.atime) attr_.atime = change.atime->now ? now : change.atime->at;
    if (change.mtime) attr_.mtime = change.mtime->now ? now : change.mtime->at;
    attr_.ctime = now;
    return {};
  }

  Result<RefPtr<FileDescription>> Open(CallContext&, const OpenArgs&) override {
    return Errno::kENXIO;
  }

 private:
  Mutex mu_;
  Attributes attr_ ABSL_GUARDED_BY(mu_);
};

class PipeInode final : public PipefsInode {
 public:
  PipeInode(FileSystem& fs, uint64_t ino, RefPtr<Pipe> pipe, uint32_t uid, uint32_t gid)
      : PipefsInode(fs, ino, kModeFifo | 0600, uid, gid), ino_(ino), pipe_(std::move(pipe)) {}

  // /proc/PID/fd/N: never waits for the other end (Linux fs/pipe.c, fifo_open(), is_pipe).
  Result<RefPtr<FileDescription>> Open(CallContext&, const OpenArgs& args) override {
    auto file = MakeRef<PipeFile>(pipe_, args.path, RefPtr<Inode>(this), args.flags);
    file->set_description(PipeName(ino_));
    return RefPtr<FileDescription>(std::move(file));
  }

 private:
  const uint64_t ino_;
  const RefPtr<Pipe> pipe_;
};

class PipeFileSystem final : public FileSystem {
 public:
  PipeFileSystem() : FileSystem(kPipefsName) {}
  RefPtr<Inode> root() override {
    return MakeRef<PipefsInode>(*this, uint64_t{1}, kModeDirectory | 0555, 0u, 0u);
  }
  Result<FsStatistics> Statistics(CallContext&) override {
    FsStatistics s;
    s.type = kPipefsMagic;
    return s;
  }
};

}  // namespace

PipeFile::PipeFile(RefPtr<Pipe> pipe, VfsPath path, RefPtr<Inode> inode, uint32_t flags)
    : FileDescription(FileKind::kPipe, std::move(path), std::move(inode), flags),
      pipe_(std::move(pipe)) {
  if (readable()) partner_ = pipe_->AddReader();
  if (writable()) partner_ = pipe_->AddWriter();
}

PipeFile::~PipeFile() {
  if (readable()) pipe_->RemoveReader();
  if (writable()) pipe_->RemoveWriter();
}

Result<size_t> PipeFile::Read(CallContext&, IoBuffer& to, uint32_t) { return pipe_->Read(to); }

Result<size_t> PipeFile::Write(CallContext& ctx, IoBuffer& from, uint32_t) {
  Result<size_t> written = pipe_->Write(from, (flags() & kOpenDirect) != 0);
  if (!written.ok() && written.error() == Errno::kEPIPE) ctx.SendSignal(kSigpipe);
  return written;
}

Result<int64_t> PipeFile::Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) {
  if (request != kFionread) return Errno::kENOTTY;
  TRY(ctx.CopyOutObject(GuestAddr(arg), static_cast<int32_t>(pipe_->bytes())));
  return int64_t{0};
}

EventMask PipeFile::Readiness(EventMask mask) {
  EventMask events = 0;
  if (readable()) events |= pipe_->ReadReadiness(no_writer_yet_.load(std::memory_order_relaxed));
  if (writable()) events |= pipe_->WriteReadiness();
  return events & (mask | kEventErr | kEventHup);
}

Result<int64_t> SetPipeSize(CallContext& ctx, PipeFile& file, uint64_t bytes, uint64_t max_bytes) {
  if (bytes > (uint64_t{1} << 31)) return Errno::kEINVAL;
  uint64_t size = std::bit_ceil(bytes < kPipePage ? kPipePage : bytes);
  // Linux fs/pipe.c, pipe_set_size(): making a pipe smaller needs no privilege.
  if (size > max_bytes && size > file.pipe().capacity() &&
      !ctx.creds().HasRootCapability(auth::Capability::kSysResource))
    return Errno::kEPERM;
  TRY(file.pipe().SetCapacity(ctx, size));
  return static_cast<int64_t>(size);
}

int64_t GetPipeSize(PipeFile& file) { return static_cast<int64_t>(file.pipe().capacity()); }

PipeFactory::PipeFactory()
    : fs_(MakeRef<PipeFileSystem>()),
      mount_(MakeRef<Mount>(fs_, Dentry::NewRoot(fs_->root()), uint64_t{0}, "none")) {}

std::pair<RefPtr<FileDescription>, RefPtr<FileDescription>> PipeFactory::NewPipe(CallContext& ctx,
                                                                                 uint32_t flags) {
  uint64_t ino = next_ino_.fetch_add(1, std::memory_order_relaxed);
  auto pipe = MakeRef<Pipe>(ctx);
  auto inode =
      MakeRef<PipeInode>(*fs_, ino, pipe, ctx.creds().fsuid, ctx.creds().fsgid);
  VfsPath path(mount_, Dentry::NewRoot(inode, PipeName(ino)));
  uint32_t status = flags & (kOpenNonblock | kOpenDirect);
  auto reader = MakeRef<PipeFile>(pipe, path, inode, (status & ~kOpenDirect) | kOpenReadOnly);
  auto writer = MakeRef<PipeFile>(pipe, path, inode, status | kOpenWriteOnly);
  reader->set_description(PipeName(ino));
  writer->set_description(PipeName(ino));
  return {std::move(reader), std::move(writer)};
}

}  // namespace caisson::vfs
