// The registers that the trampoline saves and loads, and where in CallRegisters.
#ifndef CAISSON_PLATFORM_TRAP_SAVED_REGISTERS_H_
#define CAISSON_PLATFORM_TRAP_SAVED_REGISTERS_H_

#include <array>
#include <cstddef>

#define XBYAK_NO_EXCEPTION
#include <xbyak/xbyak.h>

#include "platform/trap/slot.h"

namespace caisson::platform::trap {

struct Saved {
  Xbyak::Reg64 reg;
  size_t offset;
};

// All but rax, rsp, rip and the flags, which need care. In the order of saving: what most calls need
// first, then the second cache line.
inline const std::array<Saved, 12>& SavedRegisters() {
  using R = Xbyak::Reg64;
  using O = Xbyak::Operand;
  static const std::array<Saved, 12> kSaved = {{
      {R(O::RDI), offsetof(CallRegisters, rdi)},
      {R(O::RSI), offsetof(CallRegisters, rsi)},
      {R(O::RDX), offsetof(CallRegisters, rdx)},
      {R(O::R10), offsetof(CallRegisters, r10)},
      {R(O::R8), offsetof(CallRegisters, r8)},
      {R(O::R9), offsetof(CallRegisters, r9)},
      {R(O::RBX), offsetof(CallRegisters, rbx)},
      {R(O::RBP), offsetof(CallRegisters, rbp)},
      {R(O::R12), offsetof(CallRegisters, r12)},
      {R(O::R13), offsetof(CallRegisters, r13)},
      {R(O::R14), offsetof(CallRegisters, r14)},
      {R(O::R15), offsetof(CallRegisters, r15)},
  }};
  return kSaved;
}

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_SAVED_REGISTERS_H_
