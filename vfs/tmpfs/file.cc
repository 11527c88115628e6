#include "vfs/tmpfs/file.h"

#include "vfs/bounce_buffer.h"
#include "vfs/dentry.h"

namespace caisson::vfs::tmpfs {
namespace {

// Reads from here on are one copy by the host where they can be: below it, pages that have to be found twice
// cost more than the bytes.
constexpr uint64_t kByHost = uint64_t{64} << 10;

}  // namespace

File::File(VfsPath path, RefPtr<RegularFile> node, uint32_t flags)
    : SeekableFile(FileKind::kRegular, std::move(path), node, flags), node_(*node) {}

Result<size_t> File::PRead(CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t rwf) {
  size_t done = 0;
  const uint64_t size = node_.size();
  if (offset < size && to.remaining() != 0) {
    if (absl::Span<char> direct = to.Direct(); !direct.empty()) {
      done = TRY(node_.Read(direct, offset));
      to.Skip(done);
    } else {
      const uint64_t want = std::min<uint64_t>(to.remaining(), size - offset);
      if (want >= kByHost) done = node_.ReadByHost(to, offset);
      CAISSON_BOUNCE_BUFFER(bounce, want - done);
      while (to.remaining() != 0 && done < want) {
        Result<size_t> n = node_.Read(bounce.first(to.remaining()), offset + done);
        if (!n.ok() && done == 0) return n.error();
        if (!n.ok() || *n == 0) break;
        Result<size_t> put = to.Put({bounce.data(), *n});
        if (!put.ok() && done == 0) return put.error();
        if (put.ok()) done += *put;
        if (!put.ok() || *put < *n) break;
      }
    }
  }
  node_.TouchAtime(*this);
  return done;
}

Result<size_t> File::WriteAt(IoBuffer& from, const uint64_t* offset, uint64_t* end) {
  size_t done = 0;
  uint64_t at = 0;
  uint64_t next = offset != nullptr ? *offset : 0;
  if (absl::Span<char> direct = from.Direct(); !direct.empty()) {
    done = TRY(node_.Write(direct, offset, &at));
    *end = at + done;
    from.Skip(done);
    return done;
  }
  CAISSON_BOUNCE_BUFFER(bounce, from.remaining());
  while (from.remaining() != 0) {
    Result<size_t> taken = from.Take(bounce.first(from.remaining()));
    if (!taken.ok() && done == 0) return taken.error();
    if (!taken.ok() || *taken == 0) break;
    // Each piece of an append goes to what is then the end.
    Result<size_t> n = node_.Write({bounce.data(), *taken}, offset != nullptr ? &next : nullptr,
                                   &at);
    if (!n.ok()) {
      from.Rewind(*taken);
      if (done == 0) return n.error();
      break;
    }
    done += *n;
    next = at + *n;
    *end = next;
    if (*n < *taken) {
      from.Rewind(*taken - *n);
      break;
    }
  }
  return done;
}

Result<size_t> File::PWrite(CallContext& ctx, IoBuffer& from, uint64_t offset, uint32_t rwf) {
  uint64_t end = 0;
  return WriteAt(from, &offset, &end);
}

Result<size_t> File::Append(CallContext& ctx, IoBuffer& from, uint32_t rwf, uint64_t* end) {
  return WriteAt(from, nullptr, end);
}

Result<int64_t> File::SeekExtent(CallContext& ctx, int64_t offset, bool hole) {
  return node_.SeekExtent(offset, hole);
}

// shmem_mmap().
Result<HostMapping> File::Map(CallContext& ctx, uint64_t offset, uint64_t length, bool shared,
                              bool write) {
  if (!readable() || (shared && write && !writable())) return Errno::kEACCES;
  HostMapping mapping;
  // One that may become writable later counts as writable now.
  mapping.writable = writable() && !(shared && node_.SealedAgainstWrites());
  if (shared && write && !mapping.writable) return Errno::kEPERM;
  mapping.host_fd = TRY(node_.HostFd(shared && mapping.writable));
  mapping.offset = offset;
  return mapping;
}

Result<void> File::Allocate(CallContext& ctx, int mode, uint64_t offset, uint64_t length) {
  if (!writable()) return Errno::kEBADF;
  return node_.Allocate(ctx, mode, offset, length);
}

DirectoryFile::DirectoryFile(VfsPath path, RefPtr<Directory> node, uint32_t flags)
    : FileDescription(FileKind::kDirectory, std::move(path), node, flags), node_(*node) {}

Result<int64_t> DirectoryFile::Seek(CallContext& ctx, int64_t offset, int whence) {
  MutexLock lock(mu_);
  int64_t position = offset;
  if (whence == 1) {
    if (__builtin_add_overflow(position_, offset, &position)) return Errno::kEINVAL;
  } else if (whence != 0) {
    return Errno::kEINVAL;
  }
  if (position < 0) return Errno::kEINVAL;
  position_ = position;
  return position;
}

Result<void> DirectoryFile::Iterate(CallContext& ctx, DirectorySink& sink) {
  MutexLock lock(mu_);
  if (position_ == 0) {
    end_cookie_ = node_.next_cookie();
    if (!sink.Add(".", node_.ino(), kModeDirectory, 1)) return {};
    position_ = 1;
  }
  if (end_cookie_ == 0) end_cookie_ = node_.next_cookie();  // Positioned by lseek(2) first.
  if (position_ == 1) {
    uint64_t ino = node_.ino();
    RefPtr<Dentry> parent = path() ? path().dentry->parent() : nullptr;
    if (parent != nullptr) {
      Result<Attributes> attr = parent->inode_ptr()->GetAttributes(ctx);
      if (attr.ok()) ino = attr->ino;
    }
    if (!sink.Add("..", ino, kModeDirectory, 2)) return {};
    position_ = 2;
  }
  for (;;) {
    std::vector<Directory::EntryInfo> batch =
        node_.List(static_cast<uint64_t>(position_), end_cookie_, 128);
    if (batch.empty()) break;
    for (const Directory::EntryInfo& e : batch) {
      const auto next = static_cast<int64_t>(e.cookie + 1);
      if (!sink.Add(e.name, e.ino, e.type, next)) return {};
      position_ = next;
    }
  }
  return {};
}

}  // namespace caisson::vfs::tmpfs
