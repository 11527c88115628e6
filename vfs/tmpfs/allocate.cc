// fallocate(2) of regular files.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/guest_addr.h"
#include "vfs/tmpfs/regular_file.h"

namespace caisson::vfs::tmpfs {
namespace {

constexpr int kKeepSize = 1, kPunchHole = 2;  // FALLOC_FL_*.
constexpr int kSigxfsz = 25;
// What the host allocates at a time: some milliseconds, after which a caller that was killed is let go.
constexpr uint64_t kAllocateStep = uint64_t{8} << 20;
// So many holes that a failed call has filled become holes again; the rest stays filled.
constexpr size_t kMostUndone = 65536;

Result<void> HostAllocate(int fd, int mode, uint64_t start, uint64_t end) {
  while (fallocate(fd, mode, static_cast<off_t>(start), static_cast<off_t>(end - start)) != 0)
    if (errno != EINTR) return FromHostErrno(errno);
  return {};
}

}  // namespace

// shmem_fallocate().
Result<void> RegularFile::Allocate(CallContext& ctx, int mode, uint64_t offset, uint64_t length) {
  if (length == 0) return Errno::kEINVAL;
  if ((mode & ~(kKeepSize | kPunchHole)) != 0) return Errno::kEOPNOTSUPP;
  if ((mode & kPunchHole) != 0 && (mode & kKeepSize) == 0) return Errno::kEOPNOTSUPP;
  if (offset > INT64_MAX || length > INT64_MAX - offset) return Errno::kEFBIG;
  const uint64_t end = offset + length;
  MutexLock lock(mu_);
  AwaitAllocationLocked();
  if ((mode & kPunchHole) != 0) {
    if ((seals_ & (kSealWrite | kSealFutureWrite)) != 0) return Errno::kEPERM;
    if (memfd_.valid()) {
      dense_ = false;
      TRY(PunchHoleLocked(offset, end));
      SyncChargeLocked();
    } else if (offset < small_size_) {
      memset(small_.get() + offset, 0, std::min<uint64_t>(end, small_size_) - offset);
    }
    TouchModifiedLocked();
    return {};
  }
  // Both checks are those of a larger size, also where the size is kept.
  if (end > size() && (seals_ & kSealGrow) != 0) return Errno::kEPERM;
  if (end > size() && end > ctx.file_size_limit()) {
    ctx.SendSignal(kSigxfsz);
    return Errno::kEFBIG;
  }
  const bool grows = (mode & kKeepSize) == 0 && end > size();
  if (!memfd_.valid() && end <= kSmall && (grows || end <= size())) {
    if (!GrowSmallLocked(end)) return Errno::kENOSPC;
  } else {
    TRY(MakeHostFileLocked());
    dense_ = false;
    TRY(AllocateHostLocked(ctx, offset, end));
    if (grows && ftruncate(memfd_.get(), static_cast<off_t>(end)) != 0)
      return FromHostErrno(errno);
  }
  if (grows) size_.store(end, std::memory_order_release);
  TouchModifiedLocked();
  return {};
}

Result<void> RegularFile::PunchHoleLocked(uint64_t start, uint64_t end) {
  return HostAllocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end);
}

std::vector<RegularFile::Range> RegularFile::HolesLocked(uint64_t start, uint64_t end) {
  std::vector<Range> holes;
  uint64_t at = PageRoundDown(start);
  while (at < end && holes.size() < kMostUndone) {
    const off_t data = lseek(memfd_.get(), static_cast<off_t>(at), SEEK_DATA);
    const uint64_t to = data < 0 ? end : std::min(static_cast<uint64_t>(data), end);
    if (to > at) holes.push_back({at, PageRoundUp(to)});
    if (to == end) break;
    const off_t hole = lseek(memfd_.get(), data, SEEK_HOLE);
    if (hole <= data) break;
    // The file's end counts as a hole, also within a page.
    at = PageRoundUp(static_cast<uint64_t>(hole));
  }
  return holes;
}

std::optional<RegularFile::Reservation> RegularFile::ReserveLocked(uint64_t start, uint64_t end) {
  const uint64_t first = PageRoundDown(start);
  const uint64_t pages = (end - first - 1) / kPageSize + 1;
  Reservation out{.end = end};
  if (fs_.ChargePages(pages)) {
    charged_ += pages;
    return out;
  }
  const uint64_t available = fs_.AvailablePages();
  if (available != 0 && available < pages && fs_.ChargePages(available)) {
    charged_ += available;
    out.end = first + available * kPageSize;
    return out;
  }
  out.end = std::min(end, first + kPageSize);
  if (lseek(memfd_.get(), static_cast<off_t>(first), SEEK_DATA) == static_cast<off_t>(first))
    return out;
  // Only a try tells. It could not be told from what guests store meanwhile, nor undone.
  if (shared_for_writing_) return std::nullopt;
  out.unpaid = first;
  out.pages = HostPagesLocked();
  out.paid = false;
  return out;
}

bool RegularFile::SettleLocked(const Reservation& reserved) {
  const bool fits = reserved.paid || HostPagesLocked() <= reserved.pages;
  if (!fits) (void)PunchHoleLocked(reserved.unpaid, reserved.unpaid + kPageSize);
  SyncChargeLocked();
  return fits;
}

Result<void> RegularFile::AllocateHostLocked(CallContext& ctx, uint64_t start, uint64_t end) {
  // What cannot be had is not begun. Some of it may be there.
  if ((end - start) / kPageSize > fs_.AvailablePages() + charged_) return Errno::kENOSPC;
  const std::vector<Range> holes = HolesLocked(start, end);
  const int fd = memfd_.get();  // It stays as long as the file.
  Result<void> result;
  uint64_t at = start;
  allocating_ = true;
  // All of it is charged first, if it may be new; else piece by piece, as far as there is room.
  Reservation whole{.end = start};
  if (std::optional<Reservation> all = ReserveLocked(start, end); all && all->paid) whole = *all;
  while (at < end && result.ok()) {
    std::optional<Reservation> part = whole;
    if (at >= whole.end) part = ReserveLocked(at, std::min(end, at + kAllocateStep));
    if (!part) result = Errno::kENOSPC;
    if (!part) break;
    const uint64_t to = std::min(part->end, at + kAllocateStep);
    mu_.Unlock();
    if (ctx.IsEnding()) {
      result = Errno::kEINTR;
    } else if (!fs_.HasRoom((to - at) / kPageSize)) {
      result = Errno::kENOSPC;
    } else {
      result = HostAllocate(fd, FALLOC_FL_KEEP_SIZE, at, to);
    }
    mu_.Lock();
    if (to >= whole.end && !SettleLocked(*part) && result.ok()) result = Errno::kENOSPC;
    if (result.ok()) at = to;
  }
  // What guests have written into the new pages through a mapping is data that must stay.
  if (!result.ok() && !shared_for_writing_) {
    const uint64_t done = PageRoundUp(at);
    for (const Range& hole : holes)
      if (hole.start < done) (void)PunchHoleLocked(hole.start, std::min(hole.end, done));
  }
  allocating_ = false;
  SyncChargeLocked();
  allocated_.Broadcast();
  return result;
}

}  // namespace caisson::vfs::tmpfs
