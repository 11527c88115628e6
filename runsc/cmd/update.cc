#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/container/control.h"

namespace caisson::cmd {
namespace {

using oci::Json;

absl::StatusOr<oci::Resources> Wanted(const Args& args) {
  if (!args.resources_file.empty()) {
    ASSIGN_OR_RETURN(Json json, oci::LoadJson(args.resources_file));
    return oci::ReadResources(json);
  }
  oci::Resources out;
  out.blkio_weight = args.blkio_weight;
  out.cpu_period = args.cpu_period;
  out.cpu_quota = args.cpu_quota;
  out.cpu_burst = args.cpu_burst;
  out.cpu_shares = args.cpu_shares;
  out.cpu_realtime_period = args.cpu_rt_period;
  out.cpu_realtime_runtime = args.cpu_rt_runtime;
  if (args.cpu_idle.has_value()) out.cpu_idle = static_cast<int64_t>(*args.cpu_idle);
  out.cpuset_cpus = args.cpuset_cpus;
  out.cpuset_mems = args.cpuset_mems;
  out.memory_limit = args.memory;
  out.memory_reservation = args.memory_reservation;
  out.memory_swap = args.memory_swap;
  out.pids_limit = args.pids_limit;
  return out;
}

// Sets a.b.c = value, making what is missing.
void SetAt(Json& object, std::vector<absl::string_view> path, int64_t value) {
  Json* at = &object;
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    const Json* next = at->Find(path[i]);
    if (next == nullptr || !next->is_object()) at->Set(path[i], Json::Object());
    at = const_cast<Json*>(at->Find(path[i]));
  }
  at->Set(path.back(), value);
}

// The limits that the sentry enforces too are kept, so that the next update knows them.
absl::Status Remember(const Opened& container, const oci::Resources& wanted) {
  ASSIGN_OR_RETURN(std::string text, container.dir.ReadFile("config.json"));
  ASSIGN_OR_RETURN(Json config, oci::ParseJson(text));
  if (wanted.memory_limit.value_or(0) != 0) {
    SetAt(config, {"linux", "resources", "memory", "limit"}, *wanted.memory_limit);
  }
  if (wanted.pids_limit.value_or(0) != 0) {
    SetAt(config, {"linux", "resources", "pids", "limit"}, *wanted.pids_limit);
  }
  return container.dir.WriteFile("config.json", config.ToText());
}

uint64_t LimitOrNone(const std::optional<int64_t>& limit) {
  return limit.value_or(0) > 0 ? static_cast<uint64_t>(*limit) : 0;
}

}  // namespace

absl::StatusOr<int> Update(const Args& args) {
  absl::StatusOr<oci::Resources> wanted = Wanted(args);
  if (!wanted.ok()) return Annotate(wanted.status(), "update");
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/true));
  runsc::Status status = runsc::StatusOf(container.dir, container.state);
  if (status == runsc::Status::kStopped || status == runsc::Status::kCreating) {
    return absl::FailedPreconditionError("container not running");
  }
  cgroup::Cgroup group(container.state.cgroup_paths);
  if (!group.empty()) RETURN_IF_ERROR(group.Apply(*wanted));
  RETURN_IF_ERROR(Remember(container, *wanted));
  bool for_sentry = wanted->memory_limit.value_or(0) != 0 || wanted->pids_limit.value_or(0) != 0;
  // A frozen sentry cannot answer.
  if (!for_sentry || status == runsc::Status::kPaused) return 0;
  ASSIGN_OR_RETURN(oci::Spec spec, runsc::LoadSpec(container.dir));
  const oci::Resources& now = spec.linux_section.resources;
  protocol::Request request;
  protocol::UpdateRequest* update = request.mutable_update();
  update->set_container_id(container.state.id);
  update->set_memory_limit(LimitOrNone(now.memory_limit));
  update->set_pids_limit(LimitOrNone(now.pids_limit));
  RETURN_IF_ERROR(runsc::CallSentry(container.dir.control_socket(), request).status());
  return 0;
}

}  // namespace caisson::cmd
