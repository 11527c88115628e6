// Host processes by pid and start time.
#ifndef CAISSON_RUNSC_SANDBOX_HOST_PROCESS_H_
#define CAISSON_RUNSC_SANDBOX_HOST_PROCESS_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/status.h"

namespace caisson::runsc {

// Field 22 of /proc/PID/stat, clock ticks since boot; 0 if there is no such process.
uint64_t StartTimeOf(pid_t pid);

// SIGKILL to `pid`, if it started at `start_time`, and waits until it is dead (not until it is
// reaped). OK if there is no such process. Errors: kDeadlineExceeded.
absl::Status KillAndAwait(pid_t pid, uint64_t start_time, int timeout_ms);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_SANDBOX_HOST_PROCESS_H_
