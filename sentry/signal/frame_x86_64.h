// Signal frames on x86-64: what a handler finds on its stack and rt_sigreturn(2) takes back
// (Linux arch/x86/kernel/signal_64.c, arch/x86/include/uapi/asm/sigcontext.h).
#ifndef CAISSON_SENTRY_SIGNAL_FRAME_X86_64_H_
#define CAISSON_SENTRY_SIGNAL_FRAME_X86_64_H_

#include "base/result.h"
#include "platform/platform.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/signal/signal.h"

namespace caisson::signal {

struct FaultDetail {
  uint64_t trap_number = 0, error_code = 0, cr2 = 0;
};

// Writes the frame for `info` below the guest's stack (or on `alt` with SA_ONSTACK) and makes
// `regs` enter the handler. `mask` is what sigreturn restores. Clears `alt` under SS_AUTODISARM.
// Errors: EFAULT if the stack cannot hold it (the caller forces SIGSEGV).
Result<void> PushFrame(mm::GuestMemory& memory, const platform::Platform& platform,
                       platform::Context& context, platform::Registers& regs,
                       const Action& action, const Info& info, Set mask, AltStack& alt,
                       const FaultDetail& fault);

struct Returned {
  Set mask = 0;
  AltStack alt;
};
// rt_sigreturn(2): restores `regs` and the FP state from the frame at the stack pointer. Every
// field is the guest's to forge: selectors and flags are limited to what user code may hold.
// Errors: EFAULT, EINVAL (the caller forces SIGSEGV).
Result<Returned> PopFrame(mm::GuestMemory& memory, const platform::Platform& platform,
                          platform::Context& context, platform::Registers& regs);

}  // namespace caisson::signal

#endif  // CAISSON_SENTRY_SIGNAL_FRAME_X86_64_H_
