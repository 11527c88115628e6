#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/container/container.h"
#include "runsc/container/control.h"
#include "runsc/container/hooks.h"
#include "runsc/container/process.h"
#include "runsc/container/start_hooks.h"

namespace caisson::runsc {
namespace {

absl::Status NotRunning() { return absl::FailedPreconditionError("container not running"); }

absl::Status SignalSentry(const ContainerDir& dir, const State& state, int signal, bool all) {
  protocol::Request request;
  protocol::SignalRequest* s = request.mutable_signal();
  s->set_container_id(state.id);
  s->set_signal(signal);
  s->set_target(all ? protocol::SignalRequest::ALL : protocol::SignalRequest::PROCESS);
  absl::StatusOr<protocol::Reply> reply = CallSentry(dir.control_socket(), request);
  if (absl::IsNotFound(reply.status())) return NotRunning();
  return reply.status();
}

// Everything of a container but its directory.
absl::Status TearDown(const ContainerDir& dir, const State& state) {
  cgroup::Cgroup group(state.cgroup_paths);
  if (group.IsFrozen()) (void)group.SetFrozen(false);
  RETURN_IF_ERROR(KillSandbox(state.processes));
  if (!group.empty()) RETURN_IF_ERROR(group.KillAndRemove());
  absl::StatusOr<oci::Spec> spec = LoadSpec(dir);
  if (!spec.ok()) return absl::OkStatus();  // A create that failed before it got that far.
  absl::Status hooks =
      RunHooks("poststop", spec->hooks.poststop, OciState(state, Status::kStopped).ToText());
  if (!hooks.ok()) LOG_WARNING(hooks.message());
  return absl::OkStatus();
}

}  // namespace

oci::Json OciState(const State& state, Status status) {
  oci::Json out = oci::Json::Object();
  out.Set("ociVersion", oci::Json(state.oci_version));
  out.Set("id", oci::Json(state.id));
  out.Set("pid", status == Status::kStopped ? int64_t{0}
                                            : std::max<int64_t>(0, state.processes.monitor_pid));
  out.Set("status", StatusName(status));
  out.Set("bundle", oci::Json(state.bundle));
  out.Set("rootfs", oci::Json(state.rootfs));
  out.Set("created", oci::Json(state.created));
  if (!state.annotations.empty()) {
    oci::Json annotations = oci::Json::Object();
    for (const auto& [key, value] : state.annotations) annotations.Set(key, oci::Json(value));
    out.Set("annotations", std::move(annotations));
  }
  return out;
}

absl::StatusOr<oci::Spec> LoadSpec(const ContainerDir& dir) {
  ASSIGN_OR_RETURN(std::string text, dir.ReadFile("config.json"));
  absl::StatusOr<oci::Json> json = oci::ParseJson(text);
  if (!json.ok()) return Annotate(json.status(), "the saved config.json");
  return oci::ReadCheckedSpec(*json);
}

absl::Status StartContainer(const Options& options, ContainerDir& dir, State& state) {
  Status status = StatusOf(dir, state);
  if (status == Status::kStopped) {
    return absl::FailedPreconditionError("cannot start a container that has stopped");
  }
  if (status != Status::kCreated) {
    return absl::FailedPreconditionError(status == Status::kCreating
                                             ? "cannot start a container that is being created"
                                             : "cannot start an already running container");
  }
  ASSIGN_OR_RETURN(oci::Spec spec, LoadSpec(dir));
  // OCI runtime spec, Lifecycle: a startContainer hook that fails stops the container.
  if (absl::Status hooks = RunStartContainerHooks(options, dir, state, spec); !hooks.ok()) {
    (void)KillSandbox(state.processes);
    return hooks;
  }
  protocol::Request request;
  request.mutable_start_container()->set_container_id(state.id);
  absl::Status started = CallSentry(dir.control_socket(), request).status();
  // A process that ends at once may take the sandbox with it before the answer is read: that is an
  // end after the start, which the exit status tells.
  if (!started.ok() && started.code() != absl::StatusCode::kOutOfRange) return started;
  state.phase = State::Phase::kStarted;
  RETURN_IF_ERROR(dir.SaveState(state));
  absl::Status hooks =
      RunHooks("poststart", spec.hooks.poststart, OciState(state, Status::kRunning).ToText());
  if (!hooks.ok()) LOG_WARNING(hooks.message());
  return absl::OkStatus();
}

absl::Status SignalContainer(const ContainerDir& dir, const State& state, int signal, bool all) {
  Status status = StatusOf(dir, state);
  if (status == Status::kStopped) return all ? absl::OkStatus() : NotRunning();
  if (status == Status::kCreating) return NotRunning();
  if (signal == SIGKILL && (status == Status::kCreated || status == Status::kPaused)) {
    if (status == Status::kPaused) (void)cgroup::Cgroup(state.cgroup_paths).SetFrozen(false);
    return KillSandbox(state.processes);
  }
  if (status == Status::kPaused) {
    // A frozen sentry cannot answer: the monitor passes the signal on when it thaws.
    if (kill(state.processes.monitor_pid, signal) == 0) return absl::OkStatus();
    return errno == ESRCH ? NotRunning() : HostErrnoStatus(errno, "kill");
  }
  absl::Status sent = SignalSentry(dir, state, signal, all);
  // Where the signal ended the sandbox, the answer may have gone with it.
  if (sent.ok() || sent.code() == absl::StatusCode::kOutOfRange) return absl::OkStatus();
  // It may have ended meanwhile.
  if (!IsAlive(state.processes.monitor_pid, state.processes.monitor_start_time)) {
    return all ? absl::OkStatus() : NotRunning();
  }
  // A sentry that does not answer is killed as a whole.
  if (signal == SIGKILL) return KillSandbox(state.processes);
  // The sentry is gone, and its monitor about to say so. Engines know these words.
  if (absl::IsUnavailable(sent)) return all ? absl::OkStatus() : NotRunning();
  return sent;
}

absl::Status DeleteContainer(const Options& options, const std::string& id, bool force) {
  absl::StatusOr<ContainerDir> dir = ContainerDir::Open(options.root, id);
  if (!dir.ok()) return force && absl::IsNotFound(dir.status()) ? absl::OkStatus() : dir.status();
  absl::Status locked = dir->Lock(force ? 2'000 : 10'000);
  if (absl::IsNotFound(locked)) return force ? absl::OkStatus() : locked;
  if (!locked.ok()) {
    if (!force) return locked;
    // A create that hangs, in a hook perhaps, fails when its monitor dies, and cleans up.
    absl::StatusOr<State> state = dir->LoadState();
    if (state.ok()) (void)KillSandbox(state->processes);
    locked = dir->Lock(1'000);
    if (absl::IsNotFound(locked)) return absl::OkStatus();
  }
  absl::StatusOr<State> state = dir->LoadState();
  if (!state.ok()) {
    // Nothing was started before the first state was written. A damaged file is another matter.
    if (!absl::IsNotFound(state.status()) && !force) return state.status();
    return dir->Remove();
  }
  Status status = StatusOf(*dir, *state);
  if (!force && status != Status::kStopped && status != Status::kCreated) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot delete container \"", id, "\" that is not stopped: ", StatusName(status)));
  }
  RETURN_IF_ERROR(TearDown(*dir, *state));
  return dir->Remove();
}

namespace {
// The sentry's tasks go on.
absl::Status LetGo(const ContainerDir& dir, const State& state) {
  protocol::Request request;
  request.mutable_resume()->set_container_id(state.id);
  return CallSentry(dir.control_socket(), request).status();
}
}  // namespace

absl::Status PauseContainer(ContainerDir& dir, const State& state) {
  Status status = StatusOf(dir, state);
  if (status == Status::kPaused)
    return absl::FailedPreconditionError("container is already paused");
  if (status != Status::kRunning && status != Status::kCreated) return NotRunning();
  cgroup::Cgroup group(state.cgroup_paths);
  protocol::Request request;
  request.mutable_pause()->set_container_id(state.id);
  if (!group.can_freeze()) return CallSentry(dir.control_socket(), request).status();
  // First the sentry holds its tasks: the freezer's signal for a thread whose call is just being answered would make the
  // host repeat the call. They go on by themselves, when the freezer's time to freeze is over: it may be somebody else who thaws.
  request.mutable_pause()->set_at_most_ms(5'000);
  absl::Status held = CallSentry(dir.control_socket(), request).status();
  if (!held.ok()) LOG_WARNING(absl::StrCat("pause: the sentry does not hold its tasks: ", held.message()));
  absl::Status frozen = group.SetFrozen(true);
  if (!frozen.ok()) (void)LetGo(dir, state);
  return frozen;
}

absl::Status ResumeContainer(ContainerDir& dir, const State& state) {
  cgroup::Cgroup group(state.cgroup_paths);
  Status status = StatusOf(dir, state);
  if (status == Status::kStopped || status == Status::kCreating) return NotRunning();
  if (group.can_freeze()) {
    if (!group.IsFrozen()) return absl::FailedPreconditionError("container not paused");
    RETURN_IF_ERROR(group.SetFrozen(false));
    (void)LetGo(dir, state);  // It may end as soon as it is thawed.
    return absl::OkStatus();
  }
  if (status != Status::kPaused) return absl::FailedPreconditionError("container not paused");
  return LetGo(dir, state);
}

absl::StatusOr<std::vector<pid_t>> HostPids(const ContainerDir& dir, const State& state) {
  Status status = StatusOf(dir, state);
  if (status == Status::kStopped || status == Status::kCreating) return NotRunning();
  cgroup::Cgroup group(state.cgroup_paths);
  std::vector<pid_t> candidates = group.empty() ? AllProcesses() : group.Processes();
  std::vector<pid_t> out;
  protocol::Request request;
  request.mutable_ps()->set_container_id(state.id);
  // A frozen sentry does not answer.
  absl::StatusOr<protocol::Reply> reply = group.IsFrozen() ? absl::UnavailableError("frozen")
                                              : CallSentry(dir.control_socket(), request);
  if (reply.ok()) {
    // The sentry names its stubs by their pids in its own pid namespace. The names are taken only
    // for processes that are children of the sentry, so a lie reaches no other process.
    for (pid_t pid : candidates) {
      std::optional<ProcessStat> stat = StatOf(pid);
      if (!stat.has_value() || stat->ppid != state.processes.sentry_pid) continue;
      std::vector<pid_t> pids = NamespacePids(pid);
      for (const protocol::ProcessInfo& info : reply->processes()) {
        if (!pids.empty() && pids.back() == info.stub_pid()) {
          out.push_back(pid);
          break;
        }
      }
    }
  }
  if (out.empty()) out.push_back(state.processes.monitor_pid);
  return out;
}

}  // namespace caisson::runsc
