#include <poll.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/container/control.h"
#include "runsc/container/process.h"

namespace caisson::cmd {
namespace {

using oci::Json;

Json MemoryUse(uint64_t limit, uint64_t usage, uint64_t max, uint64_t failures) {
  Json out = Json::Object();
  if (limit != 0) out.Set("limit", limit);
  out.Set("usage", usage).Set("max", max).Set("failcnt", failures);
  return out;
}

Json CpuJson(const cgroup::Stats& s) {
  Json percpu = Json::Array();
  for (uint64_t ns : s.cpu_percpu_ns) percpu.Append(ns);
  Json usage = Json::Object();
  usage.Set("total", s.cpu_total_ns).Set("percpu", std::move(percpu));
  usage.Set("kernel", s.cpu_system_ns).Set("user", s.cpu_user_ns);
  Json throttling = Json::Object();
  throttling.Set("periods", s.throttle_periods)
      .Set("throttledPeriods", s.throttled_periods)
      .Set("throttledTime", s.throttled_ns);
  return Json::Object().Set("usage", std::move(usage)).Set("throttling", std::move(throttling));
}

// As runc's `events` prints it. The sentry's counts replace the cgroup's where it answers: those
// of the cgroup include the sandbox itself.
Json StatsJson(const Opened& container) {
  cgroup::Stats s = cgroup::Cgroup(container.state.cgroup_paths).ReadStats();
  uint64_t tasks = s.pids_current;
  uint64_t tasks_limit = s.pids_limit;
  if (absl::StatusOr<oci::Spec> spec = runsc::LoadSpec(container.dir); spec.ok()) {
    int64_t limit = spec->linux_section.resources.pids_limit.value_or(0);
    tasks_limit = limit > 0 ? static_cast<uint64_t>(limit) : 0;
  }
  if (runsc::StatusOf(container.dir, container.state) == runsc::Status::kRunning) {
    protocol::Request request;
    request.mutable_events()->set_container_id(container.state.id);
    absl::StatusOr<protocol::Reply> reply =
        runsc::CallSentry(container.dir.control_socket(), request, 2'000);
    if (reply.ok() && reply->has_stats()) {
      tasks = reply->stats().tasks();
      if (s.memory_usage == 0) s.memory_usage = reply->stats().memory_usage();
      if (s.memory_peak == 0) s.memory_peak = reply->stats().memory_peak();
      if (s.cpu_total_ns == 0) s.cpu_total_ns = reply->stats().cpu_usage_ns();
    }
  }
  Json raw = Json::Object();
  for (const auto& [key, value] : s.memory_raw) raw.AsObject()->emplace_back(key, Json(value));
  Json memory = Json::Object();
  memory.Set("cache", s.memory_cache)
      .Set("usage", MemoryUse(s.memory_limit, s.memory_usage, s.memory_peak, s.memory_failures))
      .Set("swap", MemoryUse(s.swap_limit, s.swap_usage, 0, 0))
      .Set("kernel", MemoryUse(0, 0, 0, 0))
      .Set("kernelTCP", MemoryUse(0, 0, 0, 0))
      .Set("raw", std::move(raw));
  Json pids = Json::Object().Set("current", tasks);
  if (tasks_limit != 0) pids.Set("limit", tasks_limit);
  Json out = Json::Object();
  out.Set("cpu", CpuJson(s)).Set("memory", std::move(memory)).Set("pids", std::move(pids));
  out.Set("blkio", Json::Object()).Set("hugetlb", Json::Object());
  out.Set("intel_rdt", Json::Object()).Set("network_interfaces", Json());
  return out;
}

absl::Status PrintEvent(const Opened& container, const char* type, Json data) {
  Json event = Json::Object();
  event.Set("type", type).Set("id", Json(container.state.id)).Set("data", std::move(data));
  return Print(event.ToText() + "\n");
}

}  // namespace

absl::StatusOr<int> Events(const Args& args) {
  std::optional<int64_t> interval = ParseDuration(args.interval);
  if (!interval.has_value() || *interval <= 0) {
    return absl::InvalidArgumentError("duration interval must be greater than 0");
  }
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  if (runsc::StatusOf(container.dir, container.state) == runsc::Status::kStopped) {
    return absl::FailedPreconditionError(
        absl::StrCat("container with id ", container.state.id, " is not running"));
  }
  RETURN_IF_ERROR(PrintEvent(container, "stats", StatsJson(container)));
  if (args.stats) return 0;
  // Notices of the OOM killer come from its counter, looked at each second: one way for v1 and v2.
  constexpr int64_t kPollMs = 1000;
  const runsc::SandboxProcesses& p = container.state.processes;
  UniqueFd pidfd = runsc::OpenPidfd(p.monitor_pid);
  uint64_t kills = cgroup::Cgroup(container.state.cgroup_paths).ReadStats().oom_kills;
  for (int64_t until_stats = *interval;;) {
    pollfd gone{pidfd.get(), POLLIN, 0};
    int64_t delay = std::min(kPollMs, until_stats);
    poll(&gone, 1, static_cast<int>(delay));
    bool alive = runsc::IsAlive(p.monitor_pid, p.monitor_start_time);
    uint64_t now = cgroup::Cgroup(container.state.cgroup_paths).ReadStats().oom_kills;
    for (; kills < now; ++kills) RETURN_IF_ERROR(PrintEvent(container, "oom", Json()));
    if (!alive) return 0;
    until_stats -= delay;
    if (until_stats > 0) continue;
    RETURN_IF_ERROR(PrintEvent(container, "stats", StatsJson(container)));
    until_stats = *interval;
  }
}

}  // namespace caisson::cmd
