#include "sentry/kernel/kernel.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "base/log.h"
#include "netstack/sockets/sockets.h"
#include "sentry/ipc/namespace.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/kernel_context.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/version.h"
#include "sentry/loader/loader.h"
#include "vfs/anon/anon_inode.h"
#include "vfs/operations.h"

namespace caisson::kernel {
namespace {

std::array<uint8_t, 16> RandomId() {
  std::array<uint8_t, 16> id;
  CHECK(getrandom(id.data(), id.size(), 0) == 16);  // Up to 256 bytes come whole.
  return id;
}

}  // namespace

Kernel::Kernel(std::unique_ptr<platform::Platform> platform, SyscallDispatcher& dispatcher,
               KernelConfig config)
    : task_limit_{.tasks = 0, .max = config.max_tasks},
      platform_(std::move(platform)),
      vdso_(vdso::Vdso::New(platform_->vdso_range()).value()),
      dispatcher_(dispatcher),
      config_(config),
      boot_time_(time::BoottimeNow()),
      boot_realtime_(time::RealtimeNow()),
      boot_id_(RandomId()),
      root_user_ns_(MakeRef<auth::UserNamespace>()),
      root_pid_ns_(MakeRef<PidNamespace>(nullptr, root_user_ns_)),
      file_memory_(MakeRef<vfs::tmpfs::MemoryAccount>(config_.headroom)),
      anon_inode_(MakeRef<vfs::AnonFileSystem>()->root()) {
  file_memory_->SetMemory(config_.total_memory);
}

Kernel::~Kernel() {
  // Ended tasks' host threads are on their last instructions.
  while (task_count_.load(std::memory_order_acquire) != 0) usleep(100);
}

Result<RefPtr<Task>> Kernel::NewProcess(ProcessArgs args) {
  KernelContext ctx(args.creds, args.fs, args.namespaces->mount);
  RefPtr<vfs::FileDescription> file = TRY(vfs::OpenForExec(ctx, ctx.cwd(), args.path, {}));
  absl::Cleanup allow = [&file] { file->inode()->AllowWrites(); };
  loader::LoadArgs load;
  load.file = file;
  load.path = args.path;
  load.argv = args.argv;
  load.envp = args.envp;
  load.stack_limit = args.limits.soft(kRlimitStack);
  load.personality = args.personality;
  load.shared_memory = &shared_memory_;
  load.vdso = TRY(args.namespaces->time->Vdso(vdso_));
  load.hwcap = config_.hwcap;
  load.hwcap2 = config_.hwcap2;
  const auth::Credentials& c = *args.creds;
  load.uid = c.user_ns->FromKernelUid(c.ruid);
  load.euid = c.user_ns->FromKernelUid(c.euid);
  load.gid = c.user_ns->FromKernelGid(c.rgid);
  load.egid = c.user_ns->FromKernelGid(c.egid);
  load.open = [&ctx](const std::string& path) { return vfs::OpenForExec(ctx, ctx.cwd(), path, {}); };
  loader::Program program = TRY(loader::Resolve(ctx, load));
  loader::LoadedImage image = TRY(loader::LoadImage(ctx, *platform_, load, program));

  TaskCharge charge = TRY(ChargeTask(args.container, *args.creds, nullptr));
  RefPtr<Pid> pid = TRY(Pid::New(args.pid_ns, {}));
  auto group = MakeRef<ThreadGroup>(*this, pid, MakeRef<SignalActions>(), args.limits);
  platform::Registers regs{};
  regs.rip = image.entry.value;
  regs.rsp = image.stack_pointer.value;
  regs.cs = 0x33;
  regs.ss = 0x2b;
  regs.eflags = 0x200;
  regs.orig_rax = ~uint64_t{0};
  auto task = MakeRef<Task>(Task::Init{.kernel = this, .group = group, .pid = pid, .mm = image.mm,
                                       .fd_table = args.fd_table, .fs = args.fs,
                                       .creds = args.creds, .namespaces = args.namespaces,
                                       .container = args.container,
                                       .context = platform_->NewContext(), .regs = regs,
                                       .comm = image.comm, .charge = std::move(charge)});
  task->personality = args.personality;
  task->no_new_privs = args.no_new_privs;
  if (args.seccomp) task->SetInitialSeccomp(args.seccomp, 2);
  task->nice = args.nice;
  group->oom_score_adj = group->oom_score_adj_min = args.oom_score_adj;

  MutexLock lock(tasks_mu_);
  if (args.pid_ns->dead) return Errno::kESRCH;
  MutexLock signal_lock(group->signal_mu);
  group->leader = task.get();
  group->tasks.push_back(task);
  task->fs().AddUser();
  group->live_tasks = 1;
  group->exit_signal = 0;
  pid->group = group.get();
  pid->task = task.get();
  if (args.pid_ns->init == nullptr) {
    args.pid_ns->init = group.get();
    group->unkillable = true;
  }
  auto session = MakeRef<Session>(pid);
  session->leader = group.get();
  group->process_group = MakeRef<ProcessGroup>(pid, session);
  group->process_group->members.push_back(group.get());
  return task;
}

std::vector<RefPtr<ThreadGroup>> Kernel::ThreadGroups() {
  std::vector<RefPtr<Pid>> pids = root_pid_ns_->All();  // Outlives the lock: ends of ids take others.
  MutexLock lock(tasks_mu_);
  std::vector<RefPtr<ThreadGroup>> groups;
  for (const RefPtr<Pid>& p : pids)
    if (p->group != nullptr) groups.emplace_back(p->group);
  return groups;
}

RefPtr<ThreadGroup> Kernel::FindThreadGroup(const PidNamespace& ns, int32_t tgid) {
  RefPtr<Pid> pid = ns.Find(tgid);
  if (!pid) return nullptr;
  MutexLock lock(tasks_mu_);
  return RefPtr<ThreadGroup>(pid->group);
}

RefPtr<Task> Kernel::FindTask(const PidNamespace& ns, int32_t tid) {
  RefPtr<Pid> pid = ns.Find(tid);
  if (!pid) return nullptr;
  MutexLock lock(tasks_mu_);
  return RefPtr<Task>(pid->task);
}

Result<TaskCharge> Kernel::ChargeTask(RefPtr<Container> container, const auth::Credentials& creds,
                                      Task* task) {
  uint64_t limit = task != nullptr ? task->group().limits().soft(kRlimitNproc) : kRlimInfinity;
  // As copy_process(): not for root, nor for those who could raise the limit.
  if (creds.ruid == 0 || creds.HasRootCapability(auth::Capability::kSysResource) ||
      creds.HasRootCapability(auth::Capability::kSysAdmin))
    limit = kRlimInfinity;
  return TaskCharge::New(task_limit_, std::move(container), users_.Get(creds.ruid), limit);
}

void Kernel::AllowAnswers(bool allow) {
  answers_allowed_.store(allow, std::memory_order_seq_cst);
  for (const RefPtr<ThreadGroup>& g : ThreadGroups()) {
    MutexLock lock(tasks_mu_);
    for (const RefPtr<Task>& t : g->tasks) {
      t->RenewAnswers();
      if (!allow) t->StopAnswers();
    }
  }
}

void Kernel::OnExit(ThreadGroup& group, std::function<void(int32_t)> callback) {
  int32_t status = 0;
  {
    MutexLock lock(tasks_mu_);
    if (!group.zombie) {
      exit_callbacks_[&group].push_back(std::move(callback));
      return;
    }
    status = group.wait_status;
  }
  callback(status);
}

CpuTimes Kernel::TotalCpu() {
  CpuTimes total;
  for (const RefPtr<ThreadGroup>& g : ThreadGroups()) {
    total += g->GetUsage().cpu;
    MutexLock lock(tasks_mu_);
    total += g->children_usage.cpu;
  }
  return total;
}

std::array<double, 3> Kernel::GetLoadAverages() {
  const CpuTimes total = TotalCpu();
  return load_average_.Update(time::MonotonicNow(), total.user_ns + total.system_ns);
}

std::string Kernel::KernelLog() const {
  return absl::StrCat("<5>[    0.000000] Linux version ", kKernelRelease, " ", kKernelVersion,
                      "\n<6>[    0.000000] Caisson: an application kernel in user space, platform ",
                      std::string(platform_->name()), "\n<6>[    0.000000] smp: ", config_.cpu_count,
                      " CPUs, memory ", config_.total_memory >> 10, "K\n<6>[    0.000001] Run /sbin/init as init process\n");
}

uint64_t Kernel::TotalMemory(const Container& container) const {
  const uint64_t limit = container.memory_limit(), total = config_.total_memory;
  return limit != 0 && limit < total ? limit : total;
}

void Kernel::SetMemoryLimit(Container& container, uint64_t bytes) {
  container.set_memory_limit(bytes);
  file_memory_->SetMemory(TotalMemory(container));
  if (config_.headroom) config_.headroom->Renew();
}

Kernel::MemoryInfo Kernel::GetMemoryInfo(const Container& container) {
  MemoryInfo info;
  info.total = TotalMemory(container);
  for (const RefPtr<ThreadGroup>& g : ThreadGroups()) {
    RefPtr<mm::MemoryManager> mm;
    {
      MutexLock lock(tasks_mu_);
      if (g->leader == nullptr) continue;
      mm = g->leader->mm_ref();
    }
    if (!mm) continue;
    auto usage = mm->address_space().GetUsage();
    info.used += usage.resident > usage.shared ? usage.resident - usage.shared : 0;
    info.shared += usage.shared;
  }
  info.used = std::min(info.used + info.shared, info.total);
  info.free = info.total - info.used;
  info.available = info.free;
  return info;
}

void Kernel::NoteUnsupported(const std::string& what) {
  MutexLock lock(unsupported_mu_);
  constexpr size_t kMaxKinds = 4096;  // The text can be of the guest's making.
  if (unsupported_.size() >= kMaxKinds && !unsupported_.contains(what)) return;
  if (++unsupported_[what] == 1) LOG_WARNING("unsupported: ", what);
}

std::map<std::string, uint64_t> Kernel::Unsupported() const {
  MutexLock lock(unsupported_mu_);
  return unsupported_;
}

}  // namespace caisson::kernel
