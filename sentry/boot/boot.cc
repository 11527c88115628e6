#include "sentry/boot/boot.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "confine/confine.h"
#include "confine/role.h"
#include "sentry/boot/control_server.h"
#include "sentry/boot/filter.h"
#include "sentry/boot/requests.h"
#include "sentry/protocol/channel.h"

namespace caisson::boot {
namespace {

constexpr int kBootTimeoutMs = 10'000;
#ifdef CAISSON_SANITIZED
constexpr size_t kThreadStack = 2 << 20;  // Frames have red zones around every variable.
#else
constexpr size_t kThreadStack = 256 << 10;
#endif

std::string ReadSmallFile(const char* path) {
  UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  char buffer[8192];
  const ssize_t n = fd ? read(fd.get(), buffer, sizeof(buffer)) : -1;
  return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : std::string();
}

HostFacts LearnHostFacts() {
  HostFacts facts;
  const std::string status = ReadSmallFile("/proc/self/status");
  constexpr absl::string_view kKey = "Seccomp_filters:";
  const size_t at = status.find(kKey.data());
  if (at != std::string::npos) facts.seccomp_filters = atoi(status.c_str() + at + kKey.size());
  return facts;
}

// The sentry has many threads and many of them idle: small stacks, few malloc arenas.
void LimitMemoryUse() {
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_TRIM_THRESHOLD, 256 << 10);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kThreadStack);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

LogLevel LevelFromName(const std::string& name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "error") return LogLevel::kError;
  return LogLevel::kWarning;
}

absl::Status Confine(const protocol::SandboxConfig& config) {
  RETURN_IF_ERROR(confine::LimitCapabilities(0));
  RETURN_IF_ERROR(confine::SetNoNewPrivileges());
  // A stub runs as the same host user: it must not be able to trace the sentry.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return HostErrnoStatus(errno, "PR_SET_DUMPABLE");
  return confine::InstallFilter(SentryFilterProgram(), config.debug()
                                                           ? confine::OnViolation::kReport
                                                           : confine::OnViolation::kKill);
}

// Everything up to the filter. The platform's zygote is forked while the host's root is still
// there; entering the empty root changes the root of every process in this mount namespace, so the
// zygote's too, whose directory must be the root for that (pivot_root(2)).
absl::Status Boot(const protocol::SandboxConfig& config, bool host_network,
                  MemoryHeadroom::Files memory, const SentryParts& parts) {
  if (chdir("/") != 0) return HostErrnoStatus(errno, "chdir to /");
  if (!host_network && unshare(CLONE_NEWNET) != 0) {
    return HostErrnoStatus(errno, "new network namespace");
  }
  HostFacts facts = LearnHostFacts();
  if (memory.usage) facts.headroom = std::make_shared<MemoryHeadroom>(std::move(memory));
  if (parts.open_platform) RETURN_IF_ERROR(parts.open_platform(config, facts));
  RETURN_IF_ERROR(confine::EnterEmptyRoot());
  return Confine(config);
}

}  // namespace

int RunSentry(int argc, char** argv, const SentryParts& parts) {
  absl::StatusOr<confine::RoleArgs> args = confine::RoleArgs::Parse(argc, argv);
  if (!args.ok()) return 125;
  UniqueFd listener = args->TakeFd("listener");
  UniqueFd owner = args->TakeFd("owner");
  UniqueFd control = args->TakeFd("control");
  UniqueFd log = args->TakeFd("log");
  MemoryHeadroom::Files memory{.usage = args->TakeFd("memory-usage"),
                               .limit = args->TakeFd("memory-limit"),
                               .statistics = args->TakeFd("memory-statistics")};
  // What it writes to standard error the monitor logs.
  SetLogTarget(log ? log.get() : STDERR_FILENO, log ? LogFormat::kText : LogFormat::kRelayed,
               LogLevel::kWarning);
  if (!listener || !owner || !confine::DieWithParent(owner.get()).ok()) return 125;
  signal(SIGPIPE, SIG_IGN);
  confine::SetResourceLimits();
  LimitMemoryUse();

  protocol::Request request;
  absl::Status received =
      protocol::ReceiveMessage(owner.get(), &request, nullptr, kBootTimeoutMs);
  if (!received.ok() || !request.has_boot()) {
    LOG_ERROR("sentry: no boot request: ", received.message());
    return 125;
  }
  const protocol::SandboxConfig& config = request.boot().config();
  SetLogTarget(log ? log.get() : STDERR_FILENO,
               !log                            ? LogFormat::kRelayed
               : config.log_format() == "json" ? LogFormat::kJson
                                               : LogFormat::kText,
               LevelFromName(config.log_level()));

  absl::Status booted = Boot(config, args->IntOption("host-network") != 0, std::move(memory), parts);
  if (!booted.ok()) {
    LOG_ERROR("sentry: ", booted.message());
    SendReply(owner.get(), ErrorReply(protocol::Reply::INTERNAL, booted.message()));
    return 125;
  }
  std::unique_ptr<KernelControl> kernel = parts.make_kernel(config);
  if (kernel == nullptr) {
    SendReply(owner.get(), ErrorReply(protocol::Reply::INTERNAL, "kernel could not be made"));
    return 125;
  }
  SendReply(owner.get(), protocol::Reply());
  ControlServer server(*kernel, std::move(listener));
  server.AddConnection(std::move(owner), /*owns_sandbox=*/true);
  if (control) server.AddConnection(std::move(control), /*owns_sandbox=*/false);
  server.Run();
  // The monitor is gone or done with us. Guests and threads end with this process.
  _exit(0);
}

}  // namespace caisson::boot
