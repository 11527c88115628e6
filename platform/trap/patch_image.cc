#include "platform/trap/patch_image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "platform/trap/patch_scan.h"

namespace caisson::platform::trap {
namespace {

// The stubs' first bytes are the addresses of the trampoline's entries. Then one of these a site:
//   lea r11, [rip + record]
//   jmp [rip + entry]
//   (padding) record
constexpr size_t kStubSize = 32;
constexpr size_t kTableSize =
    (Trampoline::kEntries * sizeof(uint64_t) + kStubSize - 1) / kStubSize * kStubSize;
constexpr size_t kRecordOffset = 16;
constexpr size_t kLeaSize = 7, kJmpSize = 6;
static_assert(sizeof(SiteRecord) <= kStubSize - kRecordOffset);
constexpr size_t kMaxSites = (PatchImage::kStubBytes - kTableSize) / kStubSize;
constexpr unsigned kMfdExec = 0x10;  // Linux 6.3; without it a sysctl may forbid execution.
constexpr int kSealFutureWrite = 0x0010;

constexpr uint64_t StubOffset(size_t index) { return kTableSize + index * kStubSize; }

bool ReadPage(int fd, uint64_t offset, char* page) {
  size_t done = 0;
  while (done < kPageSize) {
    const ssize_t n = pread(fd, page + done, kPageSize - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    if (n == 0) break;  // The last page's rest is zeros.
    done += static_cast<size_t>(n);
  }
  std::memset(page + done, 0, kPageSize - done);
  return done > 0;
}

bool IsDeleted(int fd) {
  struct stat st;
  return fstat(fd, &st) != 0 || st.st_nlink == 0;
}

int64_t Nanoseconds(const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

}  // namespace

Result<std::unique_ptr<PatchImage>> PatchImage::Create(int source, int64_t delta,
                                                       const Trampoline& trampoline) {
  UniqueFd fd(memfd_create("patched", MFD_CLOEXEC | MFD_ALLOW_SEALING | kMfdExec));
  if (!fd.valid()) fd.reset(memfd_create("patched", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  constexpr size_t kSize = kMaxPages * kPageSize;
  if (!fd.valid() || ftruncate(fd.get(), kSize) != 0) return FromHostErrno(errno);
  void* p = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (p == MAP_FAILED) return FromHostErrno(errno);
  stub::SharedMapping mapping(p, kSize);
  if (fcntl(fd.get(), F_ADD_SEALS, kSealFutureWrite | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return FromHostErrno(errno);
  std::memcpy(p, trampoline.entries.data(), sizeof(trampoline.entries));
  return std::unique_ptr<PatchImage>(
      new PatchImage(source, delta, std::move(fd), std::move(mapping)));
}

// Returns the jump's offset from behind the site's `mov`.
int32_t PatchImage::AddStubLocked(const Site& site) {
  const uint64_t stub = StubOffset(stubs_.size());
  const uint64_t record = stub + kRecordOffset;
  // Distances between stubs and file, at whatever address both are.
  const int64_t behind_site = static_cast<int64_t>(site.file_offset) + 2;
  const int64_t behind_mov = static_cast<int64_t>(site.file_offset);
  char* at = At(stub);
  const auto lea = static_cast<int32_t>(kRecordOffset - kLeaSize);
  const auto jmp = static_cast<int32_t>(
      static_cast<int64_t>(EntryFor(site.number) * sizeof(uint64_t)) -
      static_cast<int64_t>(stub + kLeaSize + kJmpSize));
  std::memcpy(at, "\x4c\x8d\x1d", 3);
  std::memcpy(at + 3, &lea, sizeof(lea));
  std::memcpy(at + kLeaSize, "\xff\x25", 2);
  std::memcpy(at + kLeaSize + 2, &jmp, sizeof(jmp));
  std::memset(at + kLeaSize + kJmpSize, 0xcc, kRecordOffset - kLeaSize - kJmpSize);
  const SiteRecord r{site.number,
                     static_cast<int32_t>(behind_site - (delta_ + static_cast<int64_t>(record)))};
  std::memcpy(at + kRecordOffset, &r, sizeof(r));
  sites_[site.file_offset] = stubs_.size();
  stubs_.push_back(site);
  return static_cast<int32_t>(delta_ + static_cast<int64_t>(stub) - behind_mov);
}

Result<PatchImage::Page> PatchImage::AddSite(const Site& site) {
  if (site.file_offset >= kMaxFileOffset || !IsPatchableCall(site.number)) return Errno::kENOENT;
  const uint64_t page = PageRoundDown(site.file_offset);
  const size_t at = site.file_offset - page;
  MutexLock lock(mu_);
  auto known = pages_.find(page);
  if (sites_.count(site.file_offset) != 0) return Page{page, known->second};
  if (used_pages_ == kMaxPages || stubs_.size() == kMaxSites) return Errno::kENOSPC;
  char copy[kPageSize];
  if (known != pages_.end()) {
    std::memcpy(copy, At(known->second), kPageSize);
  } else if (!ReadPage(source_, page, copy)) {
    return Errno::kENOENT;
  }
  if (!IsPatchableSite(copy, at, site.number)) return Errno::kENOENT;
  PatchSite(copy, at, AddStubLocked(site));
  const uint64_t image_offset = used_pages_++ * kPageSize;
  std::memcpy(At(image_offset), copy, kPageSize);
  pages_[page] = image_offset;
  return Page{page, image_offset};
}

std::vector<PatchImage::Page> PatchImage::Pages(uint64_t from, uint64_t to) const {
  std::vector<Page> out;
  MutexLock lock(mu_);
  for (auto it = pages_.lower_bound(from); it != pages_.end() && it->first < to; ++it)
    out.push_back({it->first, it->second});
  return out;
}

std::vector<PatchImage::Site> PatchImage::Sites(uint64_t from, uint64_t to) const {
  std::vector<Site> out;
  MutexLock lock(mu_);
  for (auto it = sites_.lower_bound(from); it != sites_.end() && it->first < to; ++it)
    out.push_back(stubs_[it->second]);
  return out;
}

Result<PatchImage::Site> PatchImage::SiteOfStub(uint64_t offset) const {
  MutexLock lock(mu_);
  if (offset < kTableSize || (offset - kTableSize) / kStubSize >= stubs_.size())
    return Errno::kENOENT;
  return stubs_[(offset - kTableSize) / kStubSize];
}

PatchImage* PatchFile::image(bool above, bool make) {
  MutexLock lock(mu_);
  std::unique_ptr<PatchImage>& image = images_[above ? 1 : 0];
  if (image == nullptr && make) {
    Result<std::unique_ptr<PatchImage>> made = PatchImage::Create(
        fd_.get(), above ? PatchImage::kDelta : -PatchImage::kDelta, trampoline_);
    if (made.ok()) image = std::move(made).value();
    else LOG_INFO("no patched image: ", ErrnoName(made.error()));
  }
  return image.get();
}

PatchCache::PatchCache(const Trampoline& trampoline) : trampoline_(trampoline) {
  if (!enabled()) return;
  UniqueFd memory(memfd_create("device", MFD_CLOEXEC));
  struct stat st;
  if (memory.valid() && fstat(memory.get(), &st) == 0) memory_device_ = st.st_dev;
}

std::shared_ptr<PatchFile> PatchCache::Get(int fd) {
  struct stat st;
  if (!enabled() || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_dev == memory_device_)
    return nullptr;
  const Key key{st.st_dev, st.st_ino, st.st_size, Nanoseconds(st.st_mtim), Nanoseconds(st.st_ctim)};
  MutexLock lock(mu_);
  auto known = files_.find(key);
  if (known != files_.end()) return known->second;
  // Nobody's files go if they have been deleted, whose space we would hold, or if room is needed.
  const bool full = files_.size() >= kMaxFiles;
  for (auto it = files_.begin(); it != files_.end();) {
    const bool unused = it->second.use_count() == 1;
    it = unused && (full || IsDeleted(it->second->fd())) ? files_.erase(it) : std::next(it);
  }
  if (files_.size() >= kMaxFiles) return nullptr;
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return nullptr;
  return files_[key] = std::make_shared<PatchFile>(std::move(copy), trampoline_);
}

}  // namespace caisson::platform::trap
