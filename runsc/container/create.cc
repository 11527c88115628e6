#include <sched.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/container/attach.h"
#include "runsc/container/container.h"
#include "runsc/container/hooks.h"
#include "runsc/container/process.h"
#include "runsc/container/sources.h"
#include "runsc/oci/convert.h"
#include "runsc/oci/seccomp_filter.h"

namespace caisson::runsc {
namespace {

// One create from its beginning to its end; what it made is undone unless it ends well.
class Creation {
 public:
  Creation(const Options& options, const CreateRequest& request)
      : options_(options), request_(request) {}

  absl::StatusOr<Created> Run() {
    RETURN_IF_ERROR(Prepare());
    absl::Cleanup undo = [this] { Undo(); };
    RETURN_IF_ERROR(Remember());
    RETURN_IF_ERROR(PlaceInCgroup());
    RETURN_IF_ERROR(Launch());
    std::move(undo).Cancel();
    return Created{*std::move(dir_), std::move(state_), std::move(master_)};
  }

 private:
  // Everything that can be refused before something exists.
  absl::Status Prepare() {
    absl::StatusOr<oci::Json> config = oci::ParseJson(request_.config);
    if (!config.ok()) return Annotate(config.status(), "config.json");
    absl::StatusOr<oci::Spec> spec = oci::ReadSpec(*config);
    if (!spec.ok()) return Annotate(spec.status(), "config.json");
    spec_ = *std::move(spec);
    absl::StatusOr<oci::Converted> converted =
        oci::ConvertSpec(spec_, {request_.id, request_.bundle, options_.overlay});
    if (!converted.ok()) return Annotate(converted.status(), "config.json");
    converted_ = *std::move(converted);
    ASSIGN_OR_RETURN(sources_, OpenSources(converted_));
    struct sysinfo memory {};
    if (sysinfo(&memory) == 0) {
      converted_.container.set_total_memory(uint64_t{memory.totalram} * memory.mem_unit);
    }
    if (spec_.linux_section.seccomp.has_value()) {
      ASSIGN_OR_RETURN(seccomp_, oci::CompileSeccomp(*spec_.linux_section.seccomp));
      converted_.container.mutable_init()->set_seccomp_bpf(seccomp_.bpf);
      converted_.container.mutable_init()->set_seccomp_flags(seccomp_.flags);
    }
    ASSIGN_OR_RETURN(Attached attached,
                     Attach(request_.attachment, *converted_.container.mutable_init()));
    stdio_ = std::move(attached.stdio);
    master_ = std::move(attached.master);
    return absl::OkStatus();
  }

  // Takes the id and writes down what is about to exist, so that `delete --force` finds it.
  absl::Status Remember() {
    if (!options_.ignore_cgroups) {
      if (options_.systemd_cgroup) {
        return absl::UnimplementedError(
            "--systemd-cgroup is not supported yet: use the cgroupfs driver");
      }
      ASSIGN_OR_RETURN(cgroup::Hierarchy hierarchy, cgroup::Hierarchy::OfThisProcess());
      cgroup_ = cgroup::Cgroup(hierarchy.PathsFor(spec_.linux_section.cgroups_path, request_.id));
    }
    ASSIGN_OR_RETURN(ContainerDir dir, ContainerDir::Make(options_.root, request_.id));
    dir_ = std::move(dir);
    RETURN_IF_ERROR(dir_->Lock(1'000));
    state_.id = request_.id;
    state_.bundle = request_.bundle;
    state_.rootfs = converted_.sources[0].path;
    state_.oci_version = spec_.oci_version;
    state_.created = NowRfc3339();
    state_.owner_uid = geteuid();
    state_.cgroup_paths = cgroup_.paths();
    state_.platform = options_.platform;
    state_.annotations = spec_.annotations;
    RETURN_IF_ERROR(dir_->SaveState(state_));
    RETURN_IF_ERROR(dir_->WriteFile("config.json", request_.config));
    if (seccomp_.bpf.empty()) return absl::OkStatus();
    std::string saved(reinterpret_cast<const char*>(&seccomp_.flags), sizeof(seccomp_.flags));
    return dir_->WriteFile("seccomp.bpf", saved + seccomp_.bpf);
  }

  absl::Status PlaceInCgroup() {
    if (cgroup_.empty()) return absl::OkStatus();
    absl::Status status = cgroup_.Create();
    made_cgroup_ = status.ok();
    if (status.ok()) status = cgroup_.Apply(spec_.linux_section.resources);
    if (status.ok()) {
      state_.cgroup_paths = cgroup_.paths();
      return absl::OkStatus();
    }
    // Without root there may be no way to a cgroup of one's own.
    bool denied = absl::IsPermissionDenied(status) && (options_.rootless || geteuid() != 0);
    if (!denied) return status;
    LOG_WARNING("no cgroup: ", status.message());
    if (made_cgroup_) (void)cgroup_.KillAndRemove();
    made_cgroup_ = false;
    cgroup_ = cgroup::Cgroup();
    state_.cgroup_paths.clear();
    return absl::OkStatus();
  }

  protocol::SandboxConfig Config() const {
    protocol::SandboxConfig out;
    out.set_platform(options_.platform);  // The sentry resolves auto.
    out.set_strace(options_.strace);
    out.set_strace_filter(options_.strace_calls);
    out.set_log_level(options_.debug ? "debug" : options_.strace ? "info" : "warning");
    out.set_log_format(options_.json_log ? "json" : "text");
    out.set_network(options_.network);
    out.set_host_uds(options_.host_uds);
    out.set_debug(options_.debug);
    absl::StatusOr<int> cpus = oci::CountCpus(spec_.linux_section.resources.cpuset_cpus);
    if (cpus.ok()) out.set_cpu_count(static_cast<uint32_t>(*cpus));
    return out;
  }

  absl::Status Launch() {
    ASSIGN_OR_RETURN(UniqueFd debug_log, OpenDebugLog(options_, "boot", request_.id));
    MakeTargetsInReadOnlyRoot(converted_, sources_[0]);
    SandboxStart start;
    start.config = Config();
    start.uid_mappings.assign(converted_.container.uid_mappings().begin(),
                              converted_.container.uid_mappings().end());
    start.gid_mappings.assign(converted_.container.gid_mappings().begin(),
                              converted_.container.gid_mappings().end());
    start.container = std::move(converted_.container);
    start.gofers = std::move(sources_);
    start.stdio = std::move(stdio_);
    start.control_socket_path = dir_->control_socket();
    ASSIGN_OR_RETURN(start.exit_status, dir_->MakeExitStatus());
    start.log_fd = options_.log_fd;
    start.debug_log_fd = debug_log.get();
    if (converted_.network_namespace.has_value()) {
      start.namespaces.push_back({CLONE_NEWNET, *converted_.network_namespace});
    }
    if (!cgroup_.empty()) {
      start.join_cgroup = [this](bool in_v2) { return cgroup_.Join(in_v2); };
      start.cgroup_v2 = cgroup_.OpenV2();
      start.memory = cgroup_.OpenMemoryFiles();
    }
    absl::StatusOr<SandboxProcesses> processes =
        StartSandbox(std::move(start), [this](pid_t monitor) { return RunCreateHooks(monitor); });
    if (!processes.ok()) {
      return Annotate(processes.status(), "unable to start container process");
    }
    state_.processes = *processes;
    state_.phase = State::Phase::kCreated;
    RETURN_IF_ERROR(dir_->SaveState(state_));
    return Announce(request_.attachment, state_.processes.monitor_pid, master_);
  }

  // Called by StartSandbox when the monitor is in its namespaces and cgroup.
  absl::Status RunCreateHooks(pid_t monitor) {
    std::optional<ProcessStat> stat = StatOf(monitor);
    if (!stat.has_value()) return absl::InternalError("the monitor has gone");
    state_.processes.monitor_pid = monitor;
    state_.processes.monitor_start_time = stat->start_time;
    RETURN_IF_ERROR(dir_->SaveState(state_));
    const oci::Hooks& hooks = spec_.hooks;
    if (hooks.prestart.empty() && hooks.create_runtime.empty() && hooks.create_container.empty()) {
      return absl::OkStatus();
    }
    hooks_ran_ = true;
    std::string json = OciState(state_, Status::kCreating).ToText();
    RETURN_IF_ERROR(RunHooks("prestart", hooks.prestart, json));
    RETURN_IF_ERROR(RunHooks("createRuntime", hooks.create_runtime, json));
    return RunHooks("createContainer", hooks.create_container, json, monitor);
  }

  void Undo() {
    if (state_.processes.monitor_pid > 0) {
      absl::Status killed = KillSandbox(state_.processes);
      if (!killed.ok()) LOG_WARNING("after a failed create: ", killed.message());
    }
    if (made_cgroup_) {
      absl::Status removed = cgroup_.KillAndRemove();
      if (!removed.ok()) LOG_WARNING("after a failed create: ", removed.message());
    }
    if (hooks_ran_) {
      absl::Status stopped =
          RunHooks("poststop", spec_.hooks.poststop, OciState(state_, Status::kStopped).ToText());
      if (!stopped.ok()) LOG_WARNING(stopped.message());
    }
    if (dir_.has_value()) {
      absl::Status removed = dir_->Remove();
      if (!removed.ok()) LOG_WARNING("after a failed create: ", removed.message());
    }
  }

  const Options& options_;
  const CreateRequest& request_;
  oci::Spec spec_;
  oci::Converted converted_;
  oci::SeccompFilter seccomp_;
  std::vector<GoferSource> sources_;
  Stdio stdio_;
  UniqueFd master_;
  cgroup::Cgroup cgroup_;
  bool made_cgroup_ = false;
  bool hooks_ran_ = false;
  std::optional<ContainerDir> dir_;
  State state_;
};

}  // namespace

absl::StatusOr<Created> CreateContainer(const Options& options, const CreateRequest& request) {
  // Asked for, and not there: a guest that waits for a network or a socket would fail less clearly.
  if (options.network == "host") return absl::UnimplementedError("--network=host is not supported yet");
  if (options.host_uds) return absl::UnimplementedError("--host-uds=open is not supported yet");
  return Creation(options, request).Run();
}

}  // namespace caisson::runsc
