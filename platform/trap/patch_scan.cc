#include "platform/trap/patch_scan.h"

#include <sys/syscall.h>

#include <algorithm>
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

// The size of an instruction that can be carried (patch_scan.h); 0: it is none that is known. Its operands
// are registers with their ModRM byte's mod 3, or a register and an immediate.
size_t CarriedSize(absl::Span<const char> code) {
  size_t i = 0;
  uint8_t rex = 0;
  if (i < code.size() && (At(code, i) & 0xf0) == 0x40) rex = At(code, i++);
  if ((rex & 0x08) != 0 && i < code.size() && (At(code, i) & 0xf8) == 0xb8) return 0;  // 64 bits follow.
  // rax and rsp, and what is a part of them.
  const auto taboo = [rex](unsigned index, unsigned bit) {
    return (index == 0 || index == 4) && (rex & bit) == 0;
  };
  if (i >= code.size()) return 0;
  uint8_t opcode = At(code, i++);
  if ((opcode & 0xf8) == 0xb8) {  // mov r32, imm32
    const bool fits = !taboo(opcode & 7, 1) && code.size() - i >= 4;
    return fits ? i + 4 : 0;
  }
  bool two = true;      // Both of ModRM's fields are registers.
  size_t immediate = 0;
  if (opcode == 0x0f) {
    if (i >= code.size()) return 0;
    opcode = At(code, i++);
    if ((opcode & 0xf0) == 0x90) two = false;         // setcc
    else if ((opcode & 0xf0) != 0x40 &&               // cmovcc
             (opcode & 0xf6) != 0xb6) return 0;       // movzx, movsx
  } else if (opcode < 0x40 && (opcode & 7) < 4) {     // add, or, adc, sbb, and, sub, xor, cmp
  } else if (opcode >= 0x84 && opcode <= 0x8b && opcode != 0x86 && opcode != 0x87) {  // test, mov
  } else if (opcode == 0x80 || opcode == 0x83 || opcode == 0xc0 || opcode == 0xc1) {
    two = false;  // The same, shifts.
    immediate = 1;
  } else if (opcode == 0x81) {
    two = false;
    immediate = 4;
  } else if (opcode == 0xd0 || opcode == 0xd1) {
    two = false;
  } else if ((opcode == 0xf6 || opcode == 0xf7) && i < code.size() && (At(code, i) & 0x30) == 0x10) {
    two = false;  // not, neg
  } else {
    return 0;
  }
  if (i >= code.size()) return 0;
  const uint8_t modrm = At(code, i++);
  if (modrm >> 6 != 3 || taboo(modrm & 7, 1) || (two && taboo(modrm >> 3 & 7, 4))) return 0;
  return code.size() - i >= immediate ? i + immediate : 0;
}

// How many bytes are between a `mov` of the number and the call, if all can be carried; 0: no such place.
size_t FindCarried(absl::Span<const char> page, size_t at, uint32_t number) {
  for (size_t carried = 2; carried <= std::min(at, kMaxCarried); ++carried) {
    size_t from = at - carried;
    if (!HasShortMov(page, from, number)) continue;
    while (from < at) {
      const size_t size = CarriedSize(page.subspan(from, at - from));
      if (size == 0) break;
      from += size;
    }
    if (from == at) return carried;
  }
  return 0;
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
  if (const std::optional<size_t> hop = FindHop(page, at)) return SitePlan{true, *hop};
  const size_t carried = FindCarried(page, at, number);
  if (carried == 0) return std::nullopt;
  return SitePlan{false, at - carried - kShortMov, carried};
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
