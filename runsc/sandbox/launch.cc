#include "runsc/sandbox/launch.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "confine/confine.h"
#include "confine/role.h"
#include "runsc/sandbox/control_socket.h"
#include "runsc/sandbox/spawn.h"
#include "runsc/sandbox/sync.h"
#include "sentry/protocol/channel.h"

namespace caisson::runsc {
namespace {

constexpr int kHookTimeoutMs = 600'000;  // Hooks have limits of their own.
constexpr uint64_t kNamespaces =
    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

// The monitor leads a session: signals of the caller's terminal go to the caller alone, and those
// of the container's terminal come to the monitor. The host's pty carries raw bytes, since the
// guest's own terminal has the line discipline.
absl::Status SetUpTerminal(const Stdio& stdio, protocol::Process* process) {
  setsid();  // Fails for a process group leader only, which a fresh child is not.
  if (!stdio.terminal) return absl::OkStatus();
  const int fd = stdio.terminal.get();
  if (ioctl(fd, TIOCSCTTY, 0) != 0) return HostErrnoStatus(errno, "TIOCSCTTY");
  termios attributes{};
  if (tcgetattr(fd, &attributes) != 0) return HostErrnoStatus(errno, "tcgetattr");
  cfmakeraw(&attributes);
  if (tcsetattr(fd, TCSANOW, &attributes) != 0) return HostErrnoStatus(errno, "tcsetattr");
  winsize size{};
  if (process->console_rows() == 0 && ioctl(fd, TIOCGWINSZ, &size) == 0) {
    process->set_console_rows(size.ws_row);
    process->set_console_columns(size.ws_col);
  }
  return absl::OkStatus();
}

void AppendStdio(const Stdio& stdio, const protocol::Process& process, std::vector<int>* fds) {
  if (process.terminal()) {
    fds->push_back(stdio.terminal.get());
  } else {
    for (const UniqueFd& fd : stdio.fds) fds->push_back(fd.get());
  }
  for (const UniqueFd& fd : stdio.preserved) fds->push_back(fd.get());
}

// Everything of the command line's that the monitor does not need is closed: locks, sockets, what
// the caller leaked.
absl::Status KeepOnly(const HostFds& host, const Stdio& stdio, std::vector<int> others) {
  others.insert(others.end(), {host.exe.get(), host.null.get(), host.sync.get()});
  others.push_back(stdio.terminal.get());
  for (const UniqueFd& fd : stdio.fds) others.push_back(fd.get());
  for (const UniqueFd& fd : stdio.preserved) others.push_back(fd.get());
  return confine::CloseAllBut(others);
}

// Tells the command line that cgroup and namespaces are entered, and waits for its hooks.
absl::Status AwaitGo(int sync) {
  SyncMessage message;
  message.kind = SyncMessage::kInNamespaces;
  RETURN_IF_ERROR(SendSync(sync, message));
  ASSIGN_OR_RETURN(message, ReceiveSync(sync, kHookTimeoutMs));
  return message.kind == SyncMessage::kGo ? absl::OkStatus()
                                          : absl::InternalError("unexpected message");
}

struct GoferSide {
  std::vector<UniqueFd> mounts;
  std::vector<UniqueFd> sockets;
};

// The sentry and all that it shares with the monitor and the gofer.
struct Links {
  protocol::SocketPair owner;    // First: the monitor's end.
  protocol::SocketPair control;  // First: the monitor's end.
  protocol::SocketPair gofer_life;
  UniqueFd error_read;
  UniqueFd error_write;
};

absl::StatusOr<Links> MakeLinks() {
  Links links;
  ASSIGN_OR_RETURN(links.owner, protocol::MakeSocketPair());
  ASSIGN_OR_RETURN(links.control, protocol::MakeSocketPair());
  ASSIGN_OR_RETURN(links.gofer_life, protocol::MakeSocketPair());
  int pipe_fds[2];
  // Writers never wait: what a sandbox complains about beyond the pipe's size is lost.
  if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0) return HostErrnoStatus(errno, "pipe");
  links.error_read = UniqueFd(pipe_fds[0]);
  links.error_write = UniqueFd(pipe_fds[1]);
  return links;
}

absl::StatusOr<ChildProcess> SpawnSentry(const SandboxStart& start, const HostFds& host,
                                         const Links& links, int listener) {
  ASSIGN_OR_RETURN(const std::vector<IdRange> uids, IdentityMap("/proc/self/uid_map"));
  ASSIGN_OR_RETURN(const uint32_t id, PickSandboxId(start.container.id(), uids));
  ChildSpec spec{.name = "sentry",
                 .namespaces = kNamespaces,
                 .uids = {{0, id, 1}},
                 .gids = {{0, id, 1}},
                 .error_fd = links.error_write.get()};
  spec.exec = [&] {
    confine::RoleExec role{.role = confine::kSentryRole, .null_fd = host.null.get()};
    role.options["id"] = start.container.id();
    role.options["host-network"] = start.config.network() == "host" ? "1" : "0";
    role.fds = {{"listener", listener},
                {"owner", links.owner.second.get()},
                {"control", links.control.second.get()},
                {"log", start.debug_log_fd},
                {"memory-usage", start.memory[0].get()},
                {"memory-limit", start.memory[1].get()},
                {"memory-statistics", start.memory[2].get()}};
    role.stderr_fd = links.error_write.get();
    return confine::ExecRole(host.exe.get(), role);
  };
  return SpawnInUserNamespace(spec);
}

absl::StatusOr<std::vector<IdRange>> GoferMap(const std::vector<protocol::IdMapping>& mappings,
                                              const char* own_map) {
  if (mappings.empty()) return IdentityMap(own_map);
  std::vector<IdRange> ranges;
  bool has_root = false;
  for (const protocol::IdMapping& mapping : mappings) {
    ranges.push_back({mapping.inside(), mapping.outside(), mapping.count()});
    has_root |= mapping.inside() == 0 && mapping.count() > 0;
  }
  if (!has_root) return absl::UnimplementedError("an id map without id 0 is not supported");
  return ranges;
}

absl::StatusOr<ChildProcess> SpawnGofer(const SandboxStart& start, const HostFds& host,
                                        const Links& links, const GoferSide& side) {
  ChildSpec spec{.name = "gofer", .namespaces = kNamespaces, .error_fd = links.error_write.get()};
  ASSIGN_OR_RETURN(spec.uids, GoferMap(start.uid_mappings, "/proc/self/uid_map"));
  ASSIGN_OR_RETURN(spec.gids, GoferMap(start.gid_mappings, "/proc/self/gid_map"));
  spec.exec = [&] {
    confine::RoleExec role{.role = confine::kGoferRole, .null_fd = host.null.get()};
    role.options["id"] = start.container.id();
    role.options["mounts"] = absl::StrCat(side.mounts.size());
    role.options["debug"] = start.config.debug() ? "1" : "0";
    for (size_t i = 0; i < side.mounts.size(); ++i) {
      role.options[absl::StrCat("mount-", i)] = absl::StrCat(
          start.gofers[i].read_only ? "ro" : "rw", start.gofers[i].is_file ? ",file" : ",dir");
      role.fds[absl::StrCat("mount-", i)] = side.mounts[i].get();
      role.fds[absl::StrCat("socket-", i)] = side.sockets[i].get();
    }
    role.fds["life"] = links.gofer_life.second.get();
    role.fds["log"] = start.debug_log_fd;
    role.stderr_fd = links.error_write.get();
    return confine::ExecRole(host.exe.get(), role);
  };
  return SpawnInUserNamespace(spec);
}

// Both requests are sent at once; the replies are read by the monitor proper.
absl::Status SendBootAndCreate(const SandboxStart& start, int owner,
                               const std::vector<UniqueFd>& gofer_sockets) {
  protocol::Request request;
  *request.mutable_boot()->mutable_config() = start.config;
  RETURN_IF_ERROR(protocol::SendMessage(owner, request));
  ASSIGN_OR_RETURN(UniqueFd payload, protocol::SealedPayload(start.container, "container"));
  request.mutable_create_container()->set_gofer_connections(
      static_cast<uint32_t>(gofer_sockets.size()));
  std::vector<int> fds = {payload.get()};
  for (const UniqueFd& socket : gofer_sockets) fds.push_back(socket.get());
  AppendStdio(start.stdio, start.container.init(), &fds);
  return protocol::SendMessage(owner, request, fds);
}

// A sentry that ended before it could be spoken to has said why on its stderr.
absl::Status WithLastWords(const absl::Status& status, int error_read) {
  char words[512];
  const ssize_t n = read(error_read, words, sizeof(words));
  if (n <= 0) return status;
  return absl::Status(status.code(), absl::StrCat(status.message(), ": ",
                                                  absl::string_view(words, static_cast<size_t>(n))));
}

}  // namespace

absl::Status LaunchSandbox(SandboxStart& start, HostFds& host, UniqueFd listener) {
  RETURN_IF_ERROR(SetUpTerminal(start.stdio, start.container.mutable_init()));
  if (start.join_cgroup) RETURN_IF_ERROR(start.join_cgroup(host.in_cgroup_v2));
  std::vector<int> kept = {listener.get(), start.log_fd, start.debug_log_fd};
  for (const GoferSource& source : start.gofers) kept.push_back(source.path_fd.get());
  kept.push_back(start.exit_status.get());
  for (const UniqueFd& fd : start.memory) kept.push_back(fd.get());
  RETURN_IF_ERROR(KeepOnly(host, start.stdio, kept));
  GoferSide gofer_side;
  std::vector<UniqueFd> sentry_sockets;
  for (const GoferSource& source : start.gofers) {
    ASSIGN_OR_RETURN(UniqueFd mount, DetachedMount(source));
    ASSIGN_OR_RETURN(protocol::SocketPair pair, protocol::MakeSocketPair());
    gofer_side.mounts.push_back(std::move(mount));
    gofer_side.sockets.push_back(std::move(pair.first));
    sentry_sockets.push_back(std::move(pair.second));
  }
  RETURN_IF_ERROR(EnterNamespaces(start.namespaces));
  RETURN_IF_ERROR(AwaitGo(host.sync.get()));

  ASSIGN_OR_RETURN(Links links, MakeLinks());
  ASSIGN_OR_RETURN(ChildProcess sentry, SpawnSentry(start, host, links, listener.get()));
  ChildProcess gofer;
  if (!start.gofers.empty()) {
    ASSIGN_OR_RETURN(gofer, SpawnGofer(start, host, links, gofer_side));
  }
  SyncMessage spawned;
  spawned.kind = SyncMessage::kSpawned;
  spawned.sentry_pid = sentry.pid;
  spawned.gofer_pid = gofer.pid;
  RETURN_IF_ERROR(SendSync(host.sync.get(), spawned));

  absl::Status sent = SendBootAndCreate(start, links.owner.first.get(), sentry_sockets);
  if (!sent.ok()) return WithLastWords(sent, links.error_read.get());

  UniqueFd root;  // The monitor enters it (monitor.cc).
  if (!start.gofers.empty()) {
    ASSIGN_OR_RETURN(root, DetachedMount(start.gofers[0]));
  }
  confine::RoleExec role{.role = confine::kMonitorRole, .null_fd = host.null.get()};
  role.options = {{"mode", "sandbox"},
                  {"id", start.container.id()},
                  {"log-format", start.config.log_format()}};
  role.fds = {{"sync", host.sync.get()},
              {"owner", links.owner.first.get()},
              {"control", links.control.first.get()},
              {"sentry", sentry.pidfd.get()},
              {"gofer", gofer.pidfd.get()},
              {"gofer-life", links.gofer_life.first.get()},
              {"errors", links.error_read.get()},
              {"terminal", start.stdio.terminal.get()},
              {"root", root.get()},
              {"exit-status", start.exit_status.get()},
              {"log", start.debug_log_fd >= 0 ? start.debug_log_fd : start.log_fd}};
  return confine::ExecRole(host.exe.get(), role);
}

absl::Status LaunchExec(ExecStart& start, HostFds& host) {
  RETURN_IF_ERROR(SetUpTerminal(start.stdio, &start.process));
  if (start.join_cgroup) RETURN_IF_ERROR(start.join_cgroup(host.in_cgroup_v2));
  RETURN_IF_ERROR(KeepOnly(host, start.stdio, {start.mount_namespace.get()}));
  // Before the namespaces: the path is the command line's.
  ASSIGN_OR_RETURN(UniqueFd owner, ConnectControl(start.control_socket_path));
  ASSIGN_OR_RETURN(UniqueFd control, ConnectControl(start.control_socket_path));
  RETURN_IF_ERROR(EnterNamespaces(start.namespaces));
  ASSIGN_OR_RETURN(UniqueFd payload, protocol::SealedPayload(start.process, "process"));
  protocol::Request request;
  request.mutable_exec()->set_container_id(start.container_id);
  std::vector<int> fds = {payload.get()};
  AppendStdio(start.stdio, start.process, &fds);
  RETURN_IF_ERROR(protocol::SendMessage(owner.get(), request, fds));
  confine::RoleExec role{.role = confine::kMonitorRole, .null_fd = host.null.get()};
  role.options = {{"mode", "exec"}, {"id", start.container_id}};
  role.fds = {{"sync", host.sync.get()},
              {"owner", owner.get()},
              {"control", control.get()},
              {"terminal", start.stdio.terminal.get()},
              {"mount-namespace", start.mount_namespace.get()}};
  return confine::ExecRole(host.exe.get(), role);
}

}  // namespace caisson::runsc
