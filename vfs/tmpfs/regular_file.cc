#include "vfs/tmpfs/regular_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "vfs/tmpfs/file.h"
#include "vfs/tmpfs/window_cache.h"

namespace caisson::vfs::tmpfs {
namespace {

constexpr uint64_t kPage = 4096;

uint64_t Pages(uint64_t bytes) { return bytes / kPage + (bytes % kPage != 0 ? 1 : 0); }

Result<size_t> HostWrite(int fd, absl::Span<const char> from, uint64_t offset) {
  size_t done = 0;
  while (done < from.size()) {
    ssize_t n = pwrite(fd, from.data() + done, from.size() - done,
                       static_cast<off_t>(offset + done));
    if (n < 0) {
      if (errno == EINTR) continue;
      if (done != 0) break;
      return FromHostErrno(errno);
    }
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

}  // namespace

RegularFile::RegularFile(TmpfsFileSystem& fs, FileMode mode, uint32_t uid, uint32_t gid,
                         uint32_t seals)
    : Node(fs, kModeRegular | (mode & kModePermissions), uid, gid), seals_(seals) {}

RegularFile::~RegularFile() {
  MutexLock lock(mu_);
  if (in_windows_) WindowCache::Get().Forget(this);
  fs_.UnchargePages(charged_);
}

Result<RefPtr<FileDescription>> RegularFile::Open(CallContext& ctx, const OpenArgs& args) {
  return RefPtr<FileDescription>(
      MakeRef<File>(args.path, RefPtr<RegularFile>(this), args.flags));
}

void RegularFile::FillLocked(Attributes& attr) {
  if (memfd_.valid() && !dense_ && !allocating_) SyncChargeLocked();
  attr.size = size();
  attr.blocks = charged_ * (kPage / 512);
}

uint64_t RegularFile::HostPagesLocked() {
  struct stat st;
  if (fstat(memfd_.get(), &st) != 0) return charged_;
  return static_cast<uint64_t>(st.st_blocks) * 512 / kPage;
}

void RegularFile::SyncChargeLocked() {
  const uint64_t pages = HostPagesLocked();
  if (pages < charged_) {
    fs_.UnchargePages(charged_ - pages);
    charged_ = pages;
  } else if (pages > charged_ && fs_.ChargePages(pages - charged_)) {
    // Past the limit only by what guests wrote through mappings, which nobody asks us about.
    charged_ = pages;
  }
}

bool RegularFile::GrowSmallLocked(size_t size) {
  if (size <= small_size_) return true;
  const uint64_t pages = Pages(size);
  if (pages > charged_) {
    if (!fs_.ChargePages(pages - charged_)) return false;
    charged_ = pages;
  }
  if (size > small_capacity_) {
    size_t capacity = std::max<size_t>(small_capacity_ * 2, 64);
    capacity = std::min(std::max(capacity, size), kSmall);
    std::unique_ptr<char[]> larger(new char[capacity]);
    if (small_size_ != 0) memcpy(larger.get(), small_.get(), small_size_);
    small_ = std::move(larger);
    small_capacity_ = capacity;
  }
  memset(small_.get() + small_size_, 0, size - small_size_);
  small_size_ = size;
  return true;
}

Result<void> RegularFile::MakeHostFileLocked() {
  if (memfd_.valid()) return {};
  UniqueFd fd(memfd_create("caisson", MFD_CLOEXEC));
  if (!fd.valid()) return errno == ENOMEM ? Errno::kENOMEM : Errno::kENOSPC;
  if (ftruncate(fd.get(), static_cast<off_t>(size())) != 0) return FromHostErrno(errno);
  const size_t bytes = std::min<uint64_t>(small_size_, size());
  size_t written = TRY(HostWrite(fd.get(), {small_.get(), bytes}, 0));
  if (written != bytes) return Errno::kENOSPC;
  memfd_ = std::move(fd);
  dense_ = Pages(small_size_) == Pages(size());
  small_.reset();
  small_size_ = small_capacity_ = 0;
  host_fd_.store(memfd_.get(), std::memory_order_release);
  return {};
}

Result<size_t> RegularFile::Read(absl::Span<char> to, uint64_t offset) {
  int fd = host_fd_.load(std::memory_order_acquire);
  if (fd < 0) {
    MutexLock lock(mu_);
    if (!memfd_.valid()) {
      const uint64_t end = size();
      if (offset >= end) return size_t{0};
      const size_t n = std::min<uint64_t>(to.size(), end - offset);
      const size_t data = offset < small_size_ ? std::min<size_t>(n, small_size_ - offset) : 0;
      if (data != 0) memcpy(to.data(), small_.get() + offset, data);
      memset(to.data() + data, 0, n - data);
      return n;
    }
    fd = memfd_.get();
  }
  size_t done = 0;
  while (done < to.size()) {
    ssize_t n = pread(fd, to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
    if (n < 0) {
      if (errno == EINTR) continue;
      if (done != 0) break;
      return FromHostErrno(errno);
    }
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

size_t RegularFile::ReadByHost(IoBuffer& to, uint64_t offset) {
  int fd;
  {
    MutexLock lock(mu_);
    // A hole that is read through a mapping becomes a page.
    if (!memfd_.valid() || !dense_) return 0;
    fd = memfd_.get();
    in_windows_ = true;
  }
  size_t done = 0;
  for (;;) {
    const uint64_t at = offset + done, end = size();
    if (at >= end || to.remaining() == 0) break;
    WindowCache::View view = WindowCache::Get().Map(this, fd, at);
    const size_t want = std::min<uint64_t>({view.bytes().size(), end - at, to.remaining()});
    const size_t n = to.PutByHost(view.bytes().first(want));
    done += n;
    if (n == 0 || n < want) break;
  }
  return done;
}

Result<size_t> RegularFile::Write(absl::Span<const char> from, const uint64_t* offset,
                                  uint64_t* at) {
  MutexLock lock(mu_);
  AwaitAllocationLocked();
  const uint64_t start = offset != nullptr ? *offset : size();
  *at = start;
  if (from.empty()) return size_t{0};
  if (start >= INT64_MAX || from.size() > INT64_MAX - start) return Errno::kEFBIG;
  if ((seals_ & (kSealWrite | kSealFutureWrite)) != 0) return Errno::kEPERM;
  const uint64_t end = start + from.size();
  if ((seals_ & kSealGrow) != 0 && end > size()) return Errno::kEPERM;
  if (!memfd_.valid() && end > kSmall) TRY(MakeHostFileLocked());
  Result<size_t> n = memfd_.valid() ? WriteHostLocked(from, start) : WriteSmallLocked(from, start);
  if (!n.ok() || *n == 0) return n;
  if (start + *n > size()) size_.store(start + *n, std::memory_order_release);
  TouchModifiedLocked();
  return n;
}

Result<size_t> RegularFile::WriteSmallLocked(absl::Span<const char> from, uint64_t offset) {
  size_t n = from.size();
  if (!GrowSmallLocked(offset + n)) {
    // As much as the pages charged already, and those still free, take.
    const uint64_t room = (charged_ + fs_.AvailablePages()) * kPage;
    if (room <= offset) return Errno::kENOSPC;
    n = std::min<uint64_t>(n, room - offset);
    if (!GrowSmallLocked(offset + n)) return Errno::kENOSPC;
  }
  memcpy(small_.get() + offset, from.data(), n);
  return n;
}

Result<size_t> RegularFile::WriteHostLocked(absl::Span<const char> from, uint64_t offset) {
  size_t n = from.size();
  const uint64_t pages_now = Pages(size());
  if (offset > pages_now * kPage) dense_ = false;
  if (!dense_) return WriteHolesLocked(from, offset);
  auto new_pages_for = [&](size_t bytes) {
    return std::max(Pages(offset + bytes), pages_now) - pages_now;
  };
  uint64_t new_pages = new_pages_for(n);
  if (new_pages != 0 && !fs_.ChargePages(new_pages)) {
    // What is left of the page that `offset` is in may hold data already.
    const uint64_t within = offset % kPage;
    const bool in_data = within != 0 && new_pages_for(1) == 0;
    const uint64_t room = (fs_.AvailablePages() + (in_data ? 1 : 0)) * kPage;
    if (room <= within) return Errno::kENOSPC;
    n = std::min<uint64_t>(n, room - within);
    new_pages = new_pages_for(n);
    if (new_pages != 0 && !fs_.ChargePages(new_pages)) return Errno::kENOSPC;
  }
  charged_ += new_pages;
  Result<size_t> written = HostWrite(memfd_.get(), from.first(n), offset);
  if (!written.ok() || *written != n) dense_ = false;
  if (!dense_) SyncChargeLocked();
  return written;
}

Result<size_t> RegularFile::WriteHolesLocked(absl::Span<const char> from, uint64_t offset) {
  size_t done = 0;
  while (done < from.size()) {
    const std::optional<Reservation> part = ReserveLocked(offset + done, offset + from.size());
    if (!part) return done != 0 ? Result<size_t>(done) : Errno::kENOSPC;
    const size_t want = part->end - (offset + done);
    Result<size_t> n = HostWrite(memfd_.get(), from.subspan(done, want), offset + done);
    if (!SettleLocked(*part)) n = Errno::kENOSPC;
    if (!n.ok()) return done != 0 ? Result<size_t>(done) : n;
    done += *n;
    if (*n < want) break;
  }
  return done;
}

Result<void> RegularFile::ResizeLocked(uint64_t new_size) {
  AwaitAllocationLocked();
  const uint64_t old = size();
  if (new_size > INT64_MAX) return Errno::kEFBIG;
  if (new_size == old) return {};
  if (new_size < old && (seals_ & kSealShrink) != 0) return Errno::kEPERM;
  if (new_size > old && (seals_ & kSealGrow) != 0) return Errno::kEPERM;
  if (memfd_.valid()) {
    while (ftruncate(memfd_.get(), static_cast<off_t>(new_size)) != 0)
      if (errno != EINTR) return FromHostErrno(errno);
    if (new_size > old) {
      if (Pages(new_size) != Pages(old)) dense_ = false;
    } else if (dense_) {
      const uint64_t kept = std::min(charged_, Pages(new_size));
      fs_.UnchargePages(charged_ - kept);
      charged_ = kept;
    } else {
      SyncChargeLocked();
    }
  } else if (new_size < small_size_) {
    small_size_ = new_size;
    fs_.UnchargePages(charged_ - Pages(new_size));
    charged_ = Pages(new_size);
    if (new_size == 0) {
      small_.reset();
      small_capacity_ = 0;
    }
  }
  size_.store(new_size, std::memory_order_release);
  TouchModifiedLocked();
  return {};
}

Result<int64_t> RegularFile::SeekExtent(int64_t offset, bool hole) {
  MutexLock lock(mu_);
  const uint64_t end = size();
  if (offset < 0 || static_cast<uint64_t>(offset) >= end) return Errno::kENXIO;
  if (memfd_.valid()) {
    off_t found = lseek(memfd_.get(), offset, hole ? SEEK_HOLE : SEEK_DATA);
    if (found < 0) return FromHostErrno(errno);
    return static_cast<int64_t>(found);
  }
  const uint64_t data_end = std::min(Pages(small_size_) * kPage, end);
  const bool in_data = static_cast<uint64_t>(offset) < data_end;
  if (!hole) return in_data ? Result<int64_t>(offset) : Errno::kENXIO;
  return in_data ? static_cast<int64_t>(data_end) : offset;
}

Result<int> RegularFile::HostFd(bool for_shared_writing) {
  MutexLock lock(mu_);
  if (for_shared_writing) AwaitAllocationLocked();
  if (for_shared_writing && (seals_ & (kSealWrite | kSealFutureWrite)) != 0) return Errno::kEPERM;
  TRY(MakeHostFileLocked());
  if (for_shared_writing) {
    dense_ = false;  // The guest fills holes without asking.
    shared_for_writing_ = true;
  }
  return memfd_.get();
}

bool RegularFile::SealedAgainstWrites() {
  MutexLock lock(mu_);
  return (seals_ & (kSealWrite | kSealFutureWrite)) != 0;
}

Result<void> RegularFile::CheckModeLocked(FileMode mode) {
  if ((seals_ & kSealExec) != 0 && ((mode ^ mode_) & 0111) != 0) return Errno::kEPERM;
  return {};
}

// memfd_add_seals().
Result<void> RegularFile::AddSeals(uint32_t seals) {
  if ((seals & ~uint32_t{kSealSeal | kSealShrink | kSealGrow | kSealWrite | kSealFutureWrite |
                         kSealExec}) != 0)
    return Errno::kEINVAL;
  MutexLock lock(mu_);
  AwaitAllocationLocked();
  if ((seals_ & kSealSeal) != 0) return Errno::kEPERM;
  if ((seals & kSealExec) != 0 && (mode_ & 0111) != 0)
    seals |= kSealShrink | kSealGrow | kSealWrite | kSealFutureWrite;
  if ((seals & kSealWrite) != 0 && (seals_ & kSealWrite) == 0 && writable_mappings() > 0)
    return Errno::kEBUSY;
  seals_ |= seals;
  return {};
}

Result<uint32_t> RegularFile::GetSeals() {
  MutexLock lock(mu_);
  return seals_;
}

}  // namespace caisson::vfs::tmpfs
