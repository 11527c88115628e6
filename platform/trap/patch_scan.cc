#include "platform/trap/patch_scan.h"

#include <sys/syscall.h>

#include <cstring>

namespace caisson::platform::trap {
namespace {

constexpr size_t kShortMov = 5, kLongMov = 7;

uint8_t At(absl::Span<const char> page, size_t i) { return static_cast<uint8_t>(page[i]); }

// Opcodes with a ModRM byte and a 32-bit immediate, which could own the bytes after their
// displacement: an immediate equal to the call's number, with b8 as the displacement's last byte.
bool HasLongImmediate(uint8_t opcode) {
  return opcode == 0xc7 || opcode == 0x81 || opcode == 0x69 || opcode == 0xf7;
}

bool Loads(absl::Span<const char> page, size_t at, uint32_t number) {
  uint32_t immediate;
  if (at < sizeof(immediate)) return false;
  std::memcpy(&immediate, &page[at - sizeof(immediate)], sizeof(immediate));
  return immediate == number;
}

// mov eax, imm32.
bool HasShortMov(absl::Span<const char> page, size_t at, uint32_t number) {
  if (at < kShortMov || !Loads(page, at, number)) return false;
  const size_t mov = at - kShortMov;
  if (At(page, mov) != 0xb8) return false;
  // A prefix would make it another register or size. (It may as well be the end of what comes
  // before: then it takes a hop, or is lost.)
  if (mov >= 1) {
    const uint8_t before = At(page, mov - 1);
    if ((before & 0xf0) == 0x40 || before == 0x66 || before == 0x67 || before == 0xf2 ||
        before == 0xf3 || before == 0x0f)
      return false;
  }
  // With 8 bits of displacement, with and without a SIB byte; with 32 bits.
  for (size_t back : {size_t{2}, size_t{3}, size_t{5}, size_t{6}}) {
    if (mov >= back && HasLongImmediate(At(page, mov - back))) return false;
  }
  return true;
}

// mov rax, imm32. Three bytes tell what it is; a prefix before it changes nothing.
bool HasLongMov(absl::Span<const char> page, size_t at, uint32_t number) {
  return at >= kLongMov && Loads(page, at, number) && At(page, at - 7) == 0x48 &&
         At(page, at - 6) == 0xc7 && At(page, at - 5) == 0xc0 && number < 0x80000000;
}

bool IsNopTail(absl::Span<const char> page, size_t at) {
  constexpr char kNop[] = {0x0f, 0x1f, static_cast<char>(0x84), 0, 0, 0, 0, 0};
  constexpr size_t kHead = sizeof(kNop) - kJumpSize;
  return at >= kHead && std::memcmp(&page[at - kHead], kNop, sizeof(kNop)) == 0;
}

bool IsFill(absl::Span<const char> page, size_t at) {
  constexpr uint8_t kInt3 = 0xcc, kRet = 0xc3;
  constexpr size_t kAlignment = 16;
  if (at < 2) return false;
  size_t end = at;
  while (end < page.size() && At(page, end) == kInt3) ++end;
  return end - at >= kJumpSize && end % kAlignment == 0 &&
         (At(page, at - 1) == kRet || (At(page, at - 2) == 0x0f && At(page, at - 1) == 0x0b));
}

// The nearest place for a hop.
std::optional<size_t> FindHop(absl::Span<const char> page, size_t at) {
  const auto from = static_cast<ptrdiff_t>(at + kSyscallSize);
  for (ptrdiff_t distance = 0; distance <= 128; ++distance) {
    for (ptrdiff_t offset : {distance, -distance}) {
      const ptrdiff_t hop = from + offset;
      if (offset > 127 || hop < 0 || static_cast<size_t>(hop) + kJumpSize > page.size()) continue;
      const auto to = static_cast<size_t>(hop);
      if (IsNopTail(page, to) || IsFill(page, to)) return to;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<SitePlan> PlanSite(absl::Span<const char> page, size_t at, uint32_t number) {
  if (at > page.size() || page.size() - at < kSyscallSize || At(page, at) != 0x0f ||
      At(page, at + 1) != 0x05)
    return std::nullopt;
  if (number != SYS_rt_sigreturn && HasShortMov(page, at, number)) return SitePlan{false, at - kShortMov};
  // Unwinders know a restorer without unwind information (musl's) by its bytes. Glibc's and Go's are known
  // otherwise: they are aligned, with no `nop` of one byte before.
  if (number == SYS_rt_sigreturn &&
      (!HasLongMov(page, at, number) || (at - kLongMov) % 16 != 0 || at == kLongMov || At(page, at - kLongMov - 1) == 0x90))
    return std::nullopt;
  if (HasLongMov(page, at, number)) return SitePlan{false, at - kLongMov};
  const std::optional<size_t> hop = FindHop(page, at);
  if (!hop) return std::nullopt;
  return SitePlan{true, *hop};
}

bool IsPatchableCall(uint32_t number) {
  switch (number) {
    case SYS_clone:
    case SYS_clone3:
    case SYS_fork:
    case SYS_vfork:
    case SYS_execve:
    case SYS_execveat:
    case SYS_exit:
    case SYS_exit_group:
    case SYS_arch_prctl:
    case SYS_restart_syscall:
      return false;
    default:
      return number < 512;
  }
}

void PatchSite(absl::Span<char> page, size_t at, const SitePlan& plan, int32_t offset) {
  page[plan.jump] = static_cast<char>(0xe9);
  std::memcpy(&page[plan.jump + 1], &offset, sizeof(offset));
  if (!plan.hop) return;
  page[at] = static_cast<char>(0xeb);
  page[at + 1] = static_cast<char>(static_cast<ptrdiff_t>(plan.jump) -
                                   static_cast<ptrdiff_t>(at + kSyscallSize));
}

}  // namespace caisson::platform::trap
