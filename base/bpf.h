// Classic BPF over struct seccomp_data: the check and the interpreter that seccomp(2) applies to a
// filter. The sentry runs guests' filters with it, tests run our own host filters through it.
#ifndef CAISSON_BASE_BPF_H_
#define CAISSON_BASE_BPF_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace caisson::bpf {

// struct sock_filter of <linux/filter.h>.
struct Instruction {
  uint16_t code = 0;
  uint8_t jump_true = 0;
  uint8_t jump_false = 0;
  uint32_t k = 0;
};
static_assert(sizeof(Instruction) == 8);

// struct seccomp_data of <linux/seccomp.h>.
struct SeccompData {
  int32_t number = 0;
  uint32_t arch = 0;
  uint64_t instruction_pointer = 0;
  uint64_t args[6] = {};
};
static_assert(sizeof(SeccompData) == 64);

inline constexpr size_t kMaxInstructions = 4096;
inline constexpr uint32_t kArchX86_64 = 0xc000003e;
inline constexpr uint32_t kArchI386 = 0x40000003;

// SECCOMP_RET_*: an action in the upper half, its data in the lower.
inline constexpr uint32_t kRetKillProcess = 0x80000000;
inline constexpr uint32_t kRetKillThread = 0x00000000;
inline constexpr uint32_t kRetTrap = 0x00030000;
inline constexpr uint32_t kRetErrno = 0x00050000;
inline constexpr uint32_t kRetUserNotif = 0x7fc00000;
inline constexpr uint32_t kRetTrace = 0x7ff00000;
inline constexpr uint32_t kRetLog = 0x7ffc0000;
inline constexpr uint32_t kRetAllow = 0x7fff0000;
inline constexpr uint32_t kRetActionMask = 0xffff0000;
inline constexpr uint32_t kRetDataMask = 0x0000ffff;

// Whether seccomp(2) would take `program`; otherwise it returns EINVAL. A valid program ends (jumps
// go forward only) and reads nothing outside its data.
// Source: Linux net/core/filter.c, bpf_check_classic(); kernel/seccomp.c, seccomp_check_filter().
bool IsValidSeccompProgram(absl::Span<const Instruction> program);

// The SECCOMP_RET_* value that `program`, which is valid, returns for `data`.
uint32_t RunSeccompProgram(absl::Span<const Instruction> program, const SeccompData& data);

}  // namespace caisson::bpf

#endif  // CAISSON_BASE_BPF_H_
