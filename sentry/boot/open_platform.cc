#include "sentry/boot/open_platform.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/trap/trap_platform.h"

namespace caisson::boot {
namespace {

using PlatformOr = absl::StatusOr<std::unique_ptr<platform::Platform>>;

// Every platform reaches guest memory by these two. A container's filter may refuse them: Docker's
// default profile does without CAP_SYS_PTRACE, and guests would see EFAULT everywhere.
absl::Status CheckMemoryCalls() {
  uint64_t from = 0, to = 0;
  iovec local{&to, sizeof(to)}, remote{&from, sizeof(from)};
  if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == sizeof(to) &&
      process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == sizeof(to)) {
    return absl::OkStatus();
  }
  const int error = errno;
  absl::Status status = HostErrnoStatus(error, "process_vm_readv and process_vm_writev are refused");
  return absl::FailedPreconditionError(absl::StrCat(
      status.message(), " (in a container, its seccomp profile must allow them: CAP_SYS_PTRACE for Docker's)"));
}

PlatformOr OpenPtrace() {
  Result<std::unique_ptr<platform::Platform>> opened = platform::ptrace::Open({});
  if (opened.ok()) return std::move(opened).value();
  // What exactly is missing is found out only now: it costs a process.
  RETURN_IF_ERROR(platform::ptrace::Probe());
  return HostErrnoStatus(static_cast<int>(opened.error()), "opening the ptrace platform");
}

// `without`: what not to use, for tests and measurements.
PlatformOr OpenTrap(const HostFacts& facts, absl::string_view without) {
  const bool notify = without != "notify";
  ASSIGN_OR_RETURN(platform::trap::Features features,
                   platform::trap::Probe(facts.seccomp_filters != 0));
  if (notify && !features.notify)
    LOG_INFO("system calls by signals, not notifications: ", features.why_not.message());
  platform::trap::Config config;
  config.notify = notify && features.notify;
  config.spin = without != "spin";
  Result<std::unique_ptr<platform::Platform>> opened = platform::trap::Open(config);
  if (opened.ok()) return std::move(opened).value();
  return HostErrnoStatus(static_cast<int>(opened.error()), "opening the trap platform");
}

}  // namespace

PlatformOr OpenPlatform(const protocol::SandboxConfig& config, const HostFacts& facts) {
  const std::string& name = config.platform();
  RETURN_IF_ERROR(CheckMemoryCalls());
  if (name == "ptrace") return OpenPtrace();
  if (name == "trap") return OpenTrap(facts, "");
  if (name == "trap-notify-off") return OpenTrap(facts, "notify");
  if (name == "trap-spin-off") return OpenTrap(facts, "spin");
  if (!name.empty() && name != "auto")
    return absl::UnimplementedError(absl::StrCat("platform \"", name, "\" is not built in"));
  PlatformOr trap = OpenTrap(facts, "");
  if (trap.ok()) {
    LOG_DEBUG("platform trap: nothing speaks against it");
    return trap;
  }
  LOG_INFO("platform ptrace, because of ", trap.status().message());
  return OpenPtrace();
}

}  // namespace caisson::boot
