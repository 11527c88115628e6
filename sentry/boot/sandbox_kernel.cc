#include "sentry/boot/sandbox_kernel.h"

#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "netstack/sockets/sockets.h"
#include "sentry/boot/file_systems.h"
#include "sentry/boot/requests.h"
#include "sentry/ipc/namespace.h"
#include "sentry/procfs/sysctl.h"
#include "sentry/kernel/kernel_context.h"
#include "vfs/operations.h"
#include "vfs/tty/pty.h"
#include "vfs/tty/tty.h"

namespace caisson::boot {

using protocol::Reply;

namespace {

constexpr int64_t kDrainNs = 2'000'000'000;
constexpr int64_t kReapNs = 10'000'000'000;

}  // namespace

Reply NoContainer(const std::string& id) {
  return ErrorReply(Reply::NOT_FOUND, absl::StrCat("container ", id, " does not exist"));
}

SandboxKernel::SandboxKernel(const protocol::SandboxConfig& config, const kernel::KernelConfig& kernel_config,
                             std::unique_ptr<platform::Platform> platform)
    : kernel_(std::move(platform), dispatcher_, kernel_config), host_files_(poller_) {
  dispatcher_.SetStrace(config.strace(), config.strace_filter());
  kernel_.AllowAnswers(!dispatcher_.watched());
  RegisterFileSystems(kernel_);
}

SandboxKernel::~SandboxKernel() = default;

std::shared_ptr<SandboxKernel::ContainerState> SandboxKernel::Find(const std::string& id) {
  MutexLock lock(mu_);
  auto it = containers_.find(id);
  return it == containers_.end() ? nullptr : it->second;
}

RefPtr<kernel::ThreadGroup> SandboxKernel::GroupOf(const std::string& id, int32_t pid) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return nullptr;
  {
    MutexLock lock(mu_);
    auto it = state->processes.find(pid);
    if (it != state->processes.end()) return it->second.group;
  }
  return kernel_.FindThreadGroup(*state->pid_ns, pid);
}

Reply SandboxKernel::CreateContainer(protocol::Container spec, std::vector<UniqueFd> gofer_sockets, ProcessFds fds) {
  if (Find(spec.id())) return ErrorReply(Reply::INVALID, absl::StrCat("container ", spec.id(), " exists"));
  auto state = std::make_shared<ContainerState>();
  state->pid_ns = MakeRef<kernel::PidNamespace>(kernel_.root_pid_ns(), kernel_.root_user_ns());
  auto ipc = MakeRef<ipc::IpcNamespace>(kernel_.root_user_ns(), &kernel_.shared_memory(), kernel::NextNamespaceInode());
  absl::StatusOr<MountedContainer> mounts =
      MountContainer(kernel_, watcher_, devices_, spec, state->pid_ns, ipc->posix_ref(), std::move(gofer_sockets));
  if (!mounts.ok()) return ErrorReply(Reply::INVALID, mounts.status().message());
  state->mounts = std::move(*mounts);
  state->container = MakeRef<kernel::Container>(spec.id(), spec.pids_limit(), spec.memory_limit(), spec.cgroup_path());
  kernel_.SetMemoryLimit(*state->container, spec.memory_limit());
  state->namespaces = MakeRef<kernel::NamespaceSet>();
  state->namespaces->mount = state->mounts.ns;
  state->namespaces->uts = MakeRef<kernel::UtsNamespace>(
      spec.hostname().empty() ? "caisson" : spec.hostname(),
      spec.domainname().empty() ? "(none)" : spec.domainname(), kernel_.root_user_ns());
  state->namespaces->ipc = std::move(ipc);
  state->namespaces->net = MakeRef<netstack::NetNamespace>(
      MakeRef<netstack::UnixFlight>(), MakeRef<netstack::SocketFileSystem>(), kernel::NextNamespaceInode());
  state->namespaces->pid_for_children = state->pid_ns;
  state->namespaces->cgroup = MakeRef<kernel::CgroupNamespace>(kernel_.root_user_ns(), true);
  state->namespaces->time = state->namespaces->time_for_children =
      MakeRef<kernel::TimeNamespace>(kernel_.root_user_ns(), kernel::TimeNamespace::Offsets{}, true);
  state->container->set_cpu_limit(spec.cpu_count());
  for (const protocol::Sysctl& sysctl : spec.sysctls()) {
    Result<void> set = procfs::SetNamespacedSysctl(*state->namespaces, sysctl.name(), sysctl.value());
    if (set.ok()) continue;
    const char* why = set.error() == Errno::kENOENT ? "is not in a namespace of the container's here"
                                                    : "does not take this value";
    return ErrorReply(Reply::INVALID, absl::StrCat("linux.sysctl: ", sysctl.name(), " ", why));
  }
  Process first;
  Reply reply = NewProcess(*state, spec.init(), /*first=*/true, std::move(fds), &first, &state->init);
  if (reply.code() != Reply::OK) return reply;
  {
    MutexLock lock(mu_);
    state->processes[0] = std::move(first);
    containers_[spec.id()] = state;
  }
  WatchEnd(spec.id(), 0);
  return Reply();
}

Reply SandboxKernel::StartContainer(const std::string& id) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return NoContainer(id);
  RefPtr<kernel::Task> init;
  {
    MutexLock lock(mu_);
    if (state->started) return ErrorReply(Reply::ALREADY_STARTED, absl::StrCat("container ", id, " is already started"));
    state->started = true;
    init = std::move(state->init);
  }
  if (Result<void> started = init->Start(); !started.ok())
    return ErrorReply(Reply::INTERNAL, absl::StrCat("starting the first task: ", ErrnoName(started.error())));
  return Reply();
}

Reply SandboxKernel::Exec(const std::string& id, protocol::Process spec, ProcessFds fds) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return NoContainer(id);
  {
    MutexLock lock(mu_);
    // Before its start too: runc allows it, and startContainer hooks are such processes.
    if (state->processes[0].ended) return ErrorReply(Reply::NOT_RUNNING, "container not running");
  }
  Process process;
  RefPtr<kernel::Task> task;
  Reply reply = NewProcess(*state, spec, /*first=*/false, std::move(fds), &process, &task);
  if (reply.code() != Reply::OK) return reply;
  const int32_t pid = task->pid().local();
  {
    MutexLock lock(mu_);
    state->processes[pid] = std::move(process);
  }
  WatchEnd(id, pid);
  if (Result<void> started = task->Start(); !started.ok())
    return ErrorReply(Reply::INTERNAL, absl::StrCat("starting the task: ", ErrnoName(started.error())));
  reply.set_pid(pid);
  return reply;
}

void SandboxKernel::WatchEnd(const std::string& id, int32_t key) {
  std::shared_ptr<ContainerState> state = Find(id);
  RefPtr<kernel::ThreadGroup> group;
  {
    MutexLock lock(mu_);
    group = state->processes[key].group;
  }
  kernel_.OnExit(*group, [this, id, key](int32_t status) {
    // On the dying task's thread: what waits goes to one of its own.
    std::thread([this, id, key, status] { OnEnd(id, key, status); }).detach();
  });
}

void SandboxKernel::OnEnd(const std::string& id, int32_t key, int32_t status) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return;
  const int64_t deadline = time::MonotonicNow() + kReapNs;
  // The rest of a container dies with its init; the engine may take it apart at once.
  while (key == 0 && state->container->task_count() != 0 && time::MonotonicNow() < deadline) usleep(200);
  std::shared_ptr<vfs::tty::HostTerminal> terminal;
  {
    MutexLock lock(mu_);
    terminal = state->processes[key].terminal;
  }
  if (terminal) terminal->Drain(time::MonotonicNow() + kDrainNs);
  Reply reply;
  reply.set_wait_status(status);
  std::vector<std::function<void(Reply)>> waiters;
  {
    MutexLock lock(mu_);
    Process& p = state->processes[key];
    p.ended = true;
    p.wait_status = status;
    p.terminal = nullptr;
    waiters = std::move(p.waiters);
    if (key != 0 && !waiters.empty()) state->processes.erase(key);  // It is given once.
  }
  for (auto waiter = waiters.rbegin(); waiter != waiters.rend(); ++waiter) (*waiter)(reply);
}

void SandboxKernel::Wait(const std::string& id, int32_t pid, std::function<void(Reply)> done) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return done(NoContainer(id));
  Reply reply;
  {
    MutexLock lock(mu_);
    auto it = state->processes.find(pid);
    if (it == state->processes.end()) {
      reply = ErrorReply(Reply::NOT_FOUND, "no such process");
    } else if (!it->second.ended) {
      it->second.waiters.push_back(std::move(done));
      return;
    } else {
      reply.set_wait_status(it->second.wait_status);
      if (pid != 0) state->processes.erase(it);
    }
  }
  done(reply);
}

}  // namespace caisson::boot
