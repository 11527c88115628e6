// The platform that runs guest code until it traps: by seccomp notifications and signals.
#ifndef CAISSON_PLATFORM_TRAP_TRAP_PLATFORM_H_
#define CAISSON_PLATFORM_TRAP_TRAP_PLATFORM_H_

#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/result.h"
#include "platform/platform.h"

namespace caisson::platform::trap {

struct Config {
  // As ptrace::Config::proc_view.
  bool proc_view = true;
  int stub_oom_score_adj = 500;
  size_t ready_stubs = 2;  // Kept for the next execs.
  // Calls by notification, where Features says so; else all by signals, and waits by futex(2).
  bool notify = true;
  // Patch call sites that are used often.
  bool patch = true;
  // Wait awake for each other where there is room (spinner.h).
  bool spin = true;
};

// What the host can do.
struct Features {
  bool notify = false;
  absl::Status why_not;  // What notifications lack.
};

// What works here. An error if the platform cannot work at all: it says what is missing.
// `below_filter`: this process runs under a seccomp filter of somebody else, whose answers can be
// stronger than a notification (docs/platform.md 2).
absl::StatusOr<Features> Probe(bool below_filter);

// Forks the zygote, with the conditions of ptrace::Open(). Errors: ENOSYS, EPERM, EAGAIN, ENOMEM,
// EIO.
Result<std::unique_ptr<Platform>> Open(const Config& config);

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_TRAP_PLATFORM_H_
