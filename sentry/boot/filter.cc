#include "sentry/boot/filter.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <cerrno>

namespace caisson::boot {
namespace {

using confine::Equals;
using confine::FilterRule;
using confine::Masked;
using confine::Only;
using confine::Without;

constexpr uint32_t kDenyQuietly = bpf::kRetErrno;

constexpr uint64_t kNotifSetFlags = _IOW('!', 4, uint64_t);  // SECCOMP_IOCTL_NOTIF_SET_FLAGS, 6.6.
constexpr uint64_t kPtraceSysemu = 31;
constexpr uint64_t kPtraceGetSyscallInfo = 0x420e;
// glibc's pthread_create(), and nothing that makes a process.
constexpr uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                  CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                  CLONE_CHILD_CLEARTID;

// No path is ever opened: the root is empty, and there is no open, no socket, no exec, no process
// creation here. Descriptors come from the gofer and from the monitor, by recvmsg.
constexpr FilterRule kRules[] = {
    // Files that others opened for us, and our own memfds.
    {SYS_read, {}, "eventfds, timerfds, inotify queue of the gofer, pipes and terminals of stdio"},
    {SYS_write, {}, "stdio, eventfds, the log"},
    {SYS_pread64, {}, "host files"},
    {SYS_pwrite64, {}, "host files"},
    {SYS_writev, {}, "glibc's last words"},
    {SYS_preadv2, {}, "host files, with RWF flags"},
    {SYS_pwritev2, {}, "host files, with RWF flags (O_APPEND, O_SYNC)"},
    {SYS_close, {}, "descriptors"},
    {SYS_lseek, {}, "SEEK_HOLE, SEEK_DATA; offsets of inherited stdio"},
    {SYS_fstat, {}, "sizes and types of descriptors"},
    {SYS_newfstatat, {Equals(3, AT_EMPTY_PATH)}, "fstat() of glibc 2.33 and later"},
    {SYS_ftruncate, {}, "memfds and host files"},
    {SYS_fallocate, {}, "memfds and host files"},
    {SYS_fsync, {}, "host files"},
    {SYS_fdatasync, {}, "host files"},
    {SYS_fcntl, {Equals(1, F_OFD_SETLK)}, "guest locks on files that others share"},
    {SYS_fcntl, {Equals(1, F_OFD_GETLK)}, "the same"},
    {SYS_flock, {}, "the same"},
    {SYS_fcntl, {Equals(1, F_DUPFD_CLOEXEC)}, "program files that are patched"},
    {SYS_fcntl, {Equals(1, F_GETFL)}, "access mode of inherited stdio"},
    {SYS_fcntl, {Equals(1, F_SETFL)}, "O_NONBLOCK of our own descriptors"},
    {SYS_fcntl, {Equals(1, F_DUPFD_CLOEXEC)}, "program files whose call sites are patched"},
    {SYS_fcntl, {Equals(1, F_ADD_SEALS)}, "memfds"},
    {SYS_fcntl, {Equals(1, F_GET_SEALS)}, "memfds we were sent"},
    {SYS_ioctl, {Equals(1, FIONREAD)}, "bytes waiting in stdio"},
    {SYS_ioctl, {Equals(1, TCGETS)}, "stdio that is the host's terminal"},
    {SYS_ioctl, {Equals(1, TCSETS)}, "the same"},
    {SYS_ioctl, {Equals(1, TCFLSH)}, "the same"},
    {SYS_ioctl, {Equals(1, TIOCGWINSZ)}, "the same; the host's pty"},
    {SYS_ioctl, {Equals(1, SECCOMP_IOCTL_NOTIF_RECV)}, "guest threads' calls"},
    {SYS_ioctl, {Equals(1, SECCOMP_IOCTL_NOTIF_SEND)}, "the same"},
    {SYS_ioctl, {Equals(1, kNotifSetFlags)}, "the same"},
    {SYS_ioctl, {Equals(1, SECCOMP_IOCTL_NOTIF_ADDFD)}, "the file that a guest thread maps"},
    {SYS_memfd_create, {}, "tmpfs files, shared memory, slots, System V segments"},

    // Memory. Nothing becomes executable after boot.
    {SYS_mmap, {Without(2, PROT_EXEC)}, "memory, memfds, host files"},
    {SYS_mprotect, {Without(2, PROT_EXEC)}, "thread stacks, malloc"},
    {SYS_munmap, {}, "memory"},
    {SYS_mremap, {}, "realloc"},
    {SYS_madvise, {}, "memory given back"},
    {SYS_brk, {}, "malloc"},
    {SYS_process_vm_readv, {}, "guest memory"},
    {SYS_process_vm_writev, {}, "guest memory"},

    // Threads and time.
    {SYS_clone, {Equals(0, kThreadFlags)}, "a thread for each task"},
    {SYS_clone3, {}, "glibc tries it first; its flags are out of a filter's sight",
     kDenyQuietly | ENOSYS},
    {SYS_set_robust_list, {}, "thread start"},
    {SYS_rseq, {}, "thread start: glibc aborts where it fails after it worked at first"},
    {SYS_exit, {}, "thread end"},
    {SYS_exit_group, {}, "the end"},
    {SYS_futex, {}, "locks"},
    {SYS_sched_yield, {}, "short waits"},
    {SYS_sched_getaffinity, {}, "CPUs there are"},
    {SYS_gettid, {}, "signals between threads"},
    {SYS_getpid, {}, "abort()"},
    {SYS_clock_gettime, {}, "clocks where the vDSO cannot"},
    {SYS_clock_getres, {}, "clocks"},
    {SYS_clock_nanosleep, {}, "sleeps"},
    {SYS_restart_syscall, {}, "what the kernel makes of a timed wait that SIGSTOP and SIGCONT interrupted"},
    {SYS_getrandom, {}, "guest's /dev/urandom, AT_RANDOM, hash seeds"},
    {SYS_prctl, {Equals(0, PR_SET_NAME)}, "thread names"},
    {SYS_openat, {}, "libraries that look for configuration: there is none",
     kDenyQuietly | ENOENT},

    // Signals.
    {SYS_rt_sigaction, {}, "handlers"},
    {SYS_rt_sigprocmask, {}, "thread start"},
    {SYS_setitimer, {Equals(0, ITIMER_PROF)}, "the profiler of runsc debug"},
    {SYS_rt_sigreturn, {}, "handlers"},
    {SYS_tgkill, {}, "interrupting tasks and stubs; there is nothing else in our pid namespace"},

    // Stub processes.
    {SYS_ptrace, {Equals(0, PTRACE_SEIZE)}, "guest threads; nothing else is in our pid namespace"},
    {SYS_ptrace, {Equals(0, PTRACE_INTERRUPT)}, "the same"},
    {SYS_ptrace, {Equals(0, kPtraceSysemu)}, "the same"},
    {SYS_ptrace, {Equals(0, PTRACE_CONT)}, "the same"},
    {SYS_ptrace, {Equals(0, PTRACE_SINGLESTEP)}, "the same"},
    {SYS_ptrace, {Equals(0, PTRACE_DETACH)}, "the same"},
    {SYS_ptrace, {Equals(0, PTRACE_GETREGSET)}, "registers"},
    {SYS_ptrace, {Equals(0, PTRACE_SETREGSET)}, "registers"},
    {SYS_ptrace, {Equals(0, PTRACE_SETSIGMASK)}, "signal masks"},
    {SYS_ptrace, {Equals(0, PTRACE_GETSIGINFO)}, "faults"},
    {SYS_ptrace, {Equals(0, kPtraceGetSyscallInfo)}, "which entry a call came by"},
    {SYS_ptrace, {Equals(0, PTRACE_PEEKDATA)}, "memory without read permission"},
    {SYS_ptrace, {Equals(0, PTRACE_POKEDATA)}, "memory without write permission"},
    {SYS_kill, {}, "stubs; nothing else is in our pid namespace"},
    {SYS_sched_setaffinity, {}, "a guest thread and its tracer on one CPU"},
    {SYS_wait4, {}, "stubs"},
    {SYS_waitid, {}, "stubs"},
    {SYS_pidfd_open, {}, "stubs"},
    {SYS_pidfd_getfd, {Equals(2, 0)}, "listeners of guest threads; only stubs are in our pid namespace"},

    // Waiting and messages.
    {SYS_ppoll, {}, "waits"},
    {SYS_recvfrom, {}, "bells of stubs, stdio that is a socket"},
    {SYS_sendto, {Equals(4, 0)}, "stdio that is a socket; no address"},
    {SYS_shutdown, {}, "the end of a connection to the gofer"},
    {SYS_setsockopt, {Equals(1, SOL_SOCKET), Equals(2, SO_PASSCRED)}, "the pid of a new stub"},
    {SYS_epoll_create1, {}, "the control server, host descriptors"},
    {SYS_epoll_ctl, {}, "the same"},
    {SYS_epoll_wait, {}, "the same"},
    {SYS_eventfd2, {}, "wake-ups"},
    {SYS_sendmsg, {}, "gofer, monitor, stubs"},
    {SYS_recvmsg, {}, "gofer, monitor, stubs"},
    {SYS_accept4, {}, "control connections"},
    {SYS_socketpair, {Equals(0, AF_UNIX)}, "connections to stubs"},

#ifdef CAISSON_SANITIZED
#include "sentry/boot/filter_sanitizer.inc"
#endif
};

}  // namespace

const confine::FilterTable& SentryFilterTable() {
  static constexpr confine::FilterTable kTable{"sentry", kRules};
  return kTable;
}

}  // namespace caisson::boot
