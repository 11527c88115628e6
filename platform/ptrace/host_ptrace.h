// ptrace(2) of one thread of a stub by the thread that seized it.
#ifndef CAISSON_PLATFORM_PTRACE_HOST_PTRACE_H_
#define CAISSON_PLATFORM_PTRACE_HOST_PTRACE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "platform/registers.h"

namespace caisson::platform::ptrace {

// What wait4(2) said of a tracee.
class Stop {
 public:
  Stop() = default;
  explicit Stop(int status) : status_(status), ended_((status & 0xff) != 0x7f) {}
  bool ended() const { return ended_; }
  bool is_syscall() const { return !ended_ && (status_ >> 8 & 0xff) == (5 /* SIGTRAP */ | 0x80); }
  // PTRACE_EVENT_STOP: an interrupt or a group stop.
  bool is_event() const { return !ended_ && status_ >> 16 != 0; }
  int signo() const { return status_ >> 8 & 0x7f; }

 private:
  int status_ = 0;
  bool ended_ = true;
};

// The functions below return false if the tracee is gone or, against the rules, not stopped.
bool Seize(pid_t tid);
bool Interrupt(pid_t tid);
bool ResumeToSyscall(pid_t tid);             // PTRACE_SYSEMU.
bool Resume(pid_t tid);                      // PTRACE_CONT: its own calls are real.
bool StepWithSignal(pid_t tid, int signo);   // PTRACE_SINGLESTEP.
bool Release(pid_t tid);                     // PTRACE_DETACH.
bool ClearSignalMask(pid_t tid);
bool BlockSignals(pid_t tid);
bool GetRegisters(pid_t tid, Registers* regs);
// Also false if the host refuses a value (a bad selector or base).
bool SetRegisters(pid_t tid, const Registers& regs);
// NT_X86_XSTATE. GetXstate returns the host's size, at most `out.size()`; 0 on failure.
size_t GetXstate(pid_t tid, absl::Span<char> out);
bool SetXstate(pid_t tid, absl::Span<const char> in);

struct SignalInfo {
  int signo, code;
  uint64_t address;   // si_addr, or si_call_addr of SIGSYS.
  int syscall;        // si_syscall of SIGSYS.
};
bool GetSignalInfo(pid_t tid, SignalInfo* info);
// Whether the system call that the tracee is stopped in came by way of the i386 entry.
bool IsCompatSyscall(pid_t tid);

// Waits for `tid` to stop or end.
Stop Wait(pid_t tid);

}  // namespace caisson::platform::ptrace

#endif  // CAISSON_PLATFORM_PTRACE_HOST_PTRACE_H_
