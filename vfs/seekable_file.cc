#include "vfs/file_description.h"
#include "vfs/inode.h"

namespace caisson::vfs {
namespace {

constexpr int kSigxfsz = 25;
constexpr int kSeekSet = 0, kSeekCur = 1, kSeekEnd = 2, kSeekData = 3, kSeekHole = 4;

}  // namespace

Result<void> LimitWrite(CallContext& ctx, uint64_t position, IoBuffer& from) {
  if (from.remaining() == 0) return {};
  const uint64_t limit = ctx.file_size_limit();
  if (limit <= INT64_MAX) {
    if (position >= limit) {
      ctx.SendSignal(kSigxfsz);
      return Errno::kEFBIG;
    }
    from.Truncate(std::min<uint64_t>(from.remaining(), limit - position));
  }
  if (position >= INT64_MAX) return Errno::kEFBIG;
  from.Truncate(std::min<uint64_t>(from.remaining(), INT64_MAX - position));
  return {};
}

Result<size_t> SeekableFile::Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) {
  MutexLock lock(position_mu_);
  size_t n = TRY(PRead(ctx, to, static_cast<uint64_t>(position_), rwf));
  position_ += static_cast<int64_t>(n);
  return n;
}

Result<size_t> SeekableFile::Write(CallContext& ctx, IoBuffer& from, uint32_t rwf) {
  MutexLock lock(position_mu_);
  if (((flags() & kOpenAppend) != 0 || (rwf & kRwfAppend) != 0) && kind() == FileKind::kRegular) {
    if (ctx.file_size_limit() <= INT64_MAX) {
      Attributes attr = TRY(GetAttributes(ctx));
      TRY(LimitWrite(ctx, attr.size, from));
    }
    uint64_t end = 0;
    size_t n = TRY(Append(ctx, from, rwf, &end));
    if (n != 0) position_ = static_cast<int64_t>(end);
    return n;
  }
  if (kind() == FileKind::kRegular)
    TRY(LimitWrite(ctx, static_cast<uint64_t>(position_), from));
  size_t n = TRY(PWrite(ctx, from, static_cast<uint64_t>(position_), rwf));
  position_ += static_cast<int64_t>(n);
  return n;
}

Result<size_t> SeekableFile::PAppend(CallContext& ctx, IoBuffer& from, uint32_t rwf) {
  if (ctx.file_size_limit() <= INT64_MAX) {
    Attributes attr = TRY(GetAttributes(ctx));
    TRY(LimitWrite(ctx, attr.size, from));
  }
  uint64_t end = 0;
  return Append(ctx, from, rwf, &end);
}

Result<size_t> SeekableFile::Append(CallContext& ctx, IoBuffer& from, uint32_t rwf,
                                    uint64_t* end) {
  Attributes attr = TRY(GetAttributes(ctx));
  size_t n = TRY(PWrite(ctx, from, attr.size, rwf));
  *end = attr.size + n;
  return n;
}

Result<int64_t> SeekableFile::SeekExtent(CallContext& ctx, int64_t offset, bool hole) {
  Attributes attr = TRY(GetAttributes(ctx));
  if (offset < 0 || static_cast<uint64_t>(offset) >= attr.size) return Errno::kENXIO;
  return hole ? static_cast<int64_t>(attr.size) : offset;
}

Result<int64_t> SeekableFile::Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) {
  constexpr uint32_t kFionread = 0x541B;
  if (request != kFionread || kind() != FileKind::kRegular) return Errno::kENOTTY;
  Attributes attr = TRY(GetAttributes(ctx));
  int64_t position;
  {
    MutexLock lock(position_mu_);
    position = position_;
  }
  // An int, as Linux truncates it (fs/ioctl.c, file_ioctl()).
  TRY(ctx.CopyOutObject(GuestAddr(arg), static_cast<int32_t>(
                                            static_cast<int64_t>(attr.size) - position)));
  return int64_t{0};
}

// generic_file_llseek().
Result<int64_t> SeekableFile::Seek(CallContext& ctx, int64_t offset, int whence) {
  MutexLock lock(position_mu_);
  int64_t base = 0;
  switch (whence) {
    case kSeekSet:
      break;
    case kSeekCur:
      base = position_;
      break;
    case kSeekEnd: {
      Attributes attr = TRY(GetAttributes(ctx));
      base = static_cast<int64_t>(attr.size);
      break;
    }
    case kSeekData:
    case kSeekHole:
      offset = TRY(SeekExtent(ctx, offset, whence == kSeekHole));
      break;
    default:
      return Errno::kEINVAL;
  }
  int64_t position = 0;
  if (__builtin_add_overflow(base, offset, &position) || position < 0) return Errno::kEINVAL;
  position_ = position;
  return position;
}

}  // namespace caisson::vfs
