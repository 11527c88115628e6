// Open files and directories of generated trees.
#include <algorithm>

#include "vfs/dentry.h"
#include "vfs/proc/inode.h"

namespace caisson::vfs::proc {
namespace {

constexpr int kSeekSet = 0, kSeekCur = 1;
// Positions in a directory: ".", "..", the table's rows, and from here on a dynamic name's cookie.
constexpr int64_t kFirstRow = 2;
constexpr int64_t kFirstCookie = 4096;

}  // namespace

GeneratedFile::GeneratedFile(const OpenArgs& args, RefPtr<GeneratedInode> inode,
                             RefPtr<Object> object)
    : SeekableFile(FileKind::kGenerated, args.path, inode, args.flags),
      entry_(inode->entry()),
      object_(std::move(object)) {}

Result<size_t> GeneratedFile::PRead(CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t) {
  if (entry_.read == nullptr) return Errno::kEINVAL;
  MutexLock lock(content_mu_);
  if (!made_ || offset == 0) {
    RefPtr<const auth::Credentials> by = opener();
    content_ = TRY(entry_.read(ctx, *object_, by ? *by : ctx.creds()));
    made_ = true;
  }
  if (offset >= content_.size()) return size_t{0};
  return to.Put({content_.data() + offset, content_.size() - static_cast<size_t>(offset)});
}

Result<size_t> GeneratedFile::PWrite(CallContext& ctx, IoBuffer& from, uint64_t offset, uint32_t) {
  if (entry_.write == nullptr) return Errno::kEINVAL;
  const size_t size = from.remaining();
  if (size > kMaxWrite) return Errno::kEINVAL;
  std::string data(size, '\0');
  size_t taken = TRY(from.Take(absl::Span<char>(data.data(), data.size())));
  if (taken != size) return Errno::kEFAULT;
  RefPtr<const auth::Credentials> by = opener();
  TRY(entry_.write(ctx, *object_, data, offset, by ? *by : ctx.creds()));
  return size;
}

// seq_lseek(): from the start or from here.
Result<int64_t> GeneratedFile::Seek(CallContext& ctx, int64_t offset, int whence) {
  if (whence != kSeekSet && whence != kSeekCur) return Errno::kEINVAL;
  return SeekableFile::Seek(ctx, offset, whence);
}

GeneratedDirectory::GeneratedDirectory(const OpenArgs& args, RefPtr<GeneratedInode> inode)
    : FileDescription(FileKind::kDirectory, args.path, std::move(inode), args.flags) {}

Result<void> GeneratedDirectory::Iterate(CallContext& ctx, DirectorySink& sink) {
  if (!directory().object().Exists()) return Errno::kENOENT;
  MutexLock lock(mu_);  // The sink writes to sentry memory only.
  int64_t position = position_;
  Result<void> done = Emit(ctx, sink, &position);
  position_ = position;
  return done;
}

Result<void> GeneratedDirectory::Emit(CallContext& ctx, DirectorySink& sink,
                                      int64_t* position) const {
  GeneratedInode& dir = directory();
  const Directory& table = *dir.entry().directory;
  auto add = [&](absl::string_view name, uint64_t ino, FileMode mode, int64_t next) {
    if (!sink.Add(name, ino, mode & kModeType, next)) return false;
    *position = next;
    return true;
  };
  if (*position == 0 && !add(".", dir.ino(), kModeDirectory, 1)) return {};
  if (*position == 1) {
    uint64_t ino = dir.ino();
    if (path().dentry != nullptr)
      if (RefPtr<Dentry> parent = path().dentry->parent(); parent && parent->inode_ptr() != nullptr)
        ino = static_cast<GeneratedInode*>(parent->inode_ptr())->ino();
    if (!add("..", ino, kModeDirectory, kFirstRow)) return {};
  }
  const auto rows = static_cast<int64_t>(table.entries.size());
  while (*position < kFirstRow + rows) {
    const Entry& e = table.entries[static_cast<size_t>(*position - kFirstRow)];
    if (!add(e.name, dir.ChildNumber(e.name), e.mode, *position + 1)) return {};
  }
  if (table.list == nullptr) return {};
  const auto from = static_cast<uint64_t>(std::max<int64_t>(*position - kFirstCookie, 0));
  return table.list(ctx, dir.object(), from,
                    [&](absl::string_view name, const Entry& entry, uint64_t cookie) {
                      return add(name, dir.ChildNumber(name), entry.mode,
                                 kFirstCookie + static_cast<int64_t>(cookie) + 1);
                    });
}

Result<int64_t> GeneratedDirectory::Seek(CallContext&, int64_t offset, int whence) {
  MutexLock lock(mu_);
  if (whence != kSeekSet && whence != kSeekCur) return Errno::kEINVAL;
  int64_t position = 0;
  if (__builtin_add_overflow(whence == kSeekCur ? position_ : 0, offset, &position) ||
      position < 0)
    return Errno::kEINVAL;
  position_ = position;
  return position;
}

Result<size_t> GeneratedDirectory::Read(CallContext&, IoBuffer&, uint32_t) {
  return Errno::kEISDIR;
}

}  // namespace caisson::vfs::proc
