#include "sentry/boot/open_platform.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "platform/ptrace/ptrace_platform.h"

namespace caisson::boot {

absl::StatusOr<std::unique_ptr<platform::Platform>> OpenPlatform(
    const protocol::SandboxConfig& config, const HostFacts& facts) {
  static_cast<void>(facts);  // For trap: notifications lie below another filter.
  const std::string& name = config.platform();
  if (!name.empty() && name != "auto" && name != "ptrace") {
    return absl::UnimplementedError(absl::StrCat("platform \"", name, "\" is not built in"));
  }
  Result<std::unique_ptr<platform::Platform>> opened = platform::ptrace::Open({});
  if (opened.ok()) return std::move(opened).value();
  // What exactly is missing is found out only now: it costs a process.
  RETURN_IF_ERROR(platform::ptrace::Probe());
  return HostErrnoStatus(static_cast<int>(opened.error()), "opening the ptrace platform");
}

}  // namespace caisson::boot
