#include "sentry/kernel/seccomp.h"

#include <algorithm>

namespace caisson::kernel {
namespace {

// SECCOMP_RET values from most to least restrictive: as signed numbers of the action part, lower
// wins (Linux kernel/seccomp.c, seccomp_run_filters()).
bool MoreRestrictive(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a & bpf::kRetActionMask) < static_cast<int32_t>(b & bpf::kRetActionMask);
}

constexpr size_t kMaxChainInstructions = 32768;
constexpr uint16_t kLoadWordAbsolute = 0x20, kReturnConstant = 0x06, kJumpAlways = 0x05,
                   kJumpEqual = 0x15, kJumpGreater = 0x25, kJumpGreaterEqual = 0x35,
                   kJumpSet = 0x45, kAndConstant = 0x54;

// Whether the program returns ALLOW for `number` whatever the arguments and the instruction
// pointer are: runs it while only number and architecture are known (Linux
// seccomp_is_const_allow()).
bool AlwaysAllows(const std::vector<bpf::Instruction>& program, int number) {
  uint32_t a = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const bpf::Instruction& i = program[pc];
    switch (i.code) {
      case kLoadWordAbsolute:
        if (i.k == 0) a = static_cast<uint32_t>(number);
        else if (i.k == 4) a = bpf::kArchX86_64;
        else return false;
        break;
      case kReturnConstant: return i.k == bpf::kRetAllow;
      case kJumpAlways: pc += i.k; break;
      case kJumpEqual: pc += a == i.k ? i.jump_true : i.jump_false; break;
      case kJumpGreater: pc += a > i.k ? i.jump_true : i.jump_false; break;
      case kJumpGreaterEqual: pc += a >= i.k ? i.jump_true : i.jump_false; break;
      case kJumpSet: pc += (a & i.k) != 0 ? i.jump_true : i.jump_false; break;
      case kAndConstant: a &= i.k; break;
      default: return false;
    }
  }
  return false;
}

}  // namespace

void SeccompFilter::DecRef() const {
  const SeccompFilter* filter = this;
  while (filter != nullptr && filter->DropRef()) {
    const SeccompFilter* previous = filter->previous_.Release();
    delete filter;
    filter = previous;
  }
}

Result<RefPtr<SeccompFilter>> SeccompFilter::New(std::vector<bpf::Instruction> program,
                                                 RefPtr<SeccompFilter> previous, bool log) {
  if (!bpf::IsValidSeccompProgram(program)) return Errno::kEINVAL;
  auto filter = RefPtr<SeccompFilter>::Adopt(new SeccompFilter);
  // Each filter counts four more, as Linux's penalty.
  filter->total_ = program.size() + 4 + (previous ? previous->total_ : 0);
  if (filter->total_ > kMaxChainInstructions) return Errno::kENOMEM;
  filter->depth_ = previous ? previous->depth_ + 1 : 1;
  for (int number = 0; number < kBitmapSize; ++number) {
    bool inherited = !previous || (previous->always_allowed_[number / 64] >> (number % 64) & 1) != 0;
    if (inherited && AlwaysAllows(program, number))
      filter->always_allowed_[number / 64] |= uint64_t{1} << (number % 64);
  }
  filter->program_ = std::move(program);
  filter->previous_ = std::move(previous);
  return filter;
}

uint32_t SeccompFilter::Evaluate(int number, const platform::Registers& regs) const {
  if (number >= 0 && number < kBitmapSize && (always_allowed_[number / 64] >> (number % 64) & 1) != 0)
    return bpf::kRetAllow;
  bpf::SeccompData data;
  data.number = number;
  data.arch = bpf::kArchX86_64;
  data.instruction_pointer = regs.rip;
  for (int i = 0; i < 6; ++i) data.args[i] = regs.arg(i);
  uint32_t answer = bpf::kRetAllow;
  for (const SeccompFilter* f = this; f != nullptr; f = f->previous_.get()) {
    uint32_t one = bpf::RunSeccompProgram(f->program_, data);
    if (MoreRestrictive(one, answer)) answer = one;
  }
  return answer;
}

}  // namespace caisson::kernel
