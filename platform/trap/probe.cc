#include <errno.h>
#include <linux/seccomp.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "platform/stub/xstate.h"
#include "platform/trap/slot.h"
#include "platform/trap/trap_platform.h"

namespace caisson::platform::trap {
namespace {

bool ActionAvailable(uint32_t action) {
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

// 1000 * major + minor; 0 if it cannot be read.
int KernelVersion() {
  utsname name;
  int major = 0, minor = 0;
  if (uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return 0;
  return major * 1000 + minor;
}

absl::Status Missing(absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat("trap platform: ", what));
}

}  // namespace

absl::StatusOr<Features> Probe(bool below_filter) {
  if (stub::HostXstate().features == 0) return Missing("the CPU or kernel has no XSAVE");
  if (2 * stub::MinSignalStack() > kStackSize)
    return Missing("signal frames of this CPU are too large");
  constexpr unsigned long kFsgsbase = 2;  // HWCAP2_FSGSBASE, Linux 5.9.
  if ((getauxval(AT_HWCAP2) & kFsgsbase) == 0) return Missing("rdfsbase is not enabled");
  if (!ActionAvailable(SECCOMP_RET_TRAP)) return Missing("seccomp filters are missing");
  if (syscall(SYS_close_range, ~0u, ~0u, 0) != 0)
    return Missing("close_range (Linux 5.9) is missing");
  Features features;
  if (below_filter) {
    features.why_not = Missing("this process is below a seccomp filter, which may hide notifications");
  } else if (!ActionAvailable(SECCOMP_RET_USER_NOTIF)) {
    features.why_not = Missing("seccomp notifications are missing");
  } else if (KernelVersion() < 6011) {
    // Wake-ups that stay on a CPU came with 6.6; before 6.11 waiting for a dead thread never ends.
    features.why_not = Missing("notifications are used from Linux 6.11 on");
  } else if (syscall(SYS_pidfd_getfd, -1, 0, 0) != 0 && errno != EBADF) {
    features.why_not = Missing("pidfd_getfd is refused");
  } else {
    features.notify = true;
  }
  return features;
}

}  // namespace caisson::platform::trap
