#include "runsc/sandbox/host_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "runsc/sandbox/sandbox.h"

namespace caisson::runsc {
namespace {

constexpr int kKillTimeoutMs = 10'000;
constexpr int kStartTimeField = 22;

}  // namespace

uint64_t StartTimeOf(pid_t pid) {
  UniqueFd fd(open(absl::StrCat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[1024];
  const ssize_t n = fd ? read(fd.get(), buffer, sizeof(buffer) - 1) : -1;
  if (n <= 0) return 0;
  buffer[n] = 0;
  // The second field, in parentheses, may hold anything; what follows the last one is numbers.
  const std::string text(buffer);
  size_t at = text.rfind(')');
  for (int field = 2; field < kStartTimeField && at != std::string::npos; ++field) {
    at = text.find(' ', at + 1);
  }
  return at == std::string::npos ? 0 : strtoull(text.c_str() + at + 1, nullptr, 10);
}

absl::Status KillAndAwait(pid_t pid, uint64_t start_time, int timeout_ms) {
  if (pid <= 0) return absl::OkStatus();
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    return errno == ESRCH || errno == EINVAL ? absl::OkStatus()
                                             : HostErrnoStatus(errno, "pidfd_open");
  }
  // The pidfd holds one process; now see that it is the one meant.
  if (StartTimeOf(pid) != start_time) return absl::OkStatus();
  if (syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0) != 0 && errno != ESRCH) {
    return HostErrnoStatus(errno, absl::StrCat("killing process ", pid));
  }
  pollfd entry{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  const timespec timeout{.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1'000'000};
  int ready;
  do {
    ready = ppoll(&entry, 1, &timeout, nullptr);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    return absl::DeadlineExceededError(absl::StrCat("process ", pid, " does not end"));
  }
  return absl::OkStatus();
}

absl::Status KillSandbox(const SandboxProcesses& processes) {
  // The monitor first, whose end ends the others too: otherwise it would log the sentry's end.
  absl::Status monitor =
      KillAndAwait(processes.monitor_pid, processes.monitor_start_time, kKillTimeoutMs);
  absl::Status sentry =
      KillAndAwait(processes.sentry_pid, processes.sentry_start_time, kKillTimeoutMs);
  absl::Status gofer =
      KillAndAwait(processes.gofer_pid, processes.gofer_start_time, kKillTimeoutMs);
  if (!sentry.ok()) return sentry;
  return gofer.ok() ? monitor : gofer;
}

}  // namespace caisson::runsc
