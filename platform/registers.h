// General registers of an x86-64 guest thread.
#ifndef CAISSON_PLATFORM_REGISTERS_H_
#define CAISSON_PLATFORM_REGISTERS_H_

#include <cstdint>

namespace caisson::platform {

// The layout of Linux's user_regs_struct (<sys/user.h>), so that PTRACE_GETREGSET fills it.
struct Registers {
  uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
  uint64_t orig_rax;  // The system call's number while one is handled, else -1.
  uint64_t rip, cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;

  uint64_t syscall_number() const { return orig_rax; }
  // Argument 0 to 5 of a system call.
  uint64_t arg(int i) const {
    switch (i) {
      case 0: return rdi;
      case 1: return rsi;
      case 2: return rdx;
      case 3: return r10;
      case 4: return r8;
      default: return r9;
    }
  }
};
static_assert(sizeof(Registers) == 27 * 8);

}  // namespace caisson::platform

#endif  // CAISSON_PLATFORM_REGISTERS_H_
