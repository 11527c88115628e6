#include "platform/trap/patch_scan.h"

#include <sys/syscall.h>

#include <cstring>

namespace caisson::platform::trap {
namespace {

uint8_t At(absl::Span<const char> page, size_t i) { return static_cast<uint8_t>(page[i]); }

// Opcodes with a ModRM byte and a 32-bit immediate, which could own the bytes after their
// displacement: an immediate equal to the call's number, with b8 as the displacement's last byte.
bool HasLongImmediate(uint8_t opcode) {
  return opcode == 0xc7 || opcode == 0x81 || opcode == 0x69 || opcode == 0xf7;
}

}  // namespace

bool IsPatchableSite(absl::Span<const char> page, size_t at, uint32_t number) {
  if (at < kMovSize || at + 2 > page.size()) return false;
  const size_t mov = at - kMovSize;
  uint32_t immediate;
  std::memcpy(&immediate, &page[mov + 1], sizeof(immediate));
  if (At(page, mov) != 0xb8 || At(page, at) != 0x0f || At(page, at + 1) != 0x05 ||
      immediate != number)
    return false;
  // A prefix would make it another register or size. (It may as well be the end of what comes
  // before: then a site is lost that could have been patched.)
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

bool IsPatchableCall(uint32_t number) {
  switch (number) {
    case SYS_rt_sigreturn:
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

void PatchSite(absl::Span<char> page, size_t at, int32_t offset) {
  page[at - kMovSize] = static_cast<char>(0xe9);
  std::memcpy(&page[at - kMovSize + 1], &offset, sizeof(offset));
}

}  // namespace caisson::platform::trap
