// The steps by which a process gives up what it does not need. Every one fails loudly: a process
// that could not confine itself must not go on.
#ifndef CAISSON_CONFINE_CONFINE_H_
#define CAISSON_CONFINE_CONFINE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/bpf.h"
#include "base/unique_fd.h"

namespace caisson::confine {

// Replaces the root of this process's mount namespace, which is its own, by an empty read-only
// tmpfs and detaches everything else. Needs CAP_SYS_ADMIN over that namespace.
absl::Status EnterEmptyRoot();
// The same with the detached mount `root` (open_tree(2)) in place of the tmpfs.
absl::Status EnterRoot(const UniqueFd& root);

// Keeps the capabilities whose bits are in `keep`, permitted and effective; empties the
// inheritable and ambient sets; drops all others from the bounding set where CAP_SETPCAP allows.
absl::Status LimitCapabilities(uint64_t keep);

absl::Status SetNoNewPrivileges();

enum class OnViolation {
  kKill,  // The process is killed (SIGSYS).
  // For debugging: the call is denied and raises SIGSYS, whose handler says on stderr which call it
  // was and ends the process. (A process that has been taken over could change the handler, and
  // would learn what is denied.)
  kReport,
};
// What only the running process knows: comparisons with `placeholder` in the program become ones
// with `value`.
struct FilterConstant {
  uint32_t placeholder;
  uint32_t value;
};
// Installs `program` for every thread of the process; needs no_new_privs.
absl::Status InstallFilter(absl::Span<const bpf::Instruction> program,
                           OnViolation on_violation = OnViolation::kKill,
                           absl::Span<const FilterConstant> constants = {});

// Has the kernel send SIGKILL when the parent's thread ends, and checks that the parent was still
// there: `life_fd`, whose other end the parent holds, has not hung up.
absl::Status DieWithParent(int life_fd);

// RLIMIT_NOFILE to its hard limit; no core files.
void SetResourceLimits();

// Makes everything but `kept` (file descriptors, any order) and 0, 1, 2 go away.
absl::Status CloseAllBut(absl::Span<const int> kept);

}  // namespace caisson::confine

#endif  // CAISSON_CONFINE_CONFINE_H_
