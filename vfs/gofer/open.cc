// Donated descriptors.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vfs/gofer/file.h"
#include "vfs/gofer/inode.h"

namespace caisson::vfs {

namespace gp = caisson::gofer;

namespace {

// A hostile gofer must not make us wait on a pipe, or write to what is no file.
bool IsRegularFile(int fd) {
  struct stat st;
  return syscall(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode);
}

}  // namespace

GoferHostFile::~GoferHostFile() {
  if (writer_of_ != nullptr) writer_of_->WriterGone(*this);
}

Result<UniqueFd> GoferInode::OpenHost(uint32_t access, uint32_t flags) {
  gp::OpenRequest request = {};
  request.access = access;
  request.flags = flags;
  Snapshot begin = Begin();
  GoferCallResult r = TRY(gofer().CallOn(*this, gp::kLocateKeep, gp::Op::kOpen, request));
  TRY(r.status);
  gp::WireAttributes wire;
  if (!gp::Reader(r.body).Take(&wire) || !IsPlausible(wire) || !r.fd.valid() ||
      !IsRegularFile(r.fd.get()))
    return Errno::kEIO;
  TakeAttributes(wire, begin);
  return std::move(r.fd);
}

Result<RefPtr<GoferHostFile>> GoferInode::ReadFile() {
  {
    MutexLock lock(file_mu_);
    if (read_file_) return read_file_;
  }
  const uint64_t epoch = file_epoch();
  UniqueFd fd = TRY(OpenHost(gp::kAccessRead, 0));
  auto file = MakeRef<GoferHostFile>(nullptr, std::move(fd));
  {
    MutexLock lock(file_mu_);
    // Opened before a change that may have had the host copy the file: serves this open only.
    if (file_epoch() != epoch) return file;
    read_file_ = file;
  }
  gofer().KeepOpen(*this);
  return file;
}

Result<RefPtr<GoferHostFile>> GoferInode::WriteFile() {
  RefPtr<GoferHostFile> file;
  {
    MutexLock lock(file_mu_);
    if (write_file_ != nullptr && write_file_->TryIncRef())
      return RefPtr<GoferHostFile>::Adopt(write_file_);
    if (created_file_) {
      file = std::move(created_file_);
      write_file_ = file.get();
      return file;
    }
  }
  SetOwnChange();
  UniqueFd fd = TRY(OpenHost(gp::kAccessRead | gp::kAccessWrite, 0));
  DropReadFile();
  file = MakeRef<GoferHostFile>(this, std::move(fd));
  MutexLock lock(file_mu_);
  // Another open may have come first.
  if (write_file_ != nullptr && write_file_->TryIncRef())
    return RefPtr<GoferHostFile>::Adopt(write_file_);
  write_file_ = file.get();
  return file;
}

Result<RefPtr<GoferHostFile>> GoferInode::DirectFile(uint32_t access) {
  UniqueFd fd = TRY(OpenHost(access, gp::kOpenDirectIo));
  if ((access & gp::kAccessWrite) != 0) DropReadFile();
  return MakeRef<GoferHostFile>(nullptr, std::move(fd));
}

Result<UniqueFd> GoferInode::LockFile() {
  if (!gofer().read_only()) {
    Result<UniqueFd> fd = OpenHost(gp::kAccessRead | gp::kAccessWrite, 0);
    DropReadFile();
    if (fd.ok()) return fd;
  }
  return OpenHost(gp::kAccessRead, 0);
}

Result<void> GoferInode::TakeCreatedFile(UniqueFd fd) {
  if (!is_regular() || !IsRegularFile(fd.get())) return Errno::kEIO;
  auto file = MakeRef<GoferHostFile>(this, std::move(fd));
  MutexLock lock(file_mu_);
  created_file_ = std::move(file);
  return {};
}

void GoferInode::WriterGone(GoferHostFile& file) {
  SetOwnChange();
  {
    MutexLock lock(file_mu_);
    if (write_file_ == &file) write_file_ = nullptr;
  }
  Invalidate(false);
}

void GoferInode::DropReadFile() {
  RefPtr<GoferHostFile> dropped;  // Closed outside the lock.
  MutexLock lock(file_mu_);
  dropped = std::move(read_file_);
  file_epoch_.fetch_add(1, std::memory_order_acq_rel);
}

void GoferInode::EvictReadFile() {
  RefPtr<GoferHostFile> dropped;
  MutexLock lock(file_mu_);
  dropped = std::move(read_file_);
}

Result<RefPtr<FileDescription>> GoferInode::Open(CallContext& ctx, const OpenArgs& args) {
  if (is_directory())
    return RefPtr<FileDescription>(MakeRef<GoferDirectoryFile>(args, *this));
  // FIFOs and devices were opened by vfs/open.cc: the host's nodes are places for the sentry's.
  if (!is_regular()) return Errno::kENXIO;
  const uint32_t mode = args.flags & kOpenAccessMode;
  RefPtr<GoferHostFile> file;
  const uint64_t epoch = file_epoch();
  if (mode == kOpenReadOnly) {
    file = TRY(ReadFile());
    // What Create() left for the first open is not wanted.
    RefPtr<GoferHostFile> unused;
    MutexLock lock(file_mu_);
    unused = std::move(created_file_);
  } else {
    file = TRY(WriteFile());
  }
  auto description = MakeRef<GoferFile>(args, *this, std::move(file), epoch);
  if ((args.flags & kOpenDirect) != 0) TRY(description->SetStatusFlags(ctx, args.flags));
  return RefPtr<FileDescription>(std::move(description));
}

}  // namespace caisson::vfs
