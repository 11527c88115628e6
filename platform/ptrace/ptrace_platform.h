// The platform that runs guest code under ptrace(2): slow, and works nearly everywhere.
#ifndef CAISSON_PLATFORM_PTRACE_PTRACE_PLATFORM_H_
#define CAISSON_PLATFORM_PTRACE_PTRACE_PLATFORM_H_

#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "base/result.h"
#include "platform/platform.h"

namespace caisson::platform::ptrace {

struct Config {
  // Have a process that can see a procfs, for memory and CPU usage (stub::ProcView). Without it
  // AddressSpace::GetUsage() is zero and GuestCpuTime() is the time that Switch() took,
  // waiting for a CPU included.
  bool proc_view = true;
  int stub_oom_score_adj = 500;
  size_t ready_stubs = 2;  // Kept for the next execs.
  // Hold a guest thread and its tracer on one CPU while they switch often (README.md).
  bool hold_pairs = true;
};

// Forks the zygote, so: before there is a second thread, before the process confines itself (/proc
// is read for the vDSO and written for oom_score_adj, if it is there) and not as a process that
// others wait for by wait(-1). Sets SIGCHLD to its default with SA_NOCLDSTOP and blocks it. The main thread must
// live as long as the platform. Details of a failure are logged.
// Errors: ENOSYS, EPERM, EAGAIN, ENOMEM, EIO.
Result<std::unique_ptr<Platform>> Open(const Config& config);

// Whether this platform can work here; if not, what is missing. Forks a process to try.
absl::Status Probe();

}  // namespace caisson::platform::ptrace

#endif  // CAISSON_PLATFORM_PTRACE_PTRACE_PLATFORM_H_
