#include "runsc/sandbox/monitor_filter.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cerrno>
#include <csignal>

namespace caisson::runsc {
namespace {

using confine::Equals;
using confine::FilterRule;
using confine::Without;

// The monitor keeps the host's pid namespace and its user, without capabilities: so no path, no
// socket, no process creation, and signals only to itself and by the pidfds that it has.
constexpr FilterRule kRules[] = {
    {SYS_ppoll, {}, "waits for everything"},
    {SYS_read, {}, "signals; what the sandbox's processes write to stderr"},
    {SYS_write, {}, "the log; how the container ended"},
    {SYS_recvmsg, {}, "replies of the sentry"},
    {SYS_sendmsg, {}, "signals and window sizes for the sentry"},
    {SYS_sendto, {}, "the command line, while starting"},
    {SYS_close, {}, "descriptors"},
    {SYS_ioctl, {Equals(1, TIOCGWINSZ)}, "window size of the terminal"},
    {SYS_waitid, {}, "end of sentry and gofer"},
    {SYS_pidfd_send_signal, {}, "end of sentry and gofer, by the pidfds of our children"},
    {SYS_kill, {Equals(0, kOwnPid)}, "ends by the signal that the guest ended by"},
    {SYS_rt_sigaction, {}, "the same"},
    {SYS_rt_sigprocmask, {}, "the same"},
    {SYS_rt_sigreturn, {}, "signal handlers of libraries"},
    {SYS_getpid, {}, "abort()"},
    {SYS_gettid, {}, "abort()"},
    {SYS_tgkill, {Equals(0, kOwnPid)}, "abort()"},
    {SYS_exit_group, {}, "the end"},
    {SYS_clock_gettime, {}, "timeouts where the vDSO cannot"},
    {SYS_mmap, {Without(2, PROT_EXEC)}, "malloc"},
    {SYS_munmap, {}, "malloc"},
    {SYS_mremap, {}, "malloc"},
    {SYS_madvise, {}, "malloc"},
    {SYS_brk, {}, "malloc"},
#ifdef CAISSON_SANITIZED
    {SYS_futex, {}, "sanitizer"},
    {SYS_mprotect, {}, "sanitizer"},
    {SYS_sigaltstack, {}, "sanitizer"},
    {SYS_getrandom, {}, "sanitizer"},
    {SYS_openat, {}, "sanitizer", bpf::kRetErrno | ENOENT},
    {SYS_readlink, {}, "sanitizer", bpf::kRetErrno | ENOENT},
#endif
};

}  // namespace

const confine::FilterTable& MonitorFilterTable() {
  static constexpr confine::FilterTable kTable{"monitor", kRules};
  return kTable;
}

}  // namespace caisson::runsc
