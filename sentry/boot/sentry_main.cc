#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/status.h"
#include "base/unique_fd.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/main.h"
#include "sentry/boot/open_platform.h"
#include "sentry/boot/sandbox_kernel.h"

namespace caisson::boot {
namespace {

uint64_t ReadNumber(const char* path, uint64_t otherwise) {
  UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  char text[32] = {};
  if (!fd || read(fd.get(), text, sizeof(text) - 1) <= 0) return otherwise;
  const uint64_t value = strtoull(text, nullptr, 10);
  return value != 0 ? value : otherwise;
}

// A guest task is a thread of the sentry's, one of a stub's and, first of its process, the stub's
// worker: a quarter of what the host has leaves room for others, and nobody needs more than 16,384.
uint64_t MaxTasks() {
  constexpr uint64_t kMost = 16384, kLeast = 256;
  uint64_t host = std::min(ReadNumber("/proc/sys/kernel/threads-max", kMost * 4),
                           ReadNumber("/proc/sys/kernel/pid_max", kMost * 4));
  rlimit limit;
  if (getrlimit(RLIMIT_NPROC, &limit) == 0) host = std::min<uint64_t>(host, limit.rlim_cur);
  return std::clamp(host / 4, kLeast, kMost);
}

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
  out.max_tasks = MaxTasks();
  return out;
}

}  // namespace

int SentryMain(int argc, char** argv) {
  std::unique_ptr<platform::Platform> platform;
  kernel::KernelConfig kernel_config;
  SentryParts parts;
  parts.open_platform = [&](const protocol::SandboxConfig& config, const HostFacts& facts) -> absl::Status {
    kernel_config = ToKernelConfig(config);
    kernel_config.headroom = facts.headroom;
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
