// StartSandbox and StartExec: the command line's side.
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/sandbox/control_socket.h"
#include "runsc/sandbox/host_process.h"
#include "runsc/sandbox/launch.h"
#include "runsc/sandbox/sandbox.h"
#include "runsc/sandbox/sync.h"
#include "sentry/protocol/channel.h"

namespace caisson::runsc {
namespace {

constexpr int kNamespacesTimeoutMs = 30'000;
constexpr int kStartTimeoutMs = 60'000;
constexpr int kEndTimeoutMs = 10'000;

// Forks, into the v2 cgroup of `cgroup_fd` where there is one: to move there later would wait for
// all CPUs (a write to cgroup.procs takes cgroup_threadgroup_rwsem: 10 ms and more).
pid_t ForkInto(int cgroup_fd, bool* in_cgroup) {
  *in_cgroup = false;
  if (cgroup_fd >= 0) {
    clone_args args{};
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = SIGCHLD;
    args.cgroup = static_cast<uint64_t>(cgroup_fd);
    const long pid = syscall(SYS_clone3, &args, sizeof(args));
    *in_cgroup = pid >= 0;
    if (pid >= 0) return static_cast<pid_t>(pid);
  }
  return fork();
}

// A monitor that is being started. Unless Commit() is called, it and its children are gone when
// this is.
class StartingMonitor {
 public:
  // Forks; `launch` runs in the child and returns on failure only.
  static absl::StatusOr<StartingMonitor> Fork(
      int cgroup_fd, const std::function<absl::Status(HostFds&)>& launch) {
    HostFds host;
    host.exe = UniqueFd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    if (!host.exe) return HostErrnoStatus(errno, "opening this executable");
    host.null = UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!host.null) return HostErrnoStatus(errno, "/dev/null");
    ASSIGN_OR_RETURN(protocol::SocketPair pair, protocol::MakeSocketPair());
    const pid_t pid = ForkInto(cgroup_fd, &host.in_cgroup_v2);
    if (pid < 0) return HostErrnoStatus(errno, "fork");
    if (pid == 0) {
      pair.first.reset();
      host.sync = std::move(pair.second);
      absl::Status failed = launch(host);
      SendSyncFailure(host.sync.get(), failed);
      _exit(125);
    }
    return StartingMonitor(pid, std::move(pair.first));
  }

  StartingMonitor(StartingMonitor&& o) noexcept
      : pid_(std::exchange(o.pid_, -1)),
        sync_(std::move(o.sync_)),
        processes_(o.processes_) {}
  StartingMonitor& operator=(StartingMonitor&&) = delete;

  ~StartingMonitor() {
    if (pid_ <= 0) return;
    // Without its sync socket the monitor ends, and kills and reaps its children before.
    sync_.reset();
    KillAndAwait(processes_.sentry_pid, processes_.sentry_start_time, kEndTimeoutMs).IgnoreError();
    KillAndAwait(processes_.gofer_pid, processes_.gofer_start_time, kEndTimeoutMs).IgnoreError();
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  pid_t pid() const { return pid_; }

  // Waits for a message of `kind`; a failure is returned as the status it carries.
  absl::Status Await(SyncMessage::Kind kind, int timeout_ms) {
    absl::StatusOr<SyncMessage> message = ReceiveSync(sync_.get(), timeout_ms);
    if (!message.ok()) return Annotate(message.status(), "starting the sandbox");
    if (message->kind == SyncMessage::kFailed) {
      absl::Status failed = StatusFromReply(
          protocol::Reply::Code_IsValid(message->code) && message->code != protocol::Reply::OK
              ? static_cast<protocol::Reply::Code>(message->code)
              : protocol::Reply::INTERNAL,
          message->text);
      return failed;
    }
    if (message->kind != kind) return absl::InternalError("unexpected message of the monitor");
    if (kind == SyncMessage::kSpawned) {
      processes_.sentry_pid = message->sentry_pid;
      processes_.sentry_start_time = StartTimeOf(message->sentry_pid);
      processes_.gofer_pid = message->gofer_pid;
      processes_.gofer_start_time = StartTimeOf(message->gofer_pid);
    }
    return absl::OkStatus();
  }

  absl::Status Go() {
    SyncMessage go;
    go.kind = SyncMessage::kGo;
    return SendSync(sync_.get(), go);
  }

  SandboxProcesses Commit() {
    processes_.monitor_pid = std::exchange(pid_, -1);
    processes_.monitor_start_time = StartTimeOf(processes_.monitor_pid);
    return processes_;
  }

 private:
  StartingMonitor(pid_t pid, UniqueFd sync) : pid_(pid), sync_(std::move(sync)) {}

  pid_t pid_;
  UniqueFd sync_;
  SandboxProcesses processes_;
};

}  // namespace

absl::StatusOr<SandboxProcesses> StartSandbox(
    SandboxStart start, const std::function<absl::Status(pid_t monitor)>& after_namespaces) {
  ASSIGN_OR_RETURN(UniqueFd listener, ListenControl(start.control_socket_path));
  absl::Cleanup unlink_socket = [&] { unlink(start.control_socket_path.c_str()); };
  ASSIGN_OR_RETURN(StartingMonitor monitor, StartingMonitor::Fork(start.cgroup_v2.get(), [&](HostFds& host) {
    return LaunchSandbox(start, host, std::move(listener));
  }));
  listener.reset();
  RETURN_IF_ERROR(monitor.Await(SyncMessage::kInNamespaces, kNamespacesTimeoutMs));
  if (after_namespaces) RETURN_IF_ERROR(after_namespaces(monitor.pid()));
  RETURN_IF_ERROR(monitor.Go());
  RETURN_IF_ERROR(monitor.Await(SyncMessage::kSpawned, kStartTimeoutMs));
  RETURN_IF_ERROR(monitor.Await(SyncMessage::kDone, kStartTimeoutMs));
  std::move(unlink_socket).Cancel();
  return monitor.Commit();
}

absl::StatusOr<pid_t> StartExec(ExecStart start) {
  ASSIGN_OR_RETURN(StartingMonitor monitor, StartingMonitor::Fork(start.cgroup_v2.get(), [&](HostFds& host) {
    return LaunchExec(start, host);
  }));
  RETURN_IF_ERROR(monitor.Await(SyncMessage::kDone, kStartTimeoutMs));
  return monitor.Commit().monitor_pid;
}

}  // namespace caisson::runsc
