#include "platform/trap/patch_image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "platform/trap/patch_scan.h"
#include "platform/trap/slot.h"

namespace caisson::platform::trap {
namespace {

// The stubs' first bytes are the addresses of the trampoline's entries. Then one of these a site:
//   lea r11, [rip + record]
//   jmp [rip + entry]
//   (padding) record
// or the same in twice the size behind the instructions that a site has between `mov` and `syscall`; or, for sites with a hop, of twice the size:
//   rdgsbase r11
//   mov rcx, gs:[Slot::minus_self]
//   lea rcx, [rcx + r11]
//   jrcxz slot
//   syscall                        kEscape: gs base is the guest's own, or the call is not for us.
//   lea rcx, [rip + behind site]
//   jmp behind site
//  slot:
//   lea rcx, [rip + record]
//   jmp [rip + entry]
//   (padding) record
constexpr size_t kStubSize = 32;
constexpr size_t kTableSize =
    (Trampoline::kEntries * sizeof(uint64_t) + kStubSize - 1) / kStubSize * kStubSize;
constexpr size_t kRecordOffset = 16;
constexpr size_t kLeaSize = 7, kJmpSize = 6;
constexpr size_t kLongStubSize = 2 * kStubSize, kLongRecordOffset = 48, kHopSlot = PatchImage::kEscapedEnd;
static_assert(kRecordOffset + sizeof(SiteRecord) <= kStubSize);
static_assert(kLongRecordOffset + sizeof(SiteRecord) <= kLongStubSize);
static_assert(kMaxCarried + kLeaSize + kJmpSize <= kLongRecordOffset);
static_assert(kHopSlot + kLeaSize + kJmpSize <= kLongRecordOffset);
static_assert(kLongRecordOffset - PatchImage::kEscape == kRecordToEscape);
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

bool IsLong(const PatchImage::Site& site) { return site.hop || site.carried != 0; }

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

void PatchImage::EmitStub(const Site& site, absl::Span<const char> carried, uint64_t stub) {
  const size_t record_offset = IsLong(site) ? kLongRecordOffset : kRecordOffset;
  const uint64_t record = stub + record_offset;
  char* const start = At(stub);
  char* at = std::copy(carried.begin(), carried.end(), start);
  const uint64_t code = stub + carried.size();
  const auto lea = static_cast<int32_t>(record - code - kLeaSize);
  const auto jmp = static_cast<int32_t>(
      static_cast<int64_t>(EntryFor(site.number) * sizeof(uint64_t)) -
      static_cast<int64_t>(code + kLeaSize + kJmpSize));
  std::memcpy(at, "\x4c\x8d\x1d", 3);
  std::memcpy(at + 3, &lea, sizeof(lea));
  std::memcpy(at + kLeaSize, "\xff\x25", 2);
  std::memcpy(at + kLeaSize + 2, &jmp, sizeof(jmp));
  at += kLeaSize + kJmpSize;
  std::memset(at, 0xcc, record_offset - static_cast<size_t>(at - start));
  // Distances between stubs and file, at whatever address both are.
  const int64_t behind_site = static_cast<int64_t>(site.file_offset + kSyscallSize) - delta_;
  const SiteRecord r{site.number, static_cast<int32_t>(behind_site - static_cast<int64_t>(record))};
  std::memcpy(start + record_offset, &r, sizeof(r));
}

void PatchImage::EmitHopStub(const Site& site, uint64_t stub) {
  char* const start = At(stub);
  char* at = start;
  auto put = [&at](const char* bytes, size_t n) {
    std::memcpy(at, bytes, n);
    at += n;
  };
  // A displacement to `to`, an offset as of the stubs.
  auto displacement = [&](int64_t to) {
    const auto d = static_cast<int32_t>(to - static_cast<int64_t>(stub) - (at - start) - 4);
    std::memcpy(at, &d, sizeof(d));
    at += sizeof(d);
  };
  const int64_t behind_site = static_cast<int64_t>(site.file_offset + kSyscallSize) - delta_;
  const auto record = static_cast<int64_t>(stub + kLongRecordOffset);
  const uint32_t minus_self = offsetof(Slot, minus_self);
  put("\xf3\x49\x0f\xae\xcb", 5);
  put("\x65\x48\x8b\x0c\x25", 5);
  put(reinterpret_cast<const char*>(&minus_self), sizeof(minus_self));
  put("\x4a\x8d\x0c\x19", 4);
  const char jrcxz[2] = {static_cast<char>(0xe3), static_cast<char>(kHopSlot - kEscape)};
  put(jrcxz, sizeof(jrcxz));
  CHECK(at - start == kEscape);
  put("\x0f\x05", kSyscallSize);
  CHECK(at - start == kEscapedAt);
  put("\x48\x8d\x0d", 3);
  displacement(behind_site);
  put("\xe9", 1);
  displacement(behind_site);
  CHECK(at - start == kHopSlot);
  put("\x48\x8d\x0d", 3);
  displacement(record);
  put("\xff\x25", 2);
  displacement(static_cast<int64_t>(kHopEntry * sizeof(uint64_t)));
  std::memset(at, 0xcc, kLongStubSize - static_cast<size_t>(at - start));
  const SiteRecord r{0, static_cast<int32_t>(behind_site - record)};
  std::memcpy(start + kLongRecordOffset, &r, sizeof(r));
}

// Returns its offset.
uint64_t PatchImage::AddStubLocked(const Site& site, absl::Span<const char> carried) {
  const uint64_t stub = StubOffset(stubs_.size());
  if (site.hop) {
    EmitHopStub(site, stub);
  } else {
    EmitStub(site, carried, stub);
  }
  for (size_t i = 0; i < (IsLong(site) ? kLongStubSize : kStubSize); i += kStubSize)
    stubs_.push_back({site, stub});
  sites_.insert(site.file_offset);
  return stub;
}

uint64_t PatchImage::AddPageLocked(const char* page) {
  const uint64_t offset = used_pages_++ * kPageSize;
  std::memcpy(At(offset), page, kPageSize);
  return offset;
}

Result<PatchImage::Page> PatchImage::AddSite(const Site& found) {
  if (found.file_offset >= kMaxFileOffset || !IsPatchableCall(found.number)) return Errno::kENOENT;
  const uint64_t page = PageRoundDown(found.file_offset);
  const size_t at = found.file_offset - page;
  MutexLock lock(mu_);
  auto known = pages_.find(page);
  if (sites_.count(found.file_offset) != 0) return Page{page, known->second.newest};
  if (used_pages_ + 2 > kMaxPages || stubs_.size() + 2 > kMaxSites) return Errno::kENOSPC;
  char copy[kPageSize];
  if (known != pages_.end()) {
    std::memcpy(copy, At(known->second.newest), kPageSize);
  } else if (!ReadPage(source_, page, copy)) {
    return Errno::kENOENT;
  }
  const std::optional<SitePlan> plan = PlanSite(copy, at, found.number);
  if (!plan) return Errno::kENOENT;
  const uint64_t jump = page + plan->jump;
  auto edit = [&](uint64_t offset, uint8_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Edit& e = edits_[offset];
    e.size = size;
    std::memcpy(e.original.data(), &copy[offset - page], size);
  };
  edit(jump, kJumpSize);
  if (plan->hop) edit(found.file_offset, kSyscallSize);
  const uint64_t stub = AddStubLocked({found.file_offset, found.number, plan->hop, plan->carried},
                                      {copy + at - plan->carried, plan->carried});
  PatchSite(absl::MakeSpan(copy), at, *plan,
            static_cast<int32_t>(delta_ + static_cast<int64_t>(stub) -
                                 static_cast<int64_t>(jump + kJumpSize)));
  Copies& copies = pages_[page];
  copies.newest = AddPageLocked(copy);
  if (plan->hop) {
    hops_[jump] = stub;
    for (auto e = edits_.lower_bound(page); e != edits_.end() && e->first < page + kPageSize; ++e) {
      if (hops_.count(e->first) == 0)
        std::memcpy(&copy[e->first - page], e->second.original.data(), e->second.size);
    }
    copies.hops = AddPageLocked(copy);
  }
  return Page{page, copies.newest};
}

std::vector<PatchImage::Page> PatchImage::Pages(uint64_t from, uint64_t to) const {
  std::vector<Page> out;
  MutexLock lock(mu_);
  for (auto it = pages_.lower_bound(from); it != pages_.end() && it->first < to; ++it)
    out.push_back({it->first, it->second.newest});
  return out;
}

std::optional<uint64_t> PatchImage::WithHopsOnly(uint64_t page) const {
  MutexLock lock(mu_);
  auto known = pages_.find(page);
  if (known == pages_.end() || known->second.hops == 0) return std::nullopt;
  return known->second.hops;
}

void PatchImage::Overlay(uint64_t from, absl::Span<char> bytes) const {
  const uint64_t to = from + bytes.size();
  MutexLock lock(mu_);
  for (auto e = edits_.lower_bound(from - std::min<uint64_t>(from, kJumpSize));
       e != edits_.end() && e->first < to; ++e) {
    for (size_t i = 0; i < e->second.size; ++i) {
      const uint64_t at = e->first + i;
      if (at >= from && at < to) bytes[at - from] = e->second.original[i];
    }
  }
}

Result<PatchImage::Stub> PatchImage::SiteOfStub(uint64_t offset) const {
  MutexLock lock(mu_);
  if (offset < kTableSize || (offset - kTableSize) / kStubSize >= stubs_.size())
    return Errno::kENOENT;
  return stubs_[(offset - kTableSize) / kStubSize];
}

Result<PatchImage::Stub> PatchImage::SiteOfHop(uint64_t file_offset) const {
  MutexLock lock(mu_);
  auto hop = hops_.find(file_offset);
  if (hop == hops_.end()) return Errno::kENOENT;
  return stubs_[(hop->second - kTableSize) / kStubSize];
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
