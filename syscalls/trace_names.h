// Names of flags and constants, as the host's headers have them: the guest's are the same (x86-64 ABI).
#ifndef CAISSON_SYSCALLS_TRACE_NAMES_H_
#define CAISSON_SYSCALLS_TRACE_NAMES_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"

namespace caisson::syscalls {

struct TraceName {
  uint64_t value;
  const char* name;
};

#define N(value, name) {value, name}
// Of several that share bits the longest stands first. The last of a set of flags may be 0.
inline constexpr TraceName kOpenNames[] = {
    N(020200000, "O_TMPFILE"), N(04010000, "O_SYNC"), N(1, "O_WRONLY"), N(2, "O_RDWR"), N(0100, "O_CREAT"), N(0200, "O_EXCL"), N(0400, "O_NOCTTY"),
    N(01000, "O_TRUNC"), N(02000, "O_APPEND"), N(04000, "O_NONBLOCK"), N(010000, "O_DSYNC"), N(020000, "O_ASYNC"), N(040000, "O_DIRECT"),
    N(0100000, "O_LARGEFILE"), N(0200000, "O_DIRECTORY"), N(0400000, "O_NOFOLLOW"), N(01000000, "O_NOATIME"), N(02000000, "O_CLOEXEC"),
    N(010000000, "O_PATH")};
inline constexpr TraceName kProtNames[] = {N(1, "PROT_READ"), N(2, "PROT_WRITE"), N(4, "PROT_EXEC"), N(0x01000000, "PROT_GROWSDOWN"), N(0, "PROT_NONE")};
inline constexpr TraceName kMapNames[] = {
    N(3, "MAP_SHARED_VALIDATE"), N(1, "MAP_SHARED"), N(2, "MAP_PRIVATE"), N(0x10, "MAP_FIXED"), N(0x20, "MAP_ANONYMOUS"), N(0x40, "MAP_32BIT"),
    N(0x100, "MAP_GROWSDOWN"), N(0x800, "MAP_DENYWRITE"), N(0x1000, "MAP_EXECUTABLE"), N(0x2000, "MAP_LOCKED"), N(0x4000, "MAP_NORESERVE"),
    N(0x8000, "MAP_POPULATE"), N(0x10000, "MAP_NONBLOCK"), N(0x20000, "MAP_STACK"), N(0x40000, "MAP_HUGETLB"), N(0x100000, "MAP_FIXED_NOREPLACE")};
inline constexpr TraceName kRemapNames[] = {N(1, "MREMAP_MAYMOVE"), N(2, "MREMAP_FIXED"), N(4, "MREMAP_DONTUNMAP")};
inline constexpr TraceName kMsyncNames[] = {N(1, "MS_ASYNC"), N(2, "MS_INVALIDATE"), N(4, "MS_SYNC")};
inline constexpr TraceName kAdviceNames[] = {
    N(0, "MADV_NORMAL"), N(1, "MADV_RANDOM"), N(2, "MADV_SEQUENTIAL"), N(3, "MADV_WILLNEED"), N(4, "MADV_DONTNEED"), N(8, "MADV_FREE"), N(9, "MADV_REMOVE"),
    N(10, "MADV_DONTFORK"), N(11, "MADV_DOFORK"), N(14, "MADV_HUGEPAGE"), N(15, "MADV_NOHUGEPAGE"), N(16, "MADV_DONTDUMP"), N(17, "MADV_DODUMP"),
    N(18, "MADV_WIPEONFORK"), N(19, "MADV_KEEPONFORK"), N(22, "MADV_POPULATE_READ"), N(23, "MADV_POPULATE_WRITE")};
inline constexpr TraceName kAccessNames[] = {N(4, "R_OK"), N(2, "W_OK"), N(1, "X_OK"), N(0, "F_OK")};
inline constexpr TraceName kAtNames[] = {
    N(0x100, "AT_SYMLINK_NOFOLLOW"), N(0x400, "AT_SYMLINK_FOLLOW"), N(0x800, "AT_NO_AUTOMOUNT"), N(0x1000, "AT_EMPTY_PATH"),
    N(0x2000, "AT_STATX_FORCE_SYNC"), N(0x4000, "AT_STATX_DONT_SYNC")};
inline constexpr TraceName kAccessAtNames[] = {N(0x100, "AT_SYMLINK_NOFOLLOW"), N(0x200, "AT_EACCESS"), N(0x1000, "AT_EMPTY_PATH")};
inline constexpr TraceName kUnlinkNames[] = {N(0x200, "AT_REMOVEDIR")};
inline constexpr TraceName kRenameNames[] = {N(1, "RENAME_NOREPLACE"), N(2, "RENAME_EXCHANGE"), N(4, "RENAME_WHITEOUT")};
inline constexpr TraceName kStatxNames[] = {N(0xfff, "STATX_ALL"), N(0x7ff, "STATX_BASIC_STATS"), N(1, "STATX_TYPE"), N(2, "STATX_MODE"), N(4, "STATX_NLINK"),
    N(8, "STATX_UID"), N(0x10, "STATX_GID"), N(0x20, "STATX_ATIME"), N(0x40, "STATX_MTIME"), N(0x80, "STATX_CTIME"), N(0x100, "STATX_INO"),
    N(0x200, "STATX_SIZE"), N(0x400, "STATX_BLOCKS"), N(0x800, "STATX_BTIME"), N(0x1000, "STATX_MNT_ID")};
inline constexpr TraceName kCloneNames[] = {
    N(0x100, "CLONE_VM"), N(0x200, "CLONE_FS"), N(0x400, "CLONE_FILES"), N(0x800, "CLONE_SIGHAND"), N(0x1000, "CLONE_PIDFD"), N(0x2000, "CLONE_PTRACE"),
    N(0x4000, "CLONE_VFORK"), N(0x8000, "CLONE_PARENT"), N(0x10000, "CLONE_THREAD"), N(0x20000, "CLONE_NEWNS"), N(0x40000, "CLONE_SYSVSEM"),
    N(0x80000, "CLONE_SETTLS"), N(0x100000, "CLONE_PARENT_SETTID"), N(0x200000, "CLONE_CHILD_CLEARTID"), N(0x400000, "CLONE_DETACHED"),
    N(0x800000, "CLONE_UNTRACED"), N(0x1000000, "CLONE_CHILD_SETTID"), N(0x2000000, "CLONE_NEWCGROUP"), N(0x4000000, "CLONE_NEWUTS"),
    N(0x8000000, "CLONE_NEWIPC"), N(0x10000000, "CLONE_NEWUSER"), N(0x20000000, "CLONE_NEWPID"), N(0x40000000, "CLONE_NEWNET"), N(0x80000000, "CLONE_IO")};
inline constexpr TraceName kFutexNames[] = {
    N(0, "FUTEX_WAIT"), N(1, "FUTEX_WAKE"), N(3, "FUTEX_REQUEUE"), N(4, "FUTEX_CMP_REQUEUE"), N(5, "FUTEX_WAKE_OP"), N(6, "FUTEX_LOCK_PI"),
    N(7, "FUTEX_UNLOCK_PI"), N(8, "FUTEX_TRYLOCK_PI"), N(9, "FUTEX_WAIT_BITSET"), N(10, "FUTEX_WAKE_BITSET"), N(11, "FUTEX_WAIT_REQUEUE_PI"),
    N(12, "FUTEX_CMP_REQUEUE_PI"), N(13, "FUTEX_LOCK_PI2")};
inline constexpr TraceName kFcntlNames[] = {
    N(0, "F_DUPFD"), N(1, "F_GETFD"), N(2, "F_SETFD"), N(3, "F_GETFL"), N(4, "F_SETFL"), N(5, "F_GETLK"), N(6, "F_SETLK"), N(7, "F_SETLKW"), N(8, "F_SETOWN"),
    N(9, "F_GETOWN"), N(10, "F_SETSIG"), N(11, "F_GETSIG"), N(15, "F_SETOWN_EX"), N(16, "F_GETOWN_EX"), N(36, "F_OFD_GETLK"), N(37, "F_OFD_SETLK"),
    N(38, "F_OFD_SETLKW"), N(1024, "F_SETLEASE"), N(1025, "F_GETLEASE"), N(1026, "F_NOTIFY"), N(1030, "F_DUPFD_CLOEXEC"), N(1031, "F_SETPIPE_SZ"),
    N(1032, "F_GETPIPE_SZ"), N(1033, "F_ADD_SEALS"), N(1034, "F_GET_SEALS")};
inline constexpr TraceName kIoctlNames[] = {
    N(0x5401, "TCGETS"), N(0x5402, "TCSETS"), N(0x5403, "TCSETSW"), N(0x5404, "TCSETSF"), N(0x5409, "TCSBRK"), N(0x540a, "TCXONC"), N(0x540b, "TCFLSH"),
    N(0x540e, "TIOCSCTTY"), N(0x540f, "TIOCGPGRP"), N(0x5410, "TIOCSPGRP"), N(0x5411, "TIOCOUTQ"), N(0x5413, "TIOCGWINSZ"), N(0x5414, "TIOCSWINSZ"),
    N(0x541b, "FIONREAD"), N(0x5421, "FIONBIO"), N(0x5422, "TIOCNOTTY"), N(0x5429, "TIOCGSID"), N(0x5450, "FIONCLEX"), N(0x5451, "FIOCLEX"),
    N(0x80045430, "TIOCGPTN"), N(0x40045431, "TIOCSPTLCK"), N(0x5441, "TIOCGPTPEER"), N(0x40049409, "FICLONE")};
inline constexpr TraceName kSeekNames[] = {N(0, "SEEK_SET"), N(1, "SEEK_CUR"), N(2, "SEEK_END"), N(3, "SEEK_DATA"), N(4, "SEEK_HOLE")};
inline constexpr TraceName kClockNames[] = {
    N(0, "CLOCK_REALTIME"), N(1, "CLOCK_MONOTONIC"), N(2, "CLOCK_PROCESS_CPUTIME_ID"), N(3, "CLOCK_THREAD_CPUTIME_ID"), N(4, "CLOCK_MONOTONIC_RAW"),
    N(5, "CLOCK_REALTIME_COARSE"), N(6, "CLOCK_MONOTONIC_COARSE"), N(7, "CLOCK_BOOTTIME"), N(8, "CLOCK_REALTIME_ALARM"), N(9, "CLOCK_BOOTTIME_ALARM"),
    N(11, "CLOCK_TAI")};
inline constexpr TraceName kTimerNames[] = {N(1, "TIMER_ABSTIME")};
inline constexpr TraceName kWaitNames[] = {
    N(1, "WNOHANG"), N(2, "WSTOPPED"), N(4, "WEXITED"), N(8, "WCONTINUED"), N(0x01000000, "WNOWAIT"), N(0x20000000, "__WNOTHREAD"), N(0x40000000, "__WALL"),
    N(0x80000000, "__WCLONE")};
inline constexpr TraceName kWaitIdNames[] = {N(0, "P_ALL"), N(1, "P_PID"), N(2, "P_PGID"), N(3, "P_PIDFD")};
inline constexpr TraceName kRlimitNames[] = {
    N(0, "RLIMIT_CPU"), N(1, "RLIMIT_FSIZE"), N(2, "RLIMIT_DATA"), N(3, "RLIMIT_STACK"), N(4, "RLIMIT_CORE"), N(5, "RLIMIT_RSS"), N(6, "RLIMIT_NPROC"),
    N(7, "RLIMIT_NOFILE"), N(8, "RLIMIT_MEMLOCK"), N(9, "RLIMIT_AS"), N(10, "RLIMIT_LOCKS"), N(11, "RLIMIT_SIGPENDING"), N(12, "RLIMIT_MSGQUEUE"),
    N(13, "RLIMIT_NICE"), N(14, "RLIMIT_RTPRIO"), N(15, "RLIMIT_RTTIME")};
inline constexpr TraceName kSigmaskNames[] = {N(0, "SIG_BLOCK"), N(1, "SIG_UNBLOCK"), N(2, "SIG_SETMASK")};
inline constexpr TraceName kSigactionNames[] = {
    N(1, "SA_NOCLDSTOP"), N(2, "SA_NOCLDWAIT"), N(4, "SA_SIGINFO"), N(0x04000000, "SA_RESTORER"), N(0x08000000, "SA_ONSTACK"), N(0x10000000, "SA_RESTART"),
    N(0x40000000, "SA_NODEFER"), N(0x80000000, "SA_RESETHAND")};
inline constexpr TraceName kDomainNames[] = {N(0, "AF_UNSPEC"), N(1, "AF_UNIX"), N(2, "AF_INET"), N(10, "AF_INET6"), N(16, "AF_NETLINK"), N(17, "AF_PACKET")};
inline constexpr TraceName kSocketNames[] = {
    N(5, "SOCK_SEQPACKET"), N(3, "SOCK_RAW"), N(2, "SOCK_DGRAM"), N(1, "SOCK_STREAM"), N(02000000, "SOCK_CLOEXEC"), N(04000, "SOCK_NONBLOCK")};
inline constexpr TraceName kMessageNames[] = {
    N(1, "MSG_OOB"), N(2, "MSG_PEEK"), N(4, "MSG_DONTROUTE"), N(8, "MSG_CTRUNC"), N(0x20, "MSG_TRUNC"), N(0x40, "MSG_DONTWAIT"), N(0x80, "MSG_EOR"),
    N(0x100, "MSG_WAITALL"), N(0x4000, "MSG_NOSIGNAL"), N(0x8000, "MSG_MORE"), N(0x10000, "MSG_WAITFORONE"), N(0x40000000, "MSG_CMSG_CLOEXEC")};
inline constexpr TraceName kShutdownNames[] = {N(0, "SHUT_RD"), N(1, "SHUT_WR"), N(2, "SHUT_RDWR")};
inline constexpr TraceName kLevelNames[] = {N(1, "SOL_SOCKET"), N(0, "SOL_IP"), N(6, "SOL_TCP"), N(41, "SOL_IPV6")};
inline constexpr TraceName kEpollNames[] = {N(1, "EPOLL_CTL_ADD"), N(2, "EPOLL_CTL_DEL"), N(3, "EPOLL_CTL_MOD")};
inline constexpr TraceName kEpollEventNames[] = {
    N(1, "EPOLLIN"), N(2, "EPOLLPRI"), N(4, "EPOLLOUT"), N(8, "EPOLLERR"), N(0x10, "EPOLLHUP"), N(0x2000, "EPOLLRDHUP"), N(0x10000000, "EPOLLEXCLUSIVE"),
    N(0x20000000, "EPOLLWAKEUP"), N(0x40000000, "EPOLLONESHOT"), N(0x80000000, "EPOLLET")};
inline constexpr TraceName kPollNames[] = {N(1, "POLLIN"), N(2, "POLLPRI"), N(4, "POLLOUT"), N(8, "POLLERR"), N(0x10, "POLLHUP"), N(0x20, "POLLNVAL"), N(0x2000, "POLLRDHUP")};
inline constexpr TraceName kRandomNames[] = {N(1, "GRND_NONBLOCK"), N(2, "GRND_RANDOM"), N(4, "GRND_INSECURE")};
inline constexpr TraceName kEventfdNames[] = {N(1, "EFD_SEMAPHORE"), N(04000, "EFD_NONBLOCK"), N(02000000, "EFD_CLOEXEC")};
inline constexpr TraceName kMemfdNames[] = {N(1, "MFD_CLOEXEC"), N(2, "MFD_ALLOW_SEALING"), N(4, "MFD_HUGETLB")};
inline constexpr TraceName kFlockNames[] = {N(1, "LOCK_SH"), N(2, "LOCK_EX"), N(8, "LOCK_UN"), N(4, "LOCK_NB")};
inline constexpr TraceName kMountNames[] = {
    N(1, "MS_RDONLY"), N(2, "MS_NOSUID"), N(4, "MS_NODEV"), N(8, "MS_NOEXEC"), N(0x10, "MS_SYNCHRONOUS"), N(0x20, "MS_REMOUNT"), N(0x400, "MS_NOATIME"),
    N(0x800, "MS_NODIRATIME"), N(0x1000, "MS_BIND"), N(0x2000, "MS_MOVE"), N(0x4000, "MS_REC"), N(0x8000, "MS_SILENT"), N(0x20000, "MS_UNBINDABLE"),
    N(0x40000, "MS_PRIVATE"), N(0x80000, "MS_SLAVE"), N(0x100000, "MS_SHARED"), N(0x200000, "MS_RELATIME"), N(0x1000000, "MS_STRICTATIME")};
inline constexpr TraceName kUmountNames[] = {N(1, "MNT_FORCE"), N(2, "MNT_DETACH"), N(4, "MNT_EXPIRE"), N(8, "UMOUNT_NOFOLLOW")};
inline constexpr TraceName kArchNames[] = {
    N(0x1001, "ARCH_SET_GS"), N(0x1002, "ARCH_SET_FS"), N(0x1003, "ARCH_GET_FS"), N(0x1004, "ARCH_GET_GS"), N(0x1011, "ARCH_GET_CPUID"), N(0x3001, "ARCH_CET_STATUS")};
inline constexpr TraceName kPrctlNames[] = {
    N(1, "PR_SET_PDEATHSIG"), N(2, "PR_GET_PDEATHSIG"), N(3, "PR_GET_DUMPABLE"), N(4, "PR_SET_DUMPABLE"), N(7, "PR_GET_KEEPCAPS"), N(8, "PR_SET_KEEPCAPS"),
    N(15, "PR_SET_NAME"), N(16, "PR_GET_NAME"), N(21, "PR_GET_SECCOMP"), N(22, "PR_SET_SECCOMP"), N(23, "PR_CAPBSET_READ"), N(24, "PR_CAPBSET_DROP"),
    N(28, "PR_SET_SECUREBITS"), N(29, "PR_SET_TIMERSLACK"), N(30, "PR_GET_TIMERSLACK"), N(35, "PR_SET_MM"), N(36, "PR_SET_CHILD_SUBREAPER"),
    N(37, "PR_GET_CHILD_SUBREAPER"), N(38, "PR_SET_NO_NEW_PRIVS"), N(39, "PR_GET_NO_NEW_PRIVS"), N(47, "PR_CAP_AMBIENT"), N(0x53564d41, "PR_SET_VMA"),
    N(0x59616d61, "PR_SET_PTRACER")};
#undef N

// The name of the one that is `v`, or its number.
std::string NameOf(absl::Span<const TraceName> names, uint64_t v);

}  // namespace caisson::syscalls

#endif  // CAISSON_SYSCALLS_TRACE_NAMES_H_
