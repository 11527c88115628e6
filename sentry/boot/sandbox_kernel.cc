#include "sentry/boot/sandbox_kernel.h"

#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "netstack/sockets.h"
#include "sentry/boot/file_systems.h"
#include "sentry/boot/requests.h"
#include "sentry/ipc/namespace.h"
#include "sentry/kernel/kernel_context.h"
#include "vfs/operations.h"
#include "vfs/tty/pty.h"
#include "vfs/tty/tty.h"

namespace caisson::boot {

using protocol::Reply;

namespace {

constexpr int64_t kDrainNs = 2'000'000'000;
constexpr int64_t kReapNs = 10'000'000'000;
constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

Reply NoContainer(const std::string& id) {
  return ErrorReply(Reply::NOT_FOUND, absl::StrCat("container ", id, " does not exist"));
}

absl::string_view Text(Errno e) {
  switch (e) {
    case Errno::kENOENT: return "no such file or directory";
    case Errno::kEACCES: return "permission denied";
    case Errno::kENOTDIR: return "not a directory";
    case Errno::kENOEXEC: return "exec format error";
    case Errno::kEPERM: return "operation not permitted";
    case Errno::kELOOP: return "too many levels of symbolic links";
    case Errno::kEAGAIN: return "resource temporarily unavailable";
    default: return ErrnoName(e);
  }
}

Reply ExecError(absl::string_view name, Errno e) {
  Reply::Code code = Reply::INTERNAL;
  switch (e) {
    case Errno::kENOENT: code = Reply::NO_SUCH_FILE; break;
    case Errno::kEACCES: case Errno::kEPERM: code = Reply::PERMISSION_DENIED; break;
    case Errno::kENOTDIR: code = Reply::NOT_A_DIRECTORY; break;
    case Errno::kENOEXEC: case Errno::kELIBBAD: code = Reply::BAD_EXECUTABLE; break;
    default: break;
  }
  return ErrorReply(code, absl::StrCat("exec: \"", name, "\": ", Text(e)));
}

RefPtr<auth::Credentials> ToCredentials(const protocol::Process& p, const RefPtr<auth::UserNamespace>& ns) {
  auto c = MakeRef<auth::Credentials>(ns);
  c->ruid = c->euid = c->suid = c->fsuid = p.user().uid();
  c->rgid = c->egid = c->sgid = c->fsgid = p.user().gid();
  c->groups.assign(p.user().additional_gids().begin(), p.user().additional_gids().end());
  std::sort(c->groups.begin(), c->groups.end());
  const protocol::Capabilities& caps = p.capabilities();
  c->bounding = caps.bounding() & auth::kAllCapabilities;
  c->inheritable = caps.inheritable() & c->bounding;
  c->permitted = caps.permitted() & auth::kAllCapabilities;
  c->effective = caps.effective() & c->permitted;
  c->ambient = caps.ambient() & c->permitted & c->inheritable;
  // Execve of a program by a user other than root leaves it the ambient set (capabilities(7)).
  if (p.user().uid() != 0) c->permitted = c->effective = c->ambient;
  return c;
}

std::string EnvironmentValue(const protocol::Process& p, absl::string_view name) {
  std::string found;
  for (const std::string& e : p.env())
    if (absl::StartsWith(e, absl::StrCat(name, "="))) found = e.substr(name.size() + 1);
  return found;
}

// HOME of the user by /etc/passwd, as runc sets it where config.json does not.
std::string HomeOf(vfs::CallContext& ctx, uint32_t uid) {
  auto file = vfs::Open(ctx, ctx.root(), "/etc/passwd", vfs::kOpenReadOnly | vfs::kOpenNonblock, 0);
  if (file.ok() && (*file)->kind() == vfs::FileKind::kRegular) {
    std::string text(1 << 20, '\0');
    SpanBuffer buffer(absl::Span<char>(text.data(), text.size()));
    Result<size_t> n = vfs::FileRead(ctx, **file, buffer, 0);
    if (n.ok()) text.resize(*n);
    else text.clear();
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      std::vector<absl::string_view> fields = absl::StrSplit(line, ':');
      if (fields.size() >= 6 && fields[2] == absl::StrCat(uid)) return std::string(fields[5]);
    }
  }
  return "/";
}

// What execve will load: a name with a slash as it is, else the first match in PATH.
// Errors: ENOENT, EACCES.
Result<std::string> FindProgram(vfs::CallContext& ctx, const std::string& name, std::string path) {
  auto runnable = [&ctx](const std::string& candidate) -> Result<void> {
    auto at = vfs::Walk(ctx, ctx.cwd(), candidate, {});
    if (!at.ok()) return at.error();
    vfs::Attributes attr = TRY(vfs::Stat(ctx, *at));
    if (attr.is_directory()) return Errno::kEACCES;
    return vfs::Access(ctx, *at, vfs::kMayExec);
  };
  if (absl::StrContains(name, "/")) {
    TRY(runnable(name));
    return name;
  }
  if (path.empty()) path = kDefaultPath;
  Errno error = Errno::kENOENT;
  for (absl::string_view directory : absl::StrSplit(path, ':')) {
    std::string candidate = absl::StrCat(directory.empty() ? "." : directory, "/", name);
    Result<void> found = runnable(candidate);
    if (found.ok()) return candidate;
    if (found.error() == Errno::kEACCES) error = Errno::kEACCES;
  }
  return error;
}

}  // namespace

SandboxKernel::SandboxKernel(const protocol::SandboxConfig& config, const kernel::KernelConfig& kernel_config,
                             std::unique_ptr<platform::Platform> platform)
    : kernel_(std::move(platform), dispatcher_, kernel_config), host_files_(poller_) {
  dispatcher_.SetStrace(config.strace(), config.strace_filter());
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

Reply SandboxKernel::NewProcess(ContainerState& state, const protocol::Process& spec, ProcessFds fds, Process* out,
                                RefPtr<kernel::Task>* task) {
  if (spec.args_size() == 0) return ErrorReply(Reply::INVALID, "process.args is empty");
  kernel::Kernel::ProcessArgs args;
  RefPtr<auth::Credentials> creds = ToCredentials(spec, kernel_.root_user_ns());
  args.container = state.container;
  args.creds = RefPtr<const auth::Credentials>(creds);
  args.namespaces = state.namespaces;
  args.pid_ns = state.pid_ns;
  const uint32_t umask = spec.user().has_umask() ? spec.user().umask() : 022;
  args.fs = MakeRef<kernel::FsContext>(state.mounts.ns->root(), state.mounts.ns->root(), umask);

  // The working directory is made where it is missing, by root, and entered as the user.
  auto root_creds = MakeRef<auth::Credentials>(kernel_.root_user_ns());
  root_creds->permitted = root_creds->effective = auth::kAllCapabilities;
  kernel::KernelContext root_ctx(RefPtr<const auth::Credentials>(root_creds), args.fs, state.mounts.ns);
  kernel::KernelContext ctx(args.creds, args.fs, state.mounts.ns);
  std::string cwd = spec.cwd().empty() ? "/" : spec.cwd();
  vfs::WalkOptions directory;
  directory.must_be_directory = true;
  auto at = vfs::Walk(root_ctx, root_ctx.root(), cwd, directory);
  if (!at.ok() && at.error() == Errno::kENOENT) {
    std::string made;
    for (absl::string_view part : absl::StrSplit(cwd, '/', absl::SkipEmpty())) {
      absl::StrAppend(&made, "/", part);
      (void)vfs::Mkdir(root_ctx, root_ctx.root(), made, 0755);
    }
    at = vfs::Walk(root_ctx, root_ctx.root(), cwd, directory);
  }
  if (!at.ok()) return ErrorReply(at.error() == Errno::kENOTDIR ? Reply::NOT_A_DIRECTORY : Reply::NO_SUCH_FILE,
                                  absl::StrCat("chdir to cwd (\"", cwd, "\"): ", Text(at.error())));
  if (Result<void> may = vfs::Access(ctx, *at, vfs::kMayExec); !may.ok())
    return ErrorReply(Reply::PERMISSION_DENIED, absl::StrCat("chdir to cwd (\"", cwd, "\"): ", Text(may.error())));
  args.fs->set_cwd(*at);

  for (const protocol::Rlimit& l : spec.rlimits())
    if (l.resource() < kernel::kRlimitCount)
      args.limits.Set(static_cast<int>(l.resource()), {l.soft(), l.hard()});
  args.argv.assign(spec.args().begin(), spec.args().end());
  args.envp.assign(spec.env().begin(), spec.env().end());
  if (EnvironmentValue(spec, "HOME").empty())
    args.envp.push_back(absl::StrCat("HOME=", HomeOf(root_ctx, spec.user().uid())));
  args.no_new_privs = spec.no_new_privs();
  args.personality = spec.has_personality() ? spec.personality() : 0;
  args.nice = spec.nice();
  if (!spec.seccomp_bpf().empty()) {
    std::vector<bpf::Instruction> program(spec.seccomp_bpf().size() / sizeof(bpf::Instruction));
    memcpy(program.data(), spec.seccomp_bpf().data(), program.size() * sizeof(bpf::Instruction));
    auto filter = kernel::SeccompFilter::New(std::move(program), nullptr, false);
    if (!filter.ok()) return ErrorReply(Reply::INVALID, "seccomp profile: refused by the filter checker");
    args.seccomp = std::move(*filter);
  }

  args.fd_table = MakeRef<kernel::FdTable>();
  const uint64_t limit = args.limits.soft(kernel::kRlimitNofile);
  if (spec.terminal()) {
    if (fds.stdio.size() != 1) return ErrorReply(Reply::INVALID, "a terminal is one descriptor");
    auto terminal = vfs::tty::HostTerminal::Start(state.mounts.devpts, std::move(fds.stdio[0]), spec.user().uid(), 5);
    if (!terminal.ok()) return ErrorReply(Reply::INTERNAL, absl::StrCat("terminal: ", Text(terminal.error())));
    out->terminal = std::move(*terminal);
    if (spec.console_rows() != 0 || spec.console_columns() != 0)
      out->terminal->tty().SetWindowSize({static_cast<uint16_t>(spec.console_rows()), static_cast<uint16_t>(spec.console_columns()), 0, 0});
    auto slave = out->terminal->OpenSlave(ctx, vfs::kOpenReadWrite);
    if (!slave.ok()) return ErrorReply(Reply::INTERNAL, absl::StrCat("terminal: ", Text(slave.error())));
    for (int fd = 0; fd < 3; ++fd) (void)args.fd_table->Install(*slave, fd, limit, false);
  } else {
    for (size_t i = 0; i < fds.stdio.size(); ++i) {
      auto file = host_files_.Import(std::move(fds.stdio[i]), spec.user().uid(), spec.user().gid());
      if (!file.ok()) return ErrorReply(Reply::INVALID, absl::StrCat("standard stream ", i, ": ", Text(file.error())));
      (void)args.fd_table->Install(std::move(*file), static_cast<int32_t>(i), limit, false);
    }
  }
  for (size_t i = 0; i < fds.preserved.size(); ++i) {
    auto file = host_files_.Import(std::move(fds.preserved[i]), spec.user().uid(), spec.user().gid());
    if (!file.ok()) return ErrorReply(Reply::INVALID, absl::StrCat("preserved descriptor ", i + 3, ": ", Text(file.error())));
    (void)args.fd_table->Install(std::move(*file), static_cast<int32_t>(i + 3), limit, false);
  }

  const std::string& name = spec.args(0);
  Result<std::string> program = FindProgram(ctx, name, EnvironmentValue(spec, "PATH"));
  if (!program.ok()) {
    if (program.error() == Errno::kENOENT && !absl::StrContains(name, "/"))
      return ErrorReply(Reply::EXECUTABLE_NOT_FOUND, absl::StrCat("exec: \"", name, "\": executable file not found in $PATH"));
    if (program.error() == Errno::kENOENT)
      return ErrorReply(Reply::NO_SUCH_FILE, absl::StrCat("exec: \"", name, "\": stat ", name, ": no such file or directory"));
    return ExecError(name, program.error());
  }
  args.path = *program;
  auto made = kernel_.NewProcess(std::move(args));
  if (!made.ok()) return ExecError(name, made.error());
  *task = *made;
  out->group = (*made)->group_ref();
  // Nobody runs as this task yet, so this thread may act as it.
  if (out->terminal) out->terminal->tty().MaybeBecomeControlling(**made, true);
  return Reply();
}

Reply SandboxKernel::CreateContainer(protocol::Container spec, std::vector<UniqueFd> gofer_sockets, ProcessFds fds) {
  if (Find(spec.id())) return ErrorReply(Reply::INVALID, absl::StrCat("container ", spec.id(), " exists"));
  auto state = std::make_shared<ContainerState>();
  absl::StatusOr<MountedContainer> mounts = MountContainer(kernel_, watcher_, spec, std::move(gofer_sockets));
  if (!mounts.ok()) return ErrorReply(Reply::INVALID, mounts.status().message());
  state->mounts = std::move(*mounts);
  state->container = MakeRef<kernel::Container>(spec.id(), spec.pids_limit(), spec.memory_limit(), spec.cgroup_path());
  state->pid_ns = MakeRef<kernel::PidNamespace>(kernel_.root_pid_ns(), kernel_.root_user_ns());
  state->namespaces = MakeRef<kernel::NamespaceSet>();
  state->namespaces->mount = state->mounts.ns;
  state->namespaces->uts = MakeRef<kernel::UtsNamespace>(
      spec.hostname().empty() ? "caisson" : spec.hostname(),
      spec.domainname().empty() ? "(none)" : spec.domainname(), kernel_.root_user_ns());
  state->namespaces->ipc = MakeRef<ipc::IpcNamespace>(kernel_.root_user_ns(), &kernel_.shared_memory(), kernel::NextNamespaceInode());
  state->namespaces->net = MakeRef<netstack::NetNamespace>(
      MakeRef<netstack::UnixFlight>(), MakeRef<netstack::SocketFileSystem>(), kernel::NextNamespaceInode());
  state->namespaces->pid_for_children = state->pid_ns;
  Process first;
  Reply reply = NewProcess(*state, spec.init(), std::move(fds), &first, &state->init);
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
    return ErrorReply(Reply::INTERNAL, absl::StrCat("starting the first task: ", Text(started.error())));
  return Reply();
}

Reply SandboxKernel::Exec(const std::string& id, protocol::Process spec, ProcessFds fds) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return NoContainer(id);
  {
    MutexLock lock(mu_);
    if (!state->started || state->processes[0].ended) return ErrorReply(Reply::NOT_RUNNING, "container not running");
  }
  Process process;
  RefPtr<kernel::Task> task;
  Reply reply = NewProcess(*state, spec, std::move(fds), &process, &task);
  if (reply.code() != Reply::OK) return reply;
  const int32_t pid = task->pid().local();
  {
    MutexLock lock(mu_);
    state->processes[pid] = std::move(process);
  }
  WatchEnd(id, pid);
  if (Result<void> started = task->Start(); !started.ok())
    return ErrorReply(Reply::INTERNAL, absl::StrCat("starting the task: ", Text(started.error())));
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

Reply SandboxKernel::Signal(const protocol::SignalRequest& request) {
  std::shared_ptr<ContainerState> state = Find(request.container_id());
  if (!state) return NoContainer(request.container_id());
  if (request.signal() < 0 || request.signal() > signal::kSignalCount)
    return ErrorReply(Reply::INVALID, absl::StrCat("invalid signal ", request.signal()));
  RefPtr<kernel::Task> unstarted;
  {
    MutexLock lock(mu_);
    if (state->processes[0].ended && request.pid() == 0) return ErrorReply(Reply::NOT_RUNNING, "process already finished");
    if (!state->started && request.signal() == signal::kSIGKILL) {
      state->started = true;
      unstarted = std::move(state->init);
    }
  }
  signal::Info info(request.signal(), signal::kSiUser);
  std::vector<RefPtr<kernel::ThreadGroup>> targets;
  if (request.target() == protocol::SignalRequest::ALL) {
    for (const auto& g : kernel_.ThreadGroups())
      if (g->pid().NumberIn(*state->pid_ns) != 0) targets.push_back(g);
  } else if (RefPtr<kernel::ThreadGroup> group = GroupOf(request.container_id(), request.pid())) {
    targets.push_back(group);
  }
  if (targets.empty()) return ErrorReply(Reply::NOT_FOUND, "no such process");
  if (request.target() == protocol::SignalRequest::FOREGROUND_GROUP) {
    RefPtr<vfs::tty::Tty> tty;
    {
      MutexLock lock(kernel_.tasks_mu());
      tty = targets[0]->controlling_tty;
    }
    int32_t foreground = tty ? tty->foreground_group() : 0;
    if (foreground != 0) {
      kernel_.job_control().SignalGroup(tty->session(), foreground, request.signal());
      return Reply();
    }
  }
  if (request.signal() != 0)
    for (const auto& target : targets) target->SendSignal(info, nullptr, true);
  // A container that never ran has no thread that could die by the signal.
  if (unstarted && !unstarted->Start().ok()) return ErrorReply(Reply::INTERNAL, "no thread to end the process");
  return Reply();
}

Reply SandboxKernel::Ps(const std::string& id) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return NoContainer(id);
  Reply reply;
  for (const auto& g : kernel_.ThreadGroups()) {
    const int32_t pid = g->pid().NumberIn(*state->pid_ns);
    if (pid == 0) continue;
    protocol::ProcessInfo* p = reply.add_processes();
    p->set_pid(pid);
    kernel::Usage usage = g->GetUsage();
    p->set_cpu_time_ns(usage.cpu.user_ns + usage.cpu.system_ns);
    p->set_start_time((kernel_.boot_realtime() + (g->start_time() - kernel_.boot_time())) / 1'000'000'000);
    RefPtr<kernel::Task> leader;
    RefPtr<vfs::tty::Tty> tty;
    {
      MutexLock lock(kernel_.tasks_mu());
      p->set_ppid(g->parent != nullptr ? g->parent->pid().NumberIn(*state->pid_ns) : 0);
      p->set_threads(static_cast<uint32_t>(g->live_tasks));
      leader = RefPtr<kernel::Task>(g->leader);
      tty = g->controlling_tty;
    }
    if (tty) p->set_tty(absl::StrCat("pts/", tty->index()));
    if (!leader) continue;
    p->set_uid(leader->creds_ref()->ruid);
    p->set_command(leader->comm());
    if (RefPtr<mm::MemoryManager> mm = leader->mm_ref()) {
      // Who asks runs the host's ps on these next (docker top); an exec need not pay for the name.
      mm->address_space().SetName(p->command());
      p->set_stub_pid(mm->address_space().host_pid());
    }
  }
  return reply;
}

Reply SandboxKernel::SetWindowSize(const protocol::WindowSize& request) {
  std::shared_ptr<ContainerState> state = Find(request.container_id());
  if (!state) return NoContainer(request.container_id());
  std::shared_ptr<vfs::tty::HostTerminal> terminal;
  {
    MutexLock lock(mu_);
    auto it = state->processes.find(request.pid());
    if (it == state->processes.end()) return ErrorReply(Reply::NOT_FOUND, "no such process");
    terminal = it->second.terminal;
  }
  if (!terminal) return ErrorReply(Reply::INVALID, "the process has no terminal");
  terminal->tty().SetWindowSize({static_cast<uint16_t>(request.rows()), static_cast<uint16_t>(request.columns()), 0, 0});
  return Reply();
}

Reply SandboxKernel::Pause(const std::string& id) {
  if (!Find(id)) return NoContainer(id);
  kernel_.Pause();
  return Reply();
}
Reply SandboxKernel::Resume(const std::string& id) {
  if (!Find(id)) return NoContainer(id);
  kernel_.Resume();
  return Reply();
}

Reply SandboxKernel::Events(const std::string& id) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return NoContainer(id);
  Reply reply;
  protocol::Stats* stats = reply.mutable_stats();
  auto memory = kernel_.GetMemoryInfo(*state->container);
  stats->set_memory_usage(memory.used);
  stats->set_memory_peak(memory.used);
  stats->set_tasks(state->container->task_count());
  uint64_t cpu = 0;
  for (const auto& g : kernel_.ThreadGroups()) {
    kernel::Usage u = g->GetUsage();
    cpu += u.cpu.user_ns + u.cpu.system_ns;
  }
  stats->set_cpu_usage_ns(cpu);
  return reply;
}

Reply SandboxKernel::Debug(const protocol::DebugRequest& request) {
  Reply reply;
  std::string text;
  if (request.has_set_strace()) dispatcher_.SetStrace(request.set_strace());
  if (request.unsupported())
    for (const auto& [what, count] : kernel_.Unsupported()) absl::StrAppend(&text, what, "\t", count, "\n");
  if (request.counters()) {
    for (int i = 0; i < syscalls::kTableSize; ++i)
      if (uint64_t n = dispatcher_.count(i); n != 0) absl::StrAppend(&text, syscalls::Table()[i].name, "\t", n, "\n");
  }
  if (request.stacks() || request.ps()) {
    for (const auto& g : kernel_.ThreadGroups()) {
      std::vector<RefPtr<kernel::Task>> tasks;
      {
        MutexLock lock(kernel_.tasks_mu());
        tasks = g->tasks;
      }
      for (const auto& t : tasks) {
        int call = t->current_syscall();
        absl::StrAppend(&text, t->tid(), "\t", std::string(1, t->StateCode()), "\t", t->comm(), "\t",
                        call >= 0 && call < syscalls::kTableSize && syscalls::Table()[call].name != nullptr
                            ? syscalls::Table()[call].name : "-", "\n");
      }
    }
  }
  reply.set_text(text);
  return reply;
}

Reply SandboxKernel::Update(const protocol::UpdateRequest& request) {
  std::shared_ptr<ContainerState> state = Find(request.container_id());
  if (!state) return NoContainer(request.container_id());
  if (request.memory_limit() != 0) state->container->set_memory_limit(request.memory_limit());
  if (request.pids_limit() != 0) state->container->set_pids_limit(request.pids_limit());
  return Reply();
}

Reply SandboxKernel::State(const std::string& id) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return NoContainer(id);
  Reply reply;
  MutexLock lock(mu_);
  reply.set_status(state->processes[0].ended ? Reply::STOPPED
                   : !state->started         ? Reply::CREATED
                   : kernel_.paused()        ? Reply::PAUSED
                                             : Reply::RUNNING);
  return reply;
}

Reply SandboxKernel::Destroy(const std::string& id) {
  std::shared_ptr<ContainerState> state = Find(id);
  if (!state) return NoContainer(id);
  protocol::SignalRequest kill;
  kill.set_container_id(id);
  kill.set_signal(signal::kSIGKILL);
  kill.set_target(protocol::SignalRequest::ALL);
  (void)Signal(kill);
  kernel_.Resume();
  const int64_t deadline = time::MonotonicNow() + kReapNs;
  while (state->container->task_count() != 0 && time::MonotonicNow() < deadline) usleep(200);
  MutexLock lock(mu_);
  containers_.erase(id);
  return Reply();
}

}  // namespace caisson::boot
