// The base seccomp filter of all stubs.
#ifndef CAISSON_PLATFORM_STUB_FILTER_H_
#define CAISSON_PLATFORM_STUB_FILTER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace caisson::platform::stub {

// One call that the blob may make, and why.
struct AllowedCall {
  uint32_t number;
  const char* name;
  const char* why;
  // If has_arg0: the first argument must be one of these (as 64 bits).
  bool has_arg0 = false;
  uint64_t arg0[2] = {0, 0};
};
absl::Span<const AllowedCall> AllowedCalls();

// An instruction of classic BPF (struct sock_filter).
struct BpfInstruction {
  uint16_t code;
  uint8_t jump_true;
  uint8_t jump_false;
  uint32_t k;
};

// Calls of the table from the blob's instructions are allowed; all others, from the guest's code or
// in another ABI, get `otherwise` (a SECCOMP_RET_ value).
std::vector<BpfInstruction> BaseFilter(uint32_t otherwise);

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_FILTER_H_
