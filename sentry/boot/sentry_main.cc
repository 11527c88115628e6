#include <sched.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "base/status.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/main.h"
#include "sentry/boot/open_platform.h"
#include "sentry/boot/sandbox_kernel.h"

namespace caisson::boot {
namespace {

// What the kernel must know of the host, asked while the host still answers.
kernel::KernelConfig ToKernelConfig(const protocol::SandboxConfig& config) {
  kernel::KernelConfig out;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  const int available = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
  out.cpu_count = config.cpu_count() != 0 ? config.cpu_count() : static_cast<uint32_t>(available);
  out.total_memory = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * kPageSize;
  out.hwcap = getauxval(AT_HWCAP);
  out.hwcap2 = getauxval(AT_HWCAP2);
  return out;
}

}  // namespace

int SentryMain(int argc, char** argv) {
  std::unique_ptr<platform::Platform> platform;
  kernel::KernelConfig kernel_config;
  SentryParts parts;
  parts.open_platform = [&](const protocol::SandboxConfig& config, const HostFacts& facts) -> absl::Status {
    kernel_config = ToKernelConfig(config);
    ASSIGN_OR_RETURN(platform, OpenPlatform(config, facts));
    return absl::OkStatus();
  };
  parts.make_kernel = [&](const protocol::SandboxConfig& config) -> std::unique_ptr<KernelControl> {
    platform->OnConfined();
    return std::make_unique<SandboxKernel>(config, kernel_config, std::move(platform));
  };
  return RunSentry(argc, argv, parts);
}

}  // namespace caisson::boot
