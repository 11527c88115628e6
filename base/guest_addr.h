// Addresses in a guest's address space: numbers, never pointers.
#ifndef CAISSON_BASE_GUEST_ADDR_H_
#define CAISSON_BASE_GUEST_ADDR_H_

#include <compare>
#include <cstdint>
#include <optional>

namespace caisson {

inline constexpr uint64_t kPageSize = 4096;

// A guest virtual address. Arithmetic that could wrap goes through AddrRange or Plus().
struct GuestAddr {
  uint64_t value = 0;
  constexpr GuestAddr() = default;
  constexpr explicit GuestAddr(uint64_t v) : value(v) {}
  friend constexpr auto operator<=>(GuestAddr, GuestAddr) = default;
  constexpr bool is_null() const { return value == 0; }
  constexpr bool page_aligned() const { return value % kPageSize == 0; }
  // Nothing if the sum wraps.
  constexpr std::optional<GuestAddr> Plus(uint64_t n) const {
    if (value + n < value) return std::nullopt;
    return GuestAddr(value + n);
  }
  // For sums already known to stay within the address space.
  friend constexpr GuestAddr operator+(GuestAddr a, uint64_t n) { return GuestAddr(a.value + n); }
  friend constexpr GuestAddr operator-(GuestAddr a, uint64_t n) { return GuestAddr(a.value - n); }
  friend constexpr uint64_t operator-(GuestAddr a, GuestAddr b) { return a.value - b.value; }
};

constexpr uint64_t PageRoundDown(uint64_t v) { return v & ~(kPageSize - 1); }
// Wraps to 0 for the last page; callers check the range first.
constexpr uint64_t PageRoundUp(uint64_t v) { return (v + kPageSize - 1) & ~(kPageSize - 1); }

// [start, end), start <= end.
struct AddrRange {
  GuestAddr start;
  GuestAddr end;
  constexpr uint64_t length() const { return end.value - start.value; }
  constexpr bool empty() const { return start == end; }
  constexpr bool contains(GuestAddr a) const { return a >= start && a < end; }
  constexpr bool contains(AddrRange o) const { return o.start >= start && o.end <= end; }
  constexpr bool overlaps(AddrRange o) const { return o.start < end && start < o.end; }
  friend constexpr bool operator==(const AddrRange&, const AddrRange&) = default;
};

}  // namespace caisson

#endif  // CAISSON_BASE_GUEST_ADDR_H_
