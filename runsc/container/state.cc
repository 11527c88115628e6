#include "runsc/container/state.h"

#include <time.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/container/process.h"
#include "runsc/oci/reader.h"

namespace caisson::runsc {
namespace {

using oci::Json;
using oci::Reader;

constexpr absl::string_view kPhases[] = {"creating", "created", "started"};

Json ProcessToJson(pid_t pid, uint64_t start_time) {
  Json out = Json::Object();
  out.Set("pid", static_cast<int64_t>(pid));
  out.Set("startTime", start_time);
  return out;
}

void ReadProcess(Reader& r, absl::string_view key, pid_t& pid, uint64_t& start_time) {
  r.Object(key, [&](Reader& p) {
    p.Get("pid", pid);
    p.Get("startTime", start_time);
  });
}

Json MapToJson(const std::map<std::string, std::string>& map) {
  Json out = Json::Object();
  for (const auto& [key, value] : map) out.Set(key, Json(value));
  return out;
}

void ReadMap(Reader& r, absl::string_view key, std::map<std::string, std::string>& out) {
  std::vector<std::pair<std::string, std::string>> pairs;
  r.GetMap(key, pairs);
  for (auto& [name, value] : pairs) out[name] = value;
}

}  // namespace

absl::string_view StatusName(Status status) {
  switch (status) {
    case Status::kCreating:
      return "creating";
    case Status::kCreated:
      return "created";
    case Status::kRunning:
      return "running";
    case Status::kPaused:
      return "paused";
    case Status::kStopped:
      return "stopped";
  }
  return "?";
}

Json StateToJson(const State& state) {
  Json out = Json::Object();
  out.Set("version", 1);
  out.Set("id", Json(state.id));
  out.Set("bundle", Json(state.bundle));
  out.Set("rootfs", Json(state.rootfs));
  out.Set("ociVersion", Json(state.oci_version));
  out.Set("created", Json(state.created));
  out.Set("ownerUid", state.owner_uid);
  out.Set("phase", kPhases[static_cast<int>(state.phase)]);
  out.Set("monitor",
          ProcessToJson(state.processes.monitor_pid, state.processes.monitor_start_time));
  out.Set("sentry", ProcessToJson(state.processes.sentry_pid, state.processes.sentry_start_time));
  out.Set("gofer", ProcessToJson(state.processes.gofer_pid, state.processes.gofer_start_time));
  out.Set("cgroupPaths", MapToJson(state.cgroup_paths));
  out.Set("systemdCgroup", state.systemd_cgroup);
  out.Set("platform", Json(state.platform));
  out.Set("annotations", MapToJson(state.annotations));
  return out;
}

absl::StatusOr<State> StateFromJson(const Json& json) {
  absl::Status error;
  State out;
  Reader r(json, "", error);
  int version = 0;
  std::string phase;
  r.Get("version", version);
  if (error.ok() && version != 1) r.Fail("version", absl::StrCat(version, " is not known"));
  r.Get("id", out.id);
  r.Get("bundle", out.bundle);
  r.Get("rootfs", out.rootfs);
  r.Get("ociVersion", out.oci_version);
  r.Get("created", out.created);
  r.Get("ownerUid", out.owner_uid);
  r.Get("phase", phase);
  bool known = false;
  for (int i = 0; i < 3; ++i) {
    if (kPhases[i] != phase) continue;
    out.phase = static_cast<State::Phase>(i);
    known = true;
  }
  if (!known) r.Fail("phase", absl::StrCat("\"", phase, "\" is not known"));
  ReadProcess(r, "monitor", out.processes.monitor_pid, out.processes.monitor_start_time);
  ReadProcess(r, "sentry", out.processes.sentry_pid, out.processes.sentry_start_time);
  ReadProcess(r, "gofer", out.processes.gofer_pid, out.processes.gofer_start_time);
  ReadMap(r, "cgroupPaths", out.cgroup_paths);
  r.Get("systemdCgroup", out.systemd_cgroup);
  r.Get("platform", out.platform);
  ReadMap(r, "annotations", out.annotations);
  RETURN_IF_ERROR(error);
  return out;
}

Status StatusOf(const ContainerDir& dir, const State& state) {
  const SandboxProcesses& p = state.processes;
  // A create that is under way has the lock; without it, it died on the way.
  if (state.phase == State::Phase::kCreating) {
    return dir.IsLocked() ? Status::kCreating : Status::kStopped;
  }
  if (!IsAlive(p.monitor_pid, p.monitor_start_time)) return Status::kStopped;
  const bool started = state.phase == State::Phase::kStarted;
  if (started) {
    cgroup::Cgroup group(state.cgroup_paths);
    if (group.IsFrozen()) return Status::kPaused;
    if (group.can_freeze()) return Status::kRunning;
    // Without a freezer the sentry alone knows.
  }
  const Status otherwise = started ? Status::kRunning : Status::kCreated;
  // `start` writes the file after the container has been released: it may have died between.
  absl::StatusOr<ControlClient> client = ControlClient::Connect(dir.control_socket());
  if (!client.ok()) return otherwise;
  protocol::Request request;
  request.mutable_state()->set_container_id(state.id);
  absl::StatusOr<protocol::Reply> reply = client->Call(request, {}, 1'000);
  if (!reply.ok() || reply->code() != protocol::Reply::OK) return otherwise;
  if (started && reply->status() != protocol::Reply::PAUSED) return Status::kRunning;
  switch (reply->status()) {
    case protocol::Reply::RUNNING:
      return Status::kRunning;
    case protocol::Reply::PAUSED:
      return Status::kPaused;
    case protocol::Reply::STOPPED:
      return Status::kStopped;
    default:
      return otherwise;
  }
}

std::string NowRfc3339() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  char date[32];
  strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &parts);
  char out[64];
  snprintf(out, sizeof(out), "%s.%09ldZ", date, now.tv_nsec);
  return out;
}

}  // namespace caisson::runsc
