#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "platform/ptrace/host_ptrace.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/stub/xstate.h"

namespace caisson::platform::ptrace {
namespace {

// Yama's setting, for the message; empty without Yama or /proc.
std::string YamaScope() {
  UniqueFd fd(open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC));
  char c;
  if (!fd.valid() || read(fd.get(), &c, 1) != 1) return "";
  return std::string(1, c);
}

absl::Status Missing(absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat("ptrace platform: ", what));
}

absl::Status TryTracing(pid_t child) {
  if (!Seize(child)) {
    const int error = errno;
    const std::string yama = YamaScope();
    if (yama == "2" || yama == "3")
      return Missing(absl::StrCat("kernel.yama.ptrace_scope is ", yama, "; it must be 0 or 1"));
    return Missing(absl::StrCat("PTRACE_SEIZE of a child: ", strerror(error)));
  }
  if (!ptrace::Interrupt(child)) return Missing("PTRACE_INTERRUPT does not work");
  Registers regs;
  if (Wait(child).ended() || !GetRegisters(child, &regs))
    return Missing("registers of a child cannot be read");
  // The child asks for its parent's pid in a loop, maybe after a prctl: the calls are seen.
  for (int i = 0; i < 3; ++i) {
    if (!ResumeToSyscall(child)) return Missing("PTRACE_SYSEMU is not supported");
    if (!Wait(child).is_syscall() || !GetRegisters(child, &regs))
      return Missing("PTRACE_SYSEMU does not stop at system calls");
  }
  if (regs.orig_rax != SYS_getppid) return Missing("PTRACE_SYSEMU does not show the call");
  uint64_t word;
  iovec local{&word, sizeof(word)};
  iovec remote{reinterpret_cast<void*>(regs.rsp), sizeof(word)};
  if (process_vm_readv(child, &local, 1, &remote, 1, 0) != static_cast<ssize_t>(sizeof(word)))
    return Missing(absl::StrCat("process_vm_readv of a child: ", strerror(errno)));
  return absl::OkStatus();
}

}  // namespace

absl::Status Probe() {
  if (stub::HostXstate().features == 0) return Missing("the CPU or kernel has no XSAVE");
  UniqueFd memfd(memfd_create("probe", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  constexpr int kSealFutureWrite = 0x0010;
  if (!memfd.valid() || fcntl(memfd.get(), F_ADD_SEALS, kSealFutureWrite) != 0)
    return Missing("memfd_create with F_SEAL_FUTURE_WRITE (Linux 5.1) is missing");
  constexpr long kGetActionAvailable = 2;  // SECCOMP_GET_ACTION_AVAIL
  const uint32_t trap = 0x00030000;        // SECCOMP_RET_TRAP
  if (syscall(SYS_seccomp, kGetActionAvailable, 0, &trap) != 0)
    return Missing("seccomp filters are missing");
  if (syscall(SYS_close_range, ~0u, ~0u, 0) != 0)
    return Missing("close_range (Linux 5.9) is missing");
  const long child = syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (child < 0) return Missing(absl::StrCat("clone: ", strerror(errno)));
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) syscall(SYS_getppid);
  }
  const auto pid = static_cast<pid_t>(child);
  auto end = absl::MakeCleanup([pid] {
    kill(pid, SIGKILL);
    while (!Wait(pid).ended()) {
    }
  });
  return TryTracing(pid);
}

}  // namespace caisson::platform::ptrace
