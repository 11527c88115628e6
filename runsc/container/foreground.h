// Waiting for a process in the foreground: signals, terminal and exit status.
#ifndef CAISSON_RUNSC_CONTAINER_FOREGROUND_H_
#define CAISSON_RUNSC_CONTAINER_FOREGROUND_H_

#include <sys/types.h>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace caisson::runsc {

// To be called before the monitor is started: orphans of ours, the monitor among them, become our
// children, so that we can wait for it.
void BecomeSubreaper();

// Forwards signals to the monitor, and with a pty `master` copies between it and our standard
// input and output, the latter in raw mode. Returns what our exit status is to be: that of the
// monitor, 128 + n where signal n ended it. Standard input and output are not held open meanwhile
// where there is no terminal.
absl::StatusOr<int> WaitInForeground(pid_t monitor, UniqueFd master);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_FOREGROUND_H_
