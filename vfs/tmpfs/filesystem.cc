#include "vfs/tmpfs/filesystem.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "vfs/tmpfs/directory.h"

namespace caisson::vfs::tmpfs {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kTmpfsMagic = 0x01021994;
// What an inode and its name take of the sentry's memory.
constexpr uint64_t kInodeBytes = 1024;
constexpr uint64_t kMostPages = uint64_t{1} << 50;

// memparse(): a number with k, m, g, t, p or e.
bool ParseSize(absl::string_view text, uint64_t* value) {
  int shift = 0;
  if (!text.empty()) {
    switch (text.back() | 0x20) {
      case 'k': shift = 10; break;
      case 'm': shift = 20; break;
      case 'g': shift = 30; break;
      case 't': shift = 40; break;
      case 'p': shift = 50; break;
      case 'e': shift = 60; break;
      default: break;
    }
  }
  if (shift != 0) text.remove_suffix(1);
  if (!absl::SimpleAtoi(text, value)) return false;
  if (shift != 0 && *value > (~uint64_t{0} >> shift)) return false;
  *value <<= shift;
  return true;
}

bool ParseOctal(absl::string_view text, FileMode* mode) {
  uint32_t n = 0;
  if (text.empty()) return false;
  for (char c : text) {
    if (c < '0' || c > '7') return false;
    n = n * 8 + static_cast<uint32_t>(c - '0');
    if (n > 0177777) return false;
  }
  *mode = n & kModePermissions;
  return true;
}

// Charges `n` to `used` unless that passes `limit` (0: none).
bool Charge(std::atomic<uint64_t>& used, const std::atomic<uint64_t>& limit, uint64_t n) {
  uint64_t now = used.load(std::memory_order_relaxed);
  do {
    const uint64_t max = limit.load(std::memory_order_relaxed);
    if (n > ~uint64_t{0} - now || (max != 0 && (n > max || now > max - n))) return false;
  } while (!used.compare_exchange_weak(now, now + n, std::memory_order_relaxed));
  return true;
}

}  // namespace

Result<Options> TmpfsFileSystem::Parse(absl::string_view data, const Options& defaults,
                                       uint64_t memory_bytes) {
  Options o = defaults;
  for (absl::string_view item : absl::StrSplit(data, ',', absl::SkipEmpty())) {
    const size_t equals = item.find('=');
    const absl::string_view key = item.substr(0, equals);
    const absl::string_view value =
        equals == absl::string_view::npos ? absl::string_view() : item.substr(equals + 1);
    uint64_t n = 0;
    if (key == "size" && absl::EndsWith(value, "%")) {
      if (!absl::SimpleAtoi(value.substr(0, value.size() - 1), &n) || n > 1000)
        return Errno::kEINVAL;
      o.max_pages = memory_bytes / 100 * n / kPage;
      o.show_size = true;
    } else if (key == "size") {
      if (!ParseSize(value, &n) || n > INT64_MAX) return Errno::kEINVAL;
      o.max_pages = n / kPage + (n % kPage != 0 ? 1 : 0);
      o.show_size = true;
    } else if (key == "nr_blocks") {
      if (!ParseSize(value, &n) || n > INT64_MAX / kPage) return Errno::kEINVAL;
      o.max_pages = n;
      o.show_size = true;
    } else if (key == "nr_inodes") {
      if (!ParseSize(value, &n) || n > INT64_MAX) return Errno::kEINVAL;
      o.max_inodes = n;
      o.show_inodes = true;
    } else if (key == "mode") {
      if (!ParseOctal(value, &o.mode)) return Errno::kEINVAL;
    } else if (key == "uid" || key == "gid") {
      if (!absl::SimpleAtoi(value, &n) || n >= ~uint32_t{0}) return Errno::kEINVAL;
      (key == "uid" ? o.uid : o.gid) = static_cast<uint32_t>(n);
    } else if (key != "huge" && key != "mpol" && key != "inode32" && key != "inode64" &&
               key != "noswap" && key != "rw" && key != "ro") {
      // Those above change nothing that can be seen here.
      return Errno::kEINVAL;
    }
  }
  return o;
}

TmpfsFileSystem::TmpfsFileSystem(absl::string_view type_name, const Options& options,
                                 uint64_t memory_bytes, RefPtr<MemoryAccount> account)
    : FileSystem(type_name),
      memory_bytes_(memory_bytes),
      account_(std::move(account)),
      max_pages_(options.max_pages),
      max_inodes_(options.max_inodes),
      options_(options) {}

TmpfsFileSystem::~TmpfsFileSystem() = default;

Result<RefPtr<TmpfsFileSystem>> TmpfsFileSystem::New(absl::string_view data,
                                                     const Options& defaults,
                                                     uint64_t memory_bytes,
                                                     absl::string_view type_name,
                                                     RefPtr<MemoryAccount> account) {
  Options options = TRY(Parse(data, defaults, memory_bytes));
  return RefPtr<TmpfsFileSystem>::Adopt(
      new TmpfsFileSystem(type_name, options, memory_bytes, std::move(account)));
}

RefPtr<Inode> TmpfsFileSystem::root() {
  MutexLock lock(mu_);
  if (root_ == nullptr) {
    used_inodes_.fetch_add(1, std::memory_order_relaxed);
    if (account_ != nullptr) account_->ChargeAnyway(kInodeBytes);
    root_ = MakeRef<Directory>(*this, options_.mode, options_.uid, options_.gid);
  }
  return root_;
}

void TmpfsFileSystem::OnLastUnmount() {
  RefPtr<Inode> root;
  MutexLock lock(mu_);
  root = std::move(root_);
}

Result<FsStatistics> TmpfsFileSystem::Statistics(CallContext& ctx) {
  FsStatistics s;
  s.type = kTmpfsMagic;
  s.block_size = kPage;
  s.fsid = device().Encode();
  if (uint64_t max = max_pages_.load(std::memory_order_relaxed); max != 0) {
    s.blocks = max;
    s.blocks_free = s.blocks_available =
        max - std::min(max, used_pages_.load(std::memory_order_relaxed));
  }
  if (uint64_t max = max_inodes_.load(std::memory_order_relaxed); max != 0) {
    s.files = max;
    s.files_free = max - std::min(max, used_inodes_.load(std::memory_order_relaxed));
  }
  return s;
}

std::string TmpfsFileSystem::MountOptions() const {
  MutexLock lock(mu_);
  std::string out;
  auto add = [&](const std::string& item) { absl::StrAppend(&out, out.empty() ? "" : ",", item); };
  if (options_.show_size)
    add(absl::StrCat("size=", max_pages_.load(std::memory_order_relaxed) * (kPage / 1024), "k"));
  if (options_.show_inodes)
    add(absl::StrCat("nr_inodes=", max_inodes_.load(std::memory_order_relaxed)));
  if (options_.mode != 01777) {
    std::string octal;
    for (FileMode m = options_.mode; m != 0; m /= 8) octal.insert(0, 1, static_cast<char>('0' + m % 8));
    while (octal.size() < 3) octal.insert(0, 1, '0');
    add("mode=" + octal);
  }
  if (options_.uid != 0) add(absl::StrCat("uid=", options_.uid));
  if (options_.gid != 0) add(absl::StrCat("gid=", options_.gid));
  return out;
}

// shmem_reconfigure(): limits may not go below what is used, nor come from none to some.
Result<void> TmpfsFileSystem::Remount(CallContext& ctx, uint64_t flags, absl::string_view data) {
  MutexLock lock(mu_);
  Options o = TRY(Parse(data, options_, memory_bytes_));
  if (o.max_pages != options_.max_pages) {
    if (options_.max_pages == 0 ||
        (o.max_pages != 0 && used_pages_.load(std::memory_order_relaxed) > o.max_pages))
      return Errno::kEINVAL;
  }
  if (o.max_inodes != options_.max_inodes) {
    if (options_.max_inodes == 0 ||
        (o.max_inodes != 0 && used_inodes_.load(std::memory_order_relaxed) > o.max_inodes))
      return Errno::kEINVAL;
  }
  // The root's mode and owner are those of the first mount.
  o.mode = options_.mode;
  o.uid = options_.uid;
  o.gid = options_.gid;
  options_ = o;
  max_pages_.store(o.max_pages, std::memory_order_relaxed);
  max_inodes_.store(o.max_inodes, std::memory_order_relaxed);
  return {};
}

bool TmpfsFileSystem::ChargePages(uint64_t pages) {
  if (!Charge(used_pages_, max_pages_, pages)) return false;
  if (account_ == nullptr || (pages <= kMostPages && account_->Charge(pages * kPage))) return true;
  used_pages_.fetch_sub(pages, std::memory_order_relaxed);
  return false;
}

void TmpfsFileSystem::UnchargePages(uint64_t pages) {
  used_pages_.fetch_sub(pages, std::memory_order_relaxed);
  if (account_ != nullptr) account_->Uncharge(pages * kPage);
}

uint64_t TmpfsFileSystem::AvailablePages() const {
  const uint64_t max = max_pages_.load(std::memory_order_relaxed);
  const uint64_t used = used_pages_.load(std::memory_order_relaxed);
  uint64_t available = max == 0 ? kMostPages : max > used ? max - used : 0;
  if (account_ != nullptr) available = std::min(available, account_->available() / kPage);
  return available;
}

bool TmpfsFileSystem::HasRoom(uint64_t pages) const {
  return account_ == nullptr || (pages <= kMostPages && account_->HasRoom(pages * kPage));
}

bool TmpfsFileSystem::ChargeInode() {
  if (!Charge(used_inodes_, max_inodes_, 1)) return false;
  if (account_ == nullptr || account_->Charge(kInodeBytes)) return true;
  used_inodes_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void TmpfsFileSystem::UnchargeInode() {
  used_inodes_.fetch_sub(1, std::memory_order_relaxed);
  if (account_ != nullptr) account_->Uncharge(kInodeBytes);
}

}  // namespace caisson::vfs::tmpfs
