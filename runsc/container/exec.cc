#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/container/attach.h"
#include "runsc/container/container.h"
#include "runsc/container/foreground.h"
#include "runsc/container/process.h"
#include "runsc/container/start_hooks.h"
#include "runsc/oci/convert.h"

namespace caisson::runsc {
namespace {

// What create compiled: flags, then the program.
absl::Status AddSeccomp(const ContainerDir& dir, protocol::Process& process) {
  absl::StatusOr<std::string> saved = dir.ReadFile("seccomp.bpf");
  if (absl::IsNotFound(saved.status())) return absl::OkStatus();
  if (!saved.ok()) return saved.status();
  uint32_t flags = 0;
  if (saved->size() < sizeof(flags)) return absl::DataLossError("seccomp.bpf is too short");
  memcpy(&flags, saved->data(), sizeof(flags));
  process.set_seccomp_flags(flags);
  process.set_seccomp_bpf(saved->substr(sizeof(flags)));
  return absl::OkStatus();
}

absl::StatusOr<pid_t> Launch(const ContainerDir& dir, const State& state, protocol::Process process,
                             Stdio stdio) {
  ExecStart start;
  start.control_socket_path = dir.control_socket();
  start.container_id = state.id;
  start.process = std::move(process);
  start.stdio = std::move(stdio);
  cgroup::Cgroup group(state.cgroup_paths);
  if (!group.empty()) {
    start.join_cgroup = [group](bool in_v2) { return group.Join(in_v2); };
    start.cgroup_v2 = group.OpenV2();
  }
  start.namespaces.push_back(
      {CLONE_NEWNET, absl::StrCat("/proc/", state.processes.monitor_pid, "/ns/net")});
  const std::string mounts = absl::StrCat("/proc/", state.processes.monitor_pid, "/ns/mnt");
  start.mount_namespace.reset(open(mounts.c_str(), O_RDONLY | O_CLOEXEC));
  absl::StatusOr<pid_t> monitor = StartExec(std::move(start));
  if (!monitor.ok()) return Annotate(monitor.status(), "unable to start container process");
  return monitor;
}

absl::Status RunOne(const ContainerDir& dir, const State& state, const oci::Spec& spec,
                    const oci::Hook& hook) {
  oci::Process process = *spec.process;
  process.args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  process.args[0] = hook.path;
  if (!hook.env.empty()) process.env = hook.env;
  process.terminal = false;
  ASSIGN_OR_RETURN(protocol::Process converted, oci::ConvertProcess(process));
  RETURN_IF_ERROR(AddSeccomp(dir, converted));
  std::string json = OciState(state, Status::kCreated).ToText();
  Stdio stdio;
  stdio.fds[0].reset(memfd_create("hook", MFD_CLOEXEC));
  stdio.fds[1].reset(open("/dev/null", O_WRONLY | O_CLOEXEC));
  stdio.fds[2].reset(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
  if (!stdio.fds[0] || !stdio.fds[1] || !stdio.fds[2] ||
      pwrite(stdio.fds[0].get(), json.data(), json.size(), 0) < 0) {
    return HostErrnoStatus(errno, "stdio");
  }
  BecomeSubreaper();
  ASSIGN_OR_RETURN(pid_t monitor, Launch(dir, state, std::move(converted), std::move(stdio)));
  UniqueFd pidfd = OpenPidfd(monitor);
  pollfd p{pidfd.get(), POLLIN, 0};
  int n = 0;
  do {
    n = poll(&p, 1, hook.timeout_seconds.has_value() ? *hook.timeout_seconds * 1000 : -1);
  } while (n < 0 && errno == EINTR);
  if (n == 0) kill(monitor, SIGKILL);
  int status = 0;
  while (waitpid(monitor, &status, 0) < 0 && errno == EINTR) {
  }
  if (n == 0) {
    return absl::DeadlineExceededError(
        absl::StrCat("not done after ", *hook.timeout_seconds, " seconds"));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("wait status ", status));
}

}  // namespace

absl::StatusOr<ExecStarted> ExecInContainer(const Options&, const ContainerDir& dir,
                                            const State& state, const ExecRequest& request) {
  absl::StatusOr<protocol::Process> process = oci::ConvertProcess(request.process);
  if (!process.ok()) return process.status();
  RETURN_IF_ERROR(AddSeccomp(dir, *process));
  ASSIGN_OR_RETURN(Attached attached, Attach(request.attachment, *process));
  ExecStarted out;
  if (!request.attachment.detach) BecomeSubreaper();
  ASSIGN_OR_RETURN(out.monitor, Launch(dir, state, *std::move(process), std::move(attached.stdio)));
  absl::Status announced = Announce(request.attachment, out.monitor, attached.master);
  if (!announced.ok()) {
    kill(out.monitor, SIGKILL);
    return announced;
  }
  out.master = std::move(attached.master);
  return out;
}

absl::Status RunStartContainerHooks(const Options&, const ContainerDir& dir, const State& state,
                                    const oci::Spec& spec) {
  for (const oci::Hook& hook : spec.hooks.start_container) {
    absl::Status status = RunOne(dir, state, spec, hook);
    if (!status.ok()) {
      return Annotate(status, absl::StrCat("error running startContainer hook (", hook.path, ")"));
    }
  }
  return absl::OkStatus();
}

}  // namespace caisson::runsc
