#include "platform/ptrace/fault_info.h"

#include <signal.h>
#include <sys/uio.h>

#include "platform/stub/layout.h"

namespace caisson::platform::ptrace {

FaultInfo ReadFaultInfo(pid_t pid, pid_t tid, int signo, const Registers& regs,
                        std::vector<char>& xstate_buffer) {
  FaultInfo info;
  const size_t xstate_size = GetXstate(tid, absl::MakeSpan(xstate_buffer));
  Registers scratch = regs;
  scratch.orig_rax = ~uint64_t{0};
  scratch.rsp = stub::kFaultStackTop;
  if (xstate_size == 0 || !SetRegisters(tid, scratch) || !StepWithSignal(tid, signo)) return info;
  const Stop stop = Wait(tid);
  if (stop.ended()) {
    info.killed = true;
    return info;
  }
  // Anything else: the frame could not be written, for want of memory.
  if (stop.signo() == SIGTRAP && !stop.is_syscall() && GetRegisters(tid, &scratch)) {
    // rdx is the handler's third argument, the ucontext. In it, after uc_flags, uc_link, uc_stack,
    // 18 registers and four selectors: err, trapno (struct sigcontext_64).
    constexpr uint64_t kErrorOffset = 40 + 18 * 8 + 8;
    uint64_t words[2];
    iovec local{words, sizeof(words)};
    iovec remote{reinterpret_cast<void*>(scratch.rdx + kErrorOffset), sizeof(words)};
    if (process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(sizeof(words))) {
      info.valid = true;
      info.error_code = words[0] & 0xffff;
      info.trap_number = words[1] & 0x1f;
    }
  }
  SetXstate(tid, absl::MakeSpan(xstate_buffer).first(xstate_size));
  return info;
}

}  // namespace caisson::platform::ptrace
