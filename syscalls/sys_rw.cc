// read(2), write(2) and their kin.
#include <algorithm>
#include <memory>

#include "syscalls/handlers.h"
#include "syscalls/io.h"
#include "vfs/pipe/splice.h"

namespace caisson::syscalls {
namespace {

Result<RefPtr<vfs::FileDescription>> Readable(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (!file->readable()) return Errno::kEBADF;
  return file;
}
Result<RefPtr<vfs::FileDescription>> Writable(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (!file->writable()) return Errno::kEBADF;
  return file;
}

SyscallResult PReadBuffer(Task& task, vfs::FileDescription& file, IoBuffer& to, int64_t offset,
                          uint32_t rwf) {
  if (offset < 0) return Errno::kEINVAL;
  return static_cast<int64_t>(TRY(vfs::FilePRead(task, file, to, static_cast<uint64_t>(offset), rwf)));
}
SyscallResult PWriteBuffer(Task& task, vfs::FileDescription& file, IoBuffer& from, int64_t offset,
                           uint32_t rwf) {
  if (offset < 0) return Errno::kEINVAL;
  return static_cast<int64_t>(TRY(vfs::FilePWrite(task, file, from, static_cast<uint64_t>(offset), rwf)));
}

// access_ok(): an address range that wraps or reaches beyond user space faults before any work.
Result<uint64_t> CheckLength(GuestAddr buffer, uint64_t length) {
  if (static_cast<int64_t>(length) < 0) return Errno::kEINVAL;
  constexpr uint64_t kTaskSize = 0x7ffffffff000;
  if (length > kTaskSize || buffer.value > kTaskSize - length) return Errno::kEFAULT;
  return std::min(length, kMaxRwCount);
}

constexpr uint32_t kKnownRwf = vfs::kRwfHipri | vfs::kRwfDsync | vfs::kRwfSync | vfs::kRwfNowait | vfs::kRwfAppend;

}  // namespace

SyscallResult Read(Task& task, Fd fd, GuestAddr buffer, uint64_t count) {
  RefPtr<vfs::FileDescription> file = TRY(Readable(task, fd));
  mm::GuestIoBuffer to(task.memory(), buffer, TRY(CheckLength(buffer, count)));
  return ReadFully(task, *file, to);
}

SyscallResult Write(Task& task, Fd fd, GuestAddr buffer, uint64_t count) {
  RefPtr<vfs::FileDescription> file = TRY(Writable(task, fd));
  mm::GuestIoBuffer from(task.memory(), buffer, TRY(CheckLength(buffer, count)));
  return WriteFully(task, *file, from);
}

SyscallResult Pread64(Task& task, Fd fd, GuestAddr buffer, uint64_t count, int64_t offset) {
  if (offset < 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> file = TRY(Readable(task, fd));
  mm::GuestIoBuffer to(task.memory(), buffer, TRY(CheckLength(buffer, count)));
  return PReadBuffer(task, *file, to, offset, 0);
}

SyscallResult Pwrite64(Task& task, Fd fd, GuestAddr buffer, uint64_t count, int64_t offset) {
  if (offset < 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> file = TRY(Writable(task, fd));
  mm::GuestIoBuffer from(task.memory(), buffer, TRY(CheckLength(buffer, count)));
  return PWriteBuffer(task, *file, from, offset, 0);
}

SyscallResult Readv(Task& task, Fd fd, GuestAddr vec, uint64_t count) {
  RefPtr<vfs::FileDescription> file = TRY(Readable(task, fd));
  mm::GuestIoBuffer to(task.memory(), TRY(ReadIoVec(task, vec, count)));
  return ReadFully(task, *file, to);
}

SyscallResult Writev(Task& task, Fd fd, GuestAddr vec, uint64_t count) {
  RefPtr<vfs::FileDescription> file = TRY(Writable(task, fd));
  mm::GuestIoBuffer from(task.memory(), TRY(ReadIoVec(task, vec, count)));
  return WriteFully(task, *file, from);
}

SyscallResult Preadv(Task& task, Fd fd, GuestAddr vec, uint64_t count, int64_t offset) {
  if (offset < 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> file = TRY(Readable(task, fd));
  mm::GuestIoBuffer to(task.memory(), TRY(ReadIoVec(task, vec, count)));
  return PReadBuffer(task, *file, to, offset, 0);
}

SyscallResult Pwritev(Task& task, Fd fd, GuestAddr vec, uint64_t count, int64_t offset) {
  if (offset < 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> file = TRY(Writable(task, fd));
  mm::GuestIoBuffer from(task.memory(), TRY(ReadIoVec(task, vec, count)));
  return PWriteBuffer(task, *file, from, offset, 0);
}

SyscallResult Preadv2(Task& task, Fd fd, GuestAddr vec, uint64_t count, int64_t offset, uint64_t,
                      Flags flags) {
  RefPtr<vfs::FileDescription> file = TRY(Readable(task, fd));
  if ((flags.value & ~kKnownRwf) != 0) return Errno::kEOPNOTSUPP;
  mm::GuestIoBuffer to(task.memory(), TRY(ReadIoVec(task, vec, count)));
  if (offset == -1) return ReadFully(task, *file, to, flags.value);
  return PReadBuffer(task, *file, to, offset, flags.value);
}

SyscallResult Pwritev2(Task& task, Fd fd, GuestAddr vec, uint64_t count, int64_t offset, uint64_t,
                       Flags flags) {
  RefPtr<vfs::FileDescription> file = TRY(Writable(task, fd));
  if ((flags.value & ~kKnownRwf) != 0) return Errno::kEOPNOTSUPP;
  mm::GuestIoBuffer from(task.memory(), TRY(ReadIoVec(task, vec, count)));
  if (offset == -1) return WriteFully(task, *file, from, flags.value);
  return PWriteBuffer(task, *file, from, offset, flags.value);
}

SyscallResult Lseek(Task& task, Fd fd, int64_t offset, int32_t whence) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  constexpr int kSeekHole = 4;
  if (whence < 0 || whence > kSeekHole) return Errno::kEINVAL;
  return file->Seek(task, offset, whence);
}

namespace {

// Moves up to `count` bytes from `in` to `out` through a buffer of the sentry. Negative offsets
// are the file positions. What was read and could not be written is given back to the position.
Result<int64_t> CopyBetween(Task& task, vfs::FileDescription& in, int64_t* in_offset,
                            vfs::FileDescription& out, int64_t* out_offset, uint64_t count) {
  constexpr size_t kChunk = 64 << 10;  // Below malloc's mmap threshold; most calls move less.
  const auto chunk = std::make_unique_for_overwrite<char[]>(kChunk);
  int64_t total = 0;
  while (count != 0) {
    SpanBuffer to(absl::Span<char>(chunk.get(), std::min<uint64_t>(count, kChunk)));
    Result<size_t> got = in_offset != nullptr
                             ? vfs::FilePRead(task, in, to, static_cast<uint64_t>(*in_offset), 0)
                             : [&]() -> Result<size_t> {
                                 Result<int64_t> n = ReadFully(task, in, to);
                                 if (!n.ok()) return n.error();
                                 return static_cast<size_t>(*n);
                               }();
    if (!got.ok()) {
      if (total != 0) return total;
      return got.error();
    }
    if (*got == 0) break;
    if (task.IsKilled()) break;  // Gigabytes take a while.
    SpanBuffer from = SpanBuffer::ForWrite({chunk.get(), *got});
    Result<int64_t> put = int64_t{0};
    if (out_offset != nullptr) {
      Result<size_t> n = vfs::FilePWrite(task, out, from, static_cast<uint64_t>(*out_offset), 0);
      put = n.ok() ? Result<int64_t>(static_cast<int64_t>(*n)) : Result<int64_t>(n.error());
    } else {
      put = WriteFully(task, out, from);
    }
    int64_t written = put.ok() ? *put : 0;
    if (in_offset != nullptr) *in_offset += written;
    else if (static_cast<size_t>(written) < *got) (void)in.Seek(task, written - static_cast<int64_t>(*got), 1);
    if (out_offset != nullptr) *out_offset += written;
    total += written;
    count -= static_cast<uint64_t>(written);
    if (!put.ok() && total == 0) return put.error();
    if (static_cast<size_t>(written) < *got) break;
  }
  return total;
}

}  // namespace

SyscallResult Sendfile(Task& task, Fd out_fd, Fd in_fd, InOutPtr<int64_t> offset, uint64_t count) {
  RefPtr<vfs::FileDescription> in = TRY(Readable(task, in_fd));
  RefPtr<vfs::FileDescription> out = TRY(Writable(task, out_fd));
  if ((out->flags() & vfs::kOpenAppend) != 0) return Errno::kEINVAL;
  if (in->kind() != vfs::FileKind::kRegular && in->kind() != vfs::FileKind::kGenerated &&
      in->kind() != vfs::FileKind::kCharDevice)
    return Errno::kEINVAL;
  count = std::min(count, kMaxRwCount);
  if (offset.is_null()) return CopyBetween(task, *in, nullptr, *out, nullptr, count);
  int64_t at = TRY(offset.Read(task));
  if (at < 0) return Errno::kEINVAL;
  int64_t n = TRY(CopyBetween(task, *in, &at, *out, nullptr, count));
  TRY(offset.Write(task, at));
  return n;
}

SyscallResult CopyFileRange(Task& task, Fd in_fd, InOutPtr<int64_t> in_offset, Fd out_fd,
                            InOutPtr<int64_t> out_offset, uint64_t length, Flags flags) {
  if (flags.value != 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> in = TRY(Readable(task, in_fd));
  RefPtr<vfs::FileDescription> out = TRY(Writable(task, out_fd));
  if ((out->flags() & vfs::kOpenAppend) != 0) return Errno::kEBADF;
  if (in->kind() == vfs::FileKind::kDirectory || out->kind() == vfs::FileKind::kDirectory)
    return Errno::kEISDIR;
  if (in->kind() != vfs::FileKind::kRegular || out->kind() != vfs::FileKind::kRegular)
    return Errno::kEINVAL;
  length = std::min(length, kMaxRwCount);
  int64_t in_at = in_offset.is_null() ? TRY(in->Seek(task, 0, 1)) : TRY(in_offset.Read(task));
  int64_t out_at = out_offset.is_null() ? TRY(out->Seek(task, 0, 1)) : TRY(out_offset.Read(task));
  if (in_at < 0 || out_at < 0) return Errno::kEINVAL;
  int64_t end;
  if (__builtin_add_overflow(in_at, static_cast<int64_t>(length), &end) ||
      __builtin_add_overflow(out_at, static_cast<int64_t>(length), &end))
    return Errno::kEOVERFLOW;
  if (in->inode() == out->inode() && in_at < out_at + static_cast<int64_t>(length) &&
      out_at < in_at + static_cast<int64_t>(length))
    return Errno::kEINVAL;
  int64_t n = TRY(CopyBetween(task, *in, &in_at, *out, &out_at, length));
  if (in_offset.is_null()) TRY(in->Seek(task, in_at, 0));
  else TRY(in_offset.Write(task, in_at));
  if (out_offset.is_null()) TRY(out->Seek(task, out_at, 0));
  else TRY(out_offset.Write(task, out_at));
  return n;
}

SyscallResult Splice(Task& task, Fd in_fd, InOutPtr<uint64_t> in_offset, Fd out_fd,
                     InOutPtr<uint64_t> out_offset, uint64_t length, Flags flags) {
  if (length == 0) return 0;
  if ((flags.value & ~vfs::kSpliceAllFlags) != 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> in = TRY(Readable(task, in_fd));
  RefPtr<vfs::FileDescription> out = TRY(Writable(task, out_fd));
  uint64_t in_at = 0, out_at = 0;
  if (!in_offset.is_null()) in_at = TRY(in_offset.Read(task));
  if (!out_offset.is_null()) out_at = TRY(out_offset.Read(task));
  size_t n = TRY(vfs::Splice(task, *in, in_offset.is_null() ? nullptr : &in_at, *out,
                             out_offset.is_null() ? nullptr : &out_at,
                             std::min(length, kMaxRwCount), flags.value));
  if (!in_offset.is_null()) TRY(in_offset.Write(task, in_at));
  if (!out_offset.is_null()) TRY(out_offset.Write(task, out_at));
  return static_cast<int64_t>(n);
}

SyscallResult Tee(Task& task, Fd in_fd, Fd out_fd, uint64_t length, Flags flags) {
  if ((flags.value & ~vfs::kSpliceAllFlags) != 0) return Errno::kEINVAL;
  if (length == 0) return 0;
  RefPtr<vfs::FileDescription> in = TRY(Readable(task, in_fd));
  RefPtr<vfs::FileDescription> out = TRY(Writable(task, out_fd));
  return static_cast<int64_t>(TRY(vfs::Tee(task, *in, *out, std::min(length, kMaxRwCount), flags.value)));
}

SyscallResult Vmsplice(Task& task, Fd fd, GuestAddr vec, uint64_t count, Flags flags) {
  if ((flags.value & ~vfs::kSpliceAllFlags) != 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() != vfs::FileKind::kPipe) return Errno::kEBADF;
  mm::GuestIoBuffer buffer(task.memory(), TRY(ReadIoVec(task, vec, count)));
  uint32_t rwf = (flags.value & vfs::kSpliceNonblock) != 0 ? vfs::kRwfNowait : 0;
  if (file->writable()) return WriteFully(task, *file, buffer, rwf);
  return ReadFully(task, *file, buffer, rwf);
}

SyscallResult Fsync(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  TRY(file->Sync(task, false));
  return 0;
}
SyscallResult Fdatasync(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  TRY(file->Sync(task, true));
  return 0;
}
SyscallResult SyncFileRange(Task& task, Fd fd, int64_t offset, int64_t length, Flags flags) {
  constexpr uint32_t kKnown = 7;
  if ((flags.value & ~kKnown) != 0 || offset < 0 || length < 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() != vfs::FileKind::kRegular) return Errno::kESPIPE;
  TRY(file->Sync(task, true));
  return 0;
}
SyscallResult Sync(Task& task) {
  // Each mounted file system of the caller's namespace.
  (void)task.mount_namespace().root().mount->fs().Sync();
  return 0;
}
SyscallResult Syncfs(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  if (file->inode() != nullptr) TRY(file->inode()->fs().Sync());
  return 0;
}

SyscallResult Fallocate(Task& task, Fd fd, int32_t mode, int64_t offset, int64_t length) {
  if (offset < 0 || length <= 0) return Errno::kEINVAL;
  int64_t end;
  RefPtr<vfs::FileDescription> file = TRY(Writable(task, fd));
  if (__builtin_add_overflow(offset, length, &end)) return Errno::kEFBIG;
  if (file->kind() == vfs::FileKind::kPipe) return Errno::kESPIPE;
  if (file->kind() == vfs::FileKind::kDirectory) return Errno::kEISDIR;
  if (file->kind() != vfs::FileKind::kRegular) return Errno::kENODEV;
  constexpr int kKeepSize = 1;
  if ((mode & kKeepSize) == 0 && static_cast<uint64_t>(end) > task.file_size_limit()) {
    task.SendSignal(signal::kSIGXFSZ);
    return Errno::kEFBIG;
  }
  TRY(file->Allocate(task, mode, static_cast<uint64_t>(offset), static_cast<uint64_t>(length)));
  return 0;
}

SyscallResult Fadvise64(Task& task, Fd fd, int64_t, int64_t length, int32_t advice) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  if (file->kind() == vfs::FileKind::kPipe) return Errno::kESPIPE;
  constexpr int kLastAdvice = 5;
  if (length < 0 || advice < 0 || advice > kLastAdvice) return Errno::kEINVAL;
  return 0;  // Advice: the host's page cache follows access patterns by itself.
}

SyscallResult Readahead(Task& task, Fd fd, int64_t, uint64_t) {
  RefPtr<vfs::FileDescription> file = TRY(Readable(task, fd));
  if (file->kind() != vfs::FileKind::kRegular) return Errno::kEINVAL;
  return 0;
}

}  // namespace caisson::syscalls
