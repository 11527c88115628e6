#include "confine/confine.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace caisson::confine {
namespace {

// A detached, empty, read-only tmpfs.
absl::StatusOr<UniqueFd> EmptyFileSystem() {
  UniqueFd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context) return HostErrnoStatus(errno, "fsopen tmpfs");
  const char* const options[][2] = {{"size", "4096"}, {"nr_inodes", "1"}, {"mode", "0555"}};
  for (const auto& option : options) {
    if (fsconfig(context.get(), FSCONFIG_SET_STRING, option[0], option[1], 0) != 0) {
      return HostErrnoStatus(errno, absl::StrCat("tmpfs option ", option[0]));
    }
  }
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return HostErrnoStatus(errno, "creating a tmpfs");
  }
  UniqueFd mount(fsmount(
      context.get(), FSMOUNT_CLOEXEC,
      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!mount) return HostErrnoStatus(errno, "fsmount");
  return mount;
}

void ReportDeniedCall(int, siginfo_t* info, void*) {
  char line[128];
  const int n = snprintf(line, sizeof(line), "host call %d at %p is not allowed\n",
                         info->si_syscall, info->si_call_addr);
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, line, static_cast<size_t>(n));
  _exit(128 + SIGSYS);
}

}  // namespace

absl::Status EnterEmptyRoot() {
  ASSIGN_OR_RETURN(UniqueFd root, EmptyFileSystem());
  return EnterRoot(root);
}

absl::Status EnterRoot(const UniqueFd& root) {
  // Nothing below may propagate to the mount namespace this one was copied from.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return HostErrnoStatus(errno, "making mounts private");
  }
  // Nor may the new root be shared, as a clone of a shared mount is (pivot_root(2), EINVAL).
  mount_attr attributes{};
  attributes.propagation = MS_PRIVATE;
  if (mount_setattr(root.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                    sizeof(attributes)) != 0) {
    return HostErrnoStatus(errno, "making the new root private");
  }
  if (move_mount(root.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return HostErrnoStatus(errno, "move_mount of the new root");
  }
  if (fchdir(root.get()) != 0) return HostErrnoStatus(errno, "fchdir to the new root");
  // The old root ends up on top of the new one, at the same place, and is detached from there
  // (pivot_root(2), "pivot_root(".", ".")").
  if (syscall(SYS_pivot_root, ".", ".") == 0) {
    if (umount2(".", MNT_DETACH) != 0) return HostErrnoStatus(errno, "detaching the old root");
  } else if ((errno != EPERM && errno != EINVAL) || chroot(".") != 0) {
    // EPERM: Docker's default profile allows a container with CAP_SYS_ADMIN everything here but
    // pivot_root. EINVAL: a system that runs from its initramfs. Then the new root hides the old
    // one, which is still mounted below it; who has neither chroot nor a path call left cannot get
    // there.
    return HostErrnoStatus(errno, "pivot_root");
  }
  if (chdir("/") != 0) return HostErrnoStatus(errno, "chdir to the new root");
  return absl::OkStatus();
}

absl::Status LimitCapabilities(uint64_t keep) {
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  for (int cap = 0; cap < 64; ++cap) {
    const int present = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
    if (present < 0) break;  // Past the last one.
    if (present == 1 && (keep >> cap & 1) == 0) {
      // EPERM without CAP_SETPCAP: then no_new_privs keeps the bounding set from mattering.
      if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 && errno != EPERM) {
        return HostErrnoStatus(errno, "dropping a capability from the bounding set");
      }
    }
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  for (int i = 0; i < 2; ++i) {
    data[i].effective = data[i].permitted = static_cast<uint32_t>(keep >> (32 * i));
  }
  if (syscall(SYS_capset, &header, data) != 0) return HostErrnoStatus(errno, "capset");
  return absl::OkStatus();
}

absl::Status SetNoNewPrivileges() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return HostErrnoStatus(errno, "PR_SET_NO_NEW_PRIVS");
  }
  return absl::OkStatus();
}

absl::Status InstallFilter(absl::Span<const bpf::Instruction> program, OnViolation on_violation,
                           absl::Span<const FilterConstant> constants) {
  std::vector<bpf::Instruction> copy(program.begin(), program.end());
  for (bpf::Instruction& i : copy) {
    if (i.code == (BPF_RET | BPF_K) && i.k == bpf::kRetKillProcess &&
        on_violation == OnViolation::kReport) {
      i.k = bpf::kRetTrap;
    }
    for (const FilterConstant& constant : constants) {
      if (i.code == (BPF_JMP | BPF_JEQ | BPF_K) && i.k == constant.placeholder) {
        i.k = constant.value;
      }
    }
  }
  if (on_violation == OnViolation::kReport) {
    struct sigaction action {};
    action.sa_sigaction = ReportDeniedCall;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSYS, &action, nullptr);
  }
  sock_fprog prog{static_cast<unsigned short>(copy.size()),
                  reinterpret_cast<sock_filter*>(copy.data())};
  const long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
  if (r > 0) return absl::InternalError("a thread has a seccomp filter of its own");
  if (r < 0) return HostErrnoStatus(errno, "installing a seccomp filter");
  return absl::OkStatus();
}

absl::Status DieWithParent(int life_fd) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) {
    return HostErrnoStatus(errno, "PR_SET_PDEATHSIG");
  }
  pollfd entry{.fd = life_fd, .events = 0, .revents = 0};
  const timespec no_wait{};
  if (ppoll(&entry, 1, &no_wait, nullptr) != 0) return absl::CancelledError("the parent is gone");
  return absl::OkStatus();
}

void SetResourceLimits() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  // 1 and not 0, which does not keep the kernel from piping a core to a program.
  const rlimit core{.rlim_cur = 1, .rlim_max = 1};
  setrlimit(RLIMIT_CORE, &core);
}

absl::Status CloseAllBut(absl::Span<const int> kept) {
  std::vector<int> sorted(kept.begin(), kept.end());
  std::sort(sorted.begin(), sorted.end());
  unsigned next = 3;
  for (int fd : sorted) {
    if (fd < static_cast<int>(next)) continue;
    const auto keep = static_cast<unsigned>(fd);
    if (keep > next && close_range(next, keep - 1, 0) != 0) {
      return HostErrnoStatus(errno, "close_range");
    }
    next = keep + 1;
  }
  if (close_range(next, ~0u, 0) != 0) return HostErrnoStatus(errno, "close_range");
  return absl::OkStatus();
}

}  // namespace caisson::confine
