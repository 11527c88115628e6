#include "base/memory_headroom.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace caisson {
namespace {

// Where more is free than this, what could be reclaimed besides does not matter.
constexpr uint64_t kPlenty = uint64_t{64} << 20;
// What all CPUs together may take: page faults give 4 KiB in half a microsecond, each CPU.
constexpr int64_t kBytesPerNs = 16;
constexpr int64_t kLongestNs = 100'000'000;
constexpr int64_t kShortForNs = 500'000;
// v1 says "no limit" with a number near 2^63.
constexpr uint64_t kNoLimit = uint64_t{1} << 62;

int64_t NowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// The text of a file, as far as it fits.
absl::string_view ReadAll(int fd, char* buffer, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t n = pread(fd, buffer + done, size - done, static_cast<off_t>(done));
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  return {buffer, done};
}

std::optional<uint64_t> ReadNumber(int fd) {
  char buffer[32];
  const absl::string_view text = absl::StripAsciiWhitespace(ReadAll(fd, buffer, sizeof(buffer)));
  uint64_t value = 0;
  if (text == "max") return ~uint64_t{0};
  if (!absl::SimpleAtoi(text, &value)) return std::nullopt;
  return value;
}

}  // namespace

MemoryHeadroom::MemoryHeadroom(Files files) : files_(std::move(files)) { Renew(); }

void MemoryHeadroom::Renew() {
  MutexLock lock(mu_);
  const bool limited = files_.usage && files_.limit && files_.statistics &&
                       ReadLimitLocked().value_or(kNoLimit) < kNoLimit;
  short_until_.store(0, std::memory_order_relaxed);
  good_until_.store(0, std::memory_order_relaxed);
  limited_.store(limited, std::memory_order_relaxed);
}

bool MemoryHeadroom::IsShortWithLimit(uint64_t bytes) {
  const int64_t now = NowNs();
  if (now < good_until_.load(std::memory_order_relaxed)) {
    const auto wanted = static_cast<int64_t>(std::min<uint64_t>(bytes, INT64_MAX / 2));
    if (budget_.load(std::memory_order_relaxed) >= wanted &&
        budget_.fetch_sub(wanted, std::memory_order_relaxed) >= wanted)
      return false;
  } else if (now < short_until_.load(std::memory_order_relaxed)) {
    return true;
  }
  return Look(bytes, now);
}

bool MemoryHeadroom::Look(uint64_t bytes, int64_t now) {
  MutexLock lock(mu_);
  const std::optional<uint64_t> limit = ReadLimitLocked(), usage = ReadNumber(files_.usage.get());
  good_until_.store(0, std::memory_order_relaxed);
  if (!limit || !usage) return false;  // The cgroup is gone: nobody can tell.
  uint64_t left = *limit > *usage ? *limit - *usage : 0;
  const uint64_t needed = bytes < kNoLimit ? bytes + kSlack : kNoLimit;
  if (left < needed + kPlenty) left += ReadReclaimableLocked();
  const uint64_t spare = left > kSlack ? left - kSlack : 0;
  if (spare == 0) short_until_.store(now + kShortForNs, std::memory_order_relaxed);
  if (bytes >= spare) return true;
  const auto rest = static_cast<int64_t>(std::min<uint64_t>(spare - bytes, kNoLimit));
  budget_.store(rest / 2, std::memory_order_relaxed);
  good_until_.store(now + std::min(rest / kBytesPerNs, kLongestNs), std::memory_order_relaxed);
  return false;
}

std::optional<uint64_t> MemoryHeadroom::ReadLimitLocked() {
  return ReadNumber(files_.limit.get());
}

uint64_t MemoryHeadroom::ReadReclaimableLocked() {
  char buffer[16384];
  // v1 has the numbers of the cgroup alone too; with its children they are "total_".
  struct Item {
    absl::string_view name;
    uint64_t own = 0;
    std::optional<uint64_t> total = std::nullopt;
    uint64_t value() const { return total.value_or(own); }
  } active{"active_file"}, inactive{"inactive_file"}, dirty{"file_dirty"}, old_dirty{"dirty"},
      writeback{"file_writeback"}, old_writeback{"writeback"}, shared{"shmem"};
  Item* const wanted[] = {&active,    &inactive,      &dirty, &old_dirty,
                          &writeback, &old_writeback, &shared};
  for (absl::string_view line :
       absl::StrSplit(ReadAll(files_.statistics.get(), buffer, sizeof(buffer)), '\n')) {
    const size_t space = line.find(' ');
    if (space == absl::string_view::npos) continue;
    absl::string_view name = line.substr(0, space);
    const bool total = name.substr(0, 6) == "total_";
    if (total) name.remove_prefix(6);
    for (Item* item : wanted) {
      uint64_t value = 0;
      if (name != item->name || !absl::SimpleAtoi(line.substr(space + 1), &value)) continue;
      if (total) item->total = value;
      else item->own = value;
    }
  }
  shared_.store(shared.value(), std::memory_order_relaxed);
  const uint64_t cache = active.value() + inactive.value();
  const uint64_t busy =
      dirty.value() + old_dirty.value() + writeback.value() + old_writeback.value();
  return cache > busy ? cache - busy : 0;
}

}  // namespace caisson
