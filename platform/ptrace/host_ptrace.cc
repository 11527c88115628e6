#include "platform/ptrace/host_ptrace.h"

#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace caisson::platform::ptrace {
namespace {

constexpr long kSysemu = 31;            // PTRACE_SYSEMU
constexpr long kGetSyscallInfo = 0x420e;

long Ptrace(long request, pid_t tid, uint64_t address, const void* data) {
  return syscall(SYS_ptrace, request, tid, address, data);
}

const void* Number(uint64_t n) { return reinterpret_cast<const void*>(n); }

}  // namespace

bool Seize(pid_t tid) {
  return Ptrace(PTRACE_SEIZE, tid, 0, Number(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)) == 0;
}

bool Interrupt(pid_t tid) { return Ptrace(PTRACE_INTERRUPT, tid, 0, nullptr) == 0; }

bool ResumeToSyscall(pid_t tid) { return Ptrace(kSysemu, tid, 0, nullptr) == 0; }

bool Resume(pid_t tid) { return Ptrace(PTRACE_CONT, tid, 0, nullptr) == 0; }

bool StepWithSignal(pid_t tid, int signo) {
  return Ptrace(PTRACE_SINGLESTEP, tid, 0, Number(static_cast<uint64_t>(signo))) == 0;
}

bool ClearSignalMask(pid_t tid) {
  const uint64_t none = 0;
  return Ptrace(PTRACE_SETSIGMASK, tid, sizeof(none), &none) == 0;
}

bool BlockSignals(pid_t tid) {
  const uint64_t all = ~uint64_t{0};
  return Ptrace(PTRACE_SETSIGMASK, tid, sizeof(all), &all) == 0;
}

bool Release(pid_t tid) { return Ptrace(PTRACE_DETACH, tid, 0, nullptr) == 0; }

bool GetRegisters(pid_t tid, Registers* regs) {
  iovec iov{regs, sizeof(*regs)};
  return Ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) == 0;
}

bool SetRegisters(pid_t tid, const Registers& regs) {
  iovec iov{const_cast<Registers*>(&regs), sizeof(regs)};
  return Ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) == 0;
}

size_t GetXstate(pid_t tid, absl::Span<char> out) {
  iovec iov{out.data(), out.size()};
  return Ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &iov) == 0 ? iov.iov_len : 0;
}

bool SetXstate(pid_t tid, absl::Span<const char> in) {
  iovec iov{const_cast<char*>(in.data()), in.size()};
  return Ptrace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, &iov) == 0;
}

bool GetSignalInfo(pid_t tid, SignalInfo* info) {
  siginfo_t host{};
  if (Ptrace(PTRACE_GETSIGINFO, tid, 0, &host) != 0) return false;
  *info = {host.si_signo, host.si_code, reinterpret_cast<uint64_t>(host.si_addr), 0};
  if (host.si_signo == SIGSYS) info->syscall = host.si_syscall;
  return true;
}

bool IsCompatSyscall(pid_t tid) {
  struct {
    uint8_t op;
    uint8_t padding[3];
    uint32_t arch;
    uint64_t rest[10];
  } info{};
  // Returns the size of what there is. Before Linux 5.3: EIO, and we cannot tell.
  if (Ptrace(kGetSyscallInfo, tid, sizeof(info), &info) <= 0) return false;
  return info.arch != AUDIT_ARCH_X86_64;
}

Stop Wait(pid_t tid) {
  int status;
  for (;;) {
    const long n = syscall(SYS_wait4, tid, &status, __WALL | __WNOTHREAD, nullptr);
    if (n == tid) return Stop(status);
    if (n < 0 && errno != EINTR) return Stop();
  }
}

}  // namespace caisson::platform::ptrace
