// A seccomp allow-list as a table that people review: call, argument constraints, why. The program
// that is installed is compiled from it at build time (cmake/seccomp_filter.cmake); what no rule
// allows kills the process.
#ifndef CAISSON_CONFINE_FILTER_TABLE_H_
#define CAISSON_CONFINE_FILTER_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/bpf.h"

namespace caisson::confine {

// Holds if (argument `index` & mask) == value.
struct ArgCheck {
  uint8_t index = 0;
  uint64_t mask = 0;
  uint64_t value = 0;
};
constexpr ArgCheck Equals(uint8_t index, uint64_t value) { return {index, ~uint64_t{0}, value}; }
constexpr ArgCheck Masked(uint8_t index, uint64_t mask, uint64_t value) {
  return {index, mask, value};
}
// None of `bits` is set.
constexpr ArgCheck Without(uint8_t index, uint64_t bits) { return {index, bits, 0}; }
// No bit outside `bits` is set.
constexpr ArgCheck Only(uint8_t index, uint64_t bits) { return {index, ~bits, 0}; }

// Up to four checks, of different arguments, all of which must hold.
struct ArgChecks {
  constexpr ArgChecks() = default;
  constexpr ArgChecks(std::initializer_list<ArgCheck> checks) {
    for (const ArgCheck& check : checks) list[count++] = check;
  }
  ArgCheck list[4];
  uint8_t count = 0;
};

// A number may have several rules; one that matches is enough. All of a number's rules have the
// same action.
struct FilterRule {
  int number;
  ArgChecks checks;
  const char* why;
  uint32_t action = bpf::kRetAllow;  // Or kRetErrno | errno, for what libraries try.
};

struct FilterTable {
  const char* name;
  absl::Span<const FilterRule> rules;
};

// What the table says of a call: the reference that compiled programs are tested against.
uint32_t ActionOf(const FilterTable& table, const bpf::SeccompData& data);

// Calls (numbers) that the table allows in some form.
size_t AllowedCalls(const FilterTable& table);

}  // namespace caisson::confine

#endif  // CAISSON_CONFINE_FILTER_TABLE_H_
