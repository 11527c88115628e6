#include "vfs/gofer/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "vfs/bounce_buffer.h"

namespace caisson::vfs {

namespace gp = caisson::gofer;

namespace {

ssize_t HostRead(int fd, char* to, size_t n, uint64_t offset, uint32_t rwf) {
  if (rwf == 0) return pread(fd, to, n, static_cast<off_t>(offset));
  iovec iov{to, n};
  return preadv2(fd, &iov, 1, static_cast<off_t>(offset), static_cast<int>(rwf));
}

ssize_t HostWrite(int fd, const char* from, size_t n, uint64_t offset, uint32_t rwf) {
  if (rwf == 0) return pwrite(fd, from, n, static_cast<off_t>(offset));
  iovec iov{const_cast<char*>(from), n};
  return pwritev2(fd, &iov, 1, static_cast<off_t>(offset), static_cast<int>(rwf));
}

}  // namespace

GoferFile::GoferFile(const OpenArgs& args, GoferInode& inode, RefPtr<GoferHostFile> file,
                     uint64_t epoch)
    : SeekableFile(FileKind::kRegular, args.path, RefPtr<Inode>(&inode), args.flags),
      file_(std::move(file)),
      mapped_epoch_(epoch) {
  inode.Pin();
}

GoferFile::~GoferFile() { gofer_inode().Unpin(); }

RefPtr<GoferHostFile> GoferFile::current() const {
  if ((flags() & kOpenDirect) == 0) return file_;
  MutexLock lock(mu_);
  return direct_ ? direct_ : file_;
}

uint32_t GoferFile::HostFlags(uint32_t rwf) const {
  uint32_t host = rwf & (kRwfHipri | kRwfDsync | kRwfSync | kRwfNowait);
  if ((flags() & kOpenSync) == kOpenSync) {
    host |= kRwfSync;
  } else if ((flags() & kOpenDsync) != 0) {
    host |= kRwfDsync;
  }
  return host;
}

Result<void> GoferFile::SetStatusFlags(CallContext& ctx, uint32_t flags) {
  if ((flags & kOpenDirect) != 0) {
    bool have;
    {
      MutexLock lock(mu_);
      have = static_cast<bool>(direct_);
    }
    if (!have) {
      RefPtr<GoferHostFile> direct = TRY(
          gofer_inode().DirectFile(writable() ? gp::kAccessRead | gp::kAccessWrite
                                              : gp::kAccessRead));
      MutexLock lock(mu_);
      direct_ = std::move(direct);
    }
  }
  return FileDescription::SetStatusFlags(ctx, flags);
}

Result<size_t> GoferFile::PRead(CallContext&, IoBuffer& to, uint64_t offset, uint32_t rwf) {
  RefPtr<GoferHostFile> file = current();
  const uint32_t host_flags = rwf & (kRwfHipri | kRwfNowait);
  gofer_inode().SetRead();
  size_t done = 0;
  if (absl::Span<char> direct = to.Direct(); !direct.empty()) {
    ssize_t n = HostRead(file->fd(), direct.data(), direct.size(), offset, host_flags);
    if (n < 0) return FromHostErrno(errno);
    to.Skip(static_cast<size_t>(n));
    return static_cast<size_t>(n);
  }
  CAISSON_BOUNCE_BUFFER(bounce, to.remaining());
  while (to.remaining() > 0) {
    const size_t want = std::min(to.remaining(), bounce.size());
    ssize_t n = HostRead(file->fd(), bounce.data(), want, offset + done, host_flags);
    if (n < 0) {
      if (done > 0) return done;
      return FromHostErrno(errno);
    }
    if (n == 0) break;
    Result<size_t> put = to.Put(absl::Span<const char>(bounce.data(), n));
    if (!put.ok()) {
      if (done > 0) return done;
      return put.error();
    }
    done += *put;
    if (*put < static_cast<size_t>(n) || static_cast<size_t>(n) < want) break;
  }
  return done;
}

Result<size_t> GoferFile::WriteAt(IoBuffer& from, uint64_t offset, uint32_t rwf, bool append) {
  RefPtr<GoferHostFile> file = current();
  const uint32_t host_flags = HostFlags(rwf) | (append ? kRwfAppend : 0);
  CAISSON_BOUNCE_BUFFER(bounce, from.remaining());
  size_t done = 0;
  while (from.remaining() > 0) {
    const char* data;
    size_t size;
    absl::Span<char> direct = from.Direct();
    if (!direct.empty()) {
      data = direct.data();
      size = direct.size();
    } else {
      Result<size_t> taken = from.Take(
          absl::Span<char>(bounce.data(), std::min(from.remaining(), bounce.size())));
      if (!taken.ok()) {
        if (done > 0) return done;
        return taken.error();
      }
      data = bounce.data();
      size = *taken;
    }
    if (size == 0) break;
    ssize_t n = HostWrite(file->fd(), data, size, append ? 0 : offset + done, host_flags);
    const size_t written = n < 0 ? 0 : static_cast<size_t>(n);
    if (!direct.empty()) {
      from.Skip(written);
    } else {
      from.Rewind(size - written);
    }
    if (n < 0) {
      if (done > 0) return done;
      return FromHostErrno(errno);
    }
    done += written;
    if (written < size) break;
  }
  return done;
}

Result<size_t> GoferFile::PWrite(CallContext&, IoBuffer& from, uint64_t offset, uint32_t rwf) {
  return WriteAt(from, offset, rwf, (rwf & kRwfAppend) != 0);
}

Result<size_t> GoferFile::Append(CallContext&, IoBuffer& from, uint32_t rwf, uint64_t* end) {
  // Guest memory may fault while the lock is held: nothing that a fault needs is taken after it.
  MutexLock lock(gofer_inode().append_mu());
  size_t done = TRY(WriteAt(from, 0, rwf, true));
  // Host processes that append at the same moment could make this too large.
  off_t size = lseek(file_->fd(), 0, SEEK_END);
  if (size < 0) return FromHostErrno(errno);
  *end = static_cast<uint64_t>(size);
  return done;
}

Result<int64_t> GoferFile::SeekExtent(CallContext&, int64_t offset, bool hole) {
  // The host's offset of the descriptor is not used for anything else.
  off_t at = lseek(file_->fd(), offset, hole ? SEEK_HOLE : SEEK_DATA);
  if (at < 0) return FromHostErrno(errno);
  return static_cast<int64_t>(at);
}

Result<HostMapping> GoferFile::Map(CallContext&, uint64_t offset, uint64_t length, bool shared,
                                   bool write) {
  if (offset > INT64_MAX || length > INT64_MAX - offset) return Errno::kEOVERFLOW;
  HostMapping mapping;
  mapping.offset = offset;
  if (shared && writable()) {
    // file_ reads and writes, whatever the guest opened it for.
    mapping.host_fd = file_->fd();
    return mapping;
  }
  if (shared && write) return Errno::kEACCES;
  mapping.writable = false;
  const uint64_t epoch = gofer_inode().file_epoch();
  {
    MutexLock lock(mu_);
    if (mapped_epoch_ == epoch) {
      if (!mapped_.empty()) {
        mapping.host_fd = mapped_.back()->fd();
        return mapping;
      }
      if (!writable()) {
        mapping.host_fd = file_->fd();
        return mapping;
      }
    }
  }
  RefPtr<GoferHostFile> fresh = TRY(gofer_inode().ReadFile());
  MutexLock lock(mu_);
  mapped_epoch_ = epoch;
  mapping.host_fd = fresh->fd();
  if (mapped_.empty() || mapped_.back() != fresh.get()) mapped_.push_back(std::move(fresh));
  return mapping;
}

Result<void> GoferFile::Sync(CallContext&, bool data_only) {
  int result = data_only ? fdatasync(file_->fd()) : fsync(file_->fd());
  if (result != 0) return FromHostErrno(errno);
  return {};
}

Result<void> GoferFile::Allocate(CallContext&, int mode, uint64_t offset, uint64_t length) {
  if (offset > INT64_MAX || length > INT64_MAX - offset) return Errno::kEFBIG;
  if (fallocate(file_->fd(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0)
    return FromHostErrno(errno);
  return {};
}

}  // namespace caisson::vfs
