#include "gofer/filter.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>

namespace caisson::gofer {
namespace {

using confine::Equals;
using confine::FilterRule;
using confine::Masked;
using confine::Without;

constexpr uint64_t kMode = S_IFMT;

// Paths start at descriptors of mounts that are attached nowhere (or at the empty root): nothing
// outside the container's mounts has a name here. No socket, no process, no thread is made.
constexpr FilterRule kRules[] = {
    // Walking and opening.
    {SYS_openat2, {}, "one component below a directory, and its directories for reading"},
    {SYS_openat, {Equals(0, kProcSelfFd)}, "our own O_PATH descriptors, reopened"},
    {SYS_close, {}, "descriptors"},
    {SYS_statx, {}, "attributes"},
    {SYS_fstatfs, {}, "statfs"},
    {SYS_readlinkat, {}, "symbolic links"},
    {SYS_getdents64, {}, "directories"},
    {SYS_lseek, {}, "directories"},

    // Changing.
    {SYS_mkdirat, {}, "directories"},
    {SYS_mknodat, {Masked(2, kMode, S_IFREG)}, "files"},
    {SYS_mknodat, {Masked(2, kMode, S_IFIFO)}, "FIFOs"},
    {SYS_mknodat, {Masked(2, kMode, S_IFSOCK)}, "names of AF_UNIX sockets"},
    {SYS_mknodat, {Masked(2, kMode, 0)}, "files"},
    {SYS_symlinkat, {}, "symbolic links"},
    {SYS_linkat, {}, "hard links"},
    {SYS_unlinkat, {}, "unlink, rmdir"},
    {SYS_renameat2, {}, "rename"},
    {SYS_renameat, {}, "rename: glibc's renameat2() without flags"},
    {SYS_fchmodat, {}, "chmod by descriptor"},
    {SYS_fchownat, {}, "chown by descriptor"},
    {SYS_geteuid, {}, "who owns what is made, before the chown"},
    {SYS_utimensat, {}, "times"},
    {SYS_ftruncate, {}, "truncate"},
    {SYS_fsync, {}, "fsync of a directory"},
    {SYS_fdatasync, {}, "the same"},
    {SYS_syncfs, {}, "syncfs"},
    {SYS_getxattr, {}, "extended attributes, by descriptor in /proc/self/fd"},
    {SYS_setxattr, {}, "the same"},
    {SYS_listxattr, {}, "the same"},
    {SYS_removexattr, {}, "the same"},

    // Watches, whose queue the sentry reads.
    {SYS_inotify_init1, {}, "the queue"},
    {SYS_inotify_add_watch, {}, "watches, by descriptor in /proc/self/fd"},
    {SYS_inotify_rm_watch, {}, "watches"},

    // The connection.
    {SYS_recvmsg, {}, "requests"},
    {SYS_sendmsg, {}, "replies"},

    // Ourselves.
    {SYS_sched_getaffinity, {}, "CPUs there are"},
    {SYS_sched_setaffinity, {Equals(0, 0)}, "the calling thread, where its clients are"},
    {SYS_write, {}, "the log"},
    {SYS_futex, {}, "locks"},
    {SYS_restart_syscall, {}, "a timed wait goes on after SIGSTOP and SIGCONT"},
    {SYS_mmap, {Without(2, PROT_EXEC)}, "malloc"},
    {SYS_mprotect, {Without(2, PROT_EXEC)}, "malloc"},
    {SYS_munmap, {}, "malloc"},
    {SYS_mremap, {}, "malloc"},
    {SYS_madvise, {}, "malloc, ended threads' stacks"},
    {SYS_brk, {}, "malloc"},
    {SYS_exit, {}, "end of a thread"},
    {SYS_exit_group, {}, "the end"},
    {SYS_rt_sigprocmask, {}, "end of a thread, abort()"},
    {SYS_rt_sigaction, {}, "abort()"},
    {SYS_rt_sigreturn, {}, "handlers"},
    {SYS_getpid, {}, "abort()"},
    {SYS_gettid, {}, "abort()"},
    {SYS_tgkill, {}, "abort(); we are alone in our pid namespace"},
    {SYS_clock_gettime, {}, "the log, where the vDSO cannot"},
    {SYS_set_robust_list, {}, "start of a thread that the filter catches"},
    {SYS_rseq, {}, "start of a thread that the filter catches"},
#ifdef CAISSON_SANITIZED
    {SYS_sigaltstack, {}, "sanitizer"},
    {SYS_sched_yield, {}, "sanitizer"},
    {SYS_prctl, {}, "sanitizer"},
    {SYS_getrandom, {}, "sanitizer"},
    {SYS_prlimit64, {}, "sanitizer"},
    {SYS_getrlimit, {}, "sanitizer"},
    {SYS_read, {}, "sanitizer"},
    {SYS_readlink, {}, "sanitizer", bpf::kRetErrno | ENOENT},
    {SYS_open, {}, "sanitizer", bpf::kRetErrno | ENOENT},
    {SYS_pipe2, {}, "sanitizer"},  // As in sentry/boot/filter_sanitizer.inc.
    {SYS_pipe, {}, "sanitizer"},
#endif
};

}  // namespace

const confine::FilterTable& GoferFilterTable() {
  static constexpr confine::FilterTable kTable{"gofer", kRules};
  return kTable;
}

}  // namespace caisson::gofer
