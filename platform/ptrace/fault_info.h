// The page-fault error code, which ptrace(2) does not show.
#ifndef CAISSON_PLATFORM_PTRACE_FAULT_INFO_H_
#define CAISSON_PLATFORM_PTRACE_FAULT_INFO_H_

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "platform/ptrace/host_ptrace.h"
#include "platform/registers.h"

namespace caisson::platform::ptrace {

struct FaultInfo {
  bool killed = false;  // The thread ended meanwhile and has been waited for.
  bool valid = false;
  uint64_t error_code = 0, trap_number = 0;
};

// `tid`, stopped by SIGSEGV or SIGBUS with registers `regs`, is made to take the signal: the kernel
// writes a frame, with the error code in it, to the stub's scratch stack and stops at the handler's
// first instruction, which never runs. Then the extended state, which this resets, is put back; the
// general registers are the caller's to set. The caller holds the stub's fault_mutex(). The values
// are hints: another guest thread can write to that stack.
FaultInfo ReadFaultInfo(pid_t pid, pid_t tid, int signo, const Registers& regs,
                        std::vector<char>& xstate_buffer);

}  // namespace caisson::platform::ptrace

#endif  // CAISSON_PLATFORM_PTRACE_FAULT_INFO_H_
