// Control calls on containers that exist: signals, lists, pauses, figures.
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/profiler.h"
#include "sentry/boot/metrics.h"
#include "sentry/boot/requests.h"
#include "sentry/boot/sandbox_kernel.h"
#include "vfs/tty/tty.h"

namespace caisson::boot {

using protocol::Reply;

namespace {

constexpr int64_t kReapNs = 10'000'000'000;

}  // namespace

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

Reply SandboxKernel::Pause(const protocol::PauseRequest& request) {
  if (!Find(request.container_id())) return NoContainer(request.container_id());
  constexpr int64_t kMs = 1'000'000;
  kernel_.Pause(request.at_most_ms() == 0 ? time::kNever
                                          : time::MonotonicNow() + request.at_most_ms() * kMs);
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
  if (request.has_set_timing()) dispatcher_.SetTiming(request.set_timing());
  kernel_.AllowAnswers(!dispatcher_.watched());
  if (request.profile_hz() != 0) {
    const auto hz = static_cast<int>(std::min<uint32_t>(request.profile_hz(), 1 << 20));
    if (Result<void> started = profiler::Start(hz); !started.ok())
      return ErrorReply(Reply::INVALID, absl::StrCat("profile: ", ErrnoName(started.error())));
  }
  if (request.take_profile()) {
    profiler::Stop();
    absl::StrAppend(&text, profiler::Take());
  }
  if (request.metrics()) absl::StrAppend(&text, MetricsText(kernel_, dispatcher_));
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
  // Both are what holds now; 0 is no limit.
  kernel_.SetMemoryLimit(*state->container, request.memory_limit());
  state->container->set_pids_limit(request.pids_limit());
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
