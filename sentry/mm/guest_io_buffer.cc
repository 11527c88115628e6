#include <algorithm>
#include <utility>

#include "sentry/mm/memory_manager.h"

namespace caisson::mm {

namespace {
size_t TotalLength(const std::vector<IoVec>& vec) {
  uint64_t total = 0;
  for (const IoVec& v : vec) total += v.length;
  return total;
}
}  // namespace

GuestIoBuffer::GuestIoBuffer(GuestMemory& memory, GuestAddr base, uint64_t length)
    : IoBuffer(length), memory_(memory), vec_{{base, length}} {}

GuestIoBuffer::GuestIoBuffer(GuestMemory& memory, std::vector<IoVec> vec)
    : IoBuffer(TotalLength(vec)), memory_(memory), vec_(std::move(vec)) {}

// Calls f(guest address, offset in the buffer, bytes) for each piece of [at, at + n), until one
// comes out short.
template <typename F>
Result<size_t> GuestIoBuffer::ForEach(size_t at, size_t n, F f) {
  size_t done = 0;
  for (const IoVec& v : vec_) {
    if (done == n) break;
    if (at >= v.length) {
      at -= v.length;
      continue;
    }
    size_t part = std::min<uint64_t>(n - done, v.length - at);
    // A base near the top of the address space must not wrap: that is a fault like any other.
    std::optional<GuestAddr> where = v.base.Plus(at);
    size_t moved = where && where->Plus(part) ? f(*where, done, part) : 0;
    done += moved;
    if (moved < part) break;
    at = 0;
  }
  if (done == 0 && n != 0) return Errno::kEFAULT;
  return done;
}

Result<size_t> GuestIoBuffer::DoPut(size_t at, const char* from, size_t n) {
  return ForEach(at, n, [&](GuestAddr where, size_t offset, size_t part) {
    return memory_.CopyOutPartial(where, absl::Span<const char>(from + offset, part));
  });
}

size_t GuestIoBuffer::DoPutByHost(size_t at, const char* from, size_t n) {
  Result<size_t> done = ForEach(at, n, [&](GuestAddr where, size_t offset, size_t part) {
    return memory_.CopyOutByHost(where, absl::Span<const char>(from + offset, part));
  });
  return done.ok() ? *done : 0;
}

Result<size_t> GuestIoBuffer::DoTake(size_t at, char* to, size_t n) {
  return ForEach(at, n, [&](GuestAddr where, size_t offset, size_t part) {
    return memory_.CopyInPartial(where, absl::Span<char>(to + offset, part));
  });
}

}  // namespace caisson::mm
