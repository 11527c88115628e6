// /proc/PID/stat, statm, status, schedstat (Linux fs/proc/array.c).
#include "absl/strings/str_cat.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/procfs/objects.h"
#include "sentry/procfs/task_files.h"
#include "vfs/tty/tty.h"

namespace caisson::procfs {
namespace {

constexpr uint64_t kTick = 10'000'000;  // USER_HZ is 100.

const char* StateName(char code) {
  switch (code) {
    case 'R': return "R (running)";
    case 'D': return "D (disk sleep)";
    case 'T': return "T (stopped)";
    case 't': return "t (tracing stop)";
    case 'Z': return "Z (zombie)";
    case 'X': return "X (dead)";
    default: return "S (sleeping)";
  }
}

// What is guarded by the tasks lock, of one moment.
struct GroupState {
  int32_t ppid = 0, pgrp = 0, session = 0, tty_group = -1, wait_status = 0, tgid = 0;
  uint32_t tty = 0;
  int threads = 0, exit_signal = 0;
  bool did_exec = false;
  kernel::Usage children, dead;
};

GroupState SnapshotGroup(TaskObject& o, Task& task) {
  GroupState s;
  const PidNamespace& ns = o.pid_ns();
  kernel::ThreadGroup& g = task.group();
  RefPtr<vfs::tty::Tty> tty;
  {
    MutexLock lock(o.kernel().tasks_mu());
    s.tgid = g.pid().NumberIn(ns);
    if (g.parent != nullptr) s.ppid = g.parent->pid().NumberIn(ns);
    if (g.process_group) {
      s.pgrp = g.process_group->id().NumberIn(ns);
      s.session = g.process_group->session()->id().NumberIn(ns);
    }
    tty = g.controlling_tty;
    s.wait_status = g.zombie ? g.wait_status : 0;
    s.threads = g.live_tasks;
    s.exit_signal = g.exit_signal;
    s.did_exec = g.did_exec;
  }
  s.children = g.GetChildrenUsage();
  if (tty) {
    vfs::DeviceNumber d = tty->device();
    s.tty = static_cast<uint32_t>((d.minor & 0xff) | (d.major << 8) | ((d.minor & ~0xffu) << 12));
    const int32_t foreground = tty->foreground_group();
    if (foreground > 0)
      if (RefPtr<kernel::Pid> pid = o.kernel().root_pid_ns()->Find(foreground))
        s.tty_group = pid->NumberIn(ns);
  }
  return s;
}

kernel::Usage UsageOf(TaskObject& o, Task& task) {
  if (o.whole()) return task.group().GetUsage();
  kernel::Usage usage;
  usage.cpu = task.GetCpuTimes();
  return usage;
}

struct SignalState {
  signal::Set thread = 0, shared = 0, blocked = 0, ignored = 0, caught = 0;
  uint64_t queued = 0;
};

SignalState SnapshotSignals(Task& task) {
  SignalState s;
  kernel::ThreadGroup& g = task.group();
  s.thread = task.PendingThreadSignals();
  s.queued = task.user_ref()->Get(auth::UserCounts::kPendingSignals);
  {
    MutexLock lock(g.signal_mu);
    s.shared = g.shared_pending.pending();
  }
  s.blocked = task.signal_mask();
  RefPtr<kernel::SignalActions> actions = g.actions();
  for (int n = 1; n <= signal::kSignalCount; ++n) {
    const uint64_t handler = actions->Get(n).handler;
    if (handler == signal::kHandlerIgnore) s.ignored |= signal::Bit(n);
    else if (handler != signal::kHandlerDefault) s.caught |= signal::Bit(n);
  }
  return s;
}

int Priority(Task& task) {
  const int policy = task.sched_policy.load(std::memory_order_relaxed) & ~0x40000000;
  if (policy == 1 || policy == 2) return -1 - task.sched_priority.load(std::memory_order_relaxed);
  return 20 + task.nice.load(std::memory_order_relaxed);
}

std::string EscapeName(const std::string& name) { return Escape(name, "\n\\"); }

void AppendKb(std::string* out, const char* name, uint64_t bytes) {
  Append(out, "%s%8llu kB\n", name, static_cast<unsigned long long>(bytes >> 10));
}

void AppendMemory(std::string* out, mm::MemoryManager& mm) {
  const mm::MemoryManager::Totals t = mm.totals();
  const platform::AddressSpace::Usage u = mm.address_space().GetUsage();
  const uint64_t shared = std::min(u.shared, u.resident);
  const mm::MemoryManager::Layout layout = mm.layout();
  const uint64_t text = std::min(
      t.exec, PageRoundUp(layout.end_code.value) - PageRoundDown(layout.start_code.value));
  AppendKb(out, "VmPeak:\t", std::max(t.peak_virtual, t.virtual_bytes));
  AppendKb(out, "VmSize:\t", t.virtual_bytes);
  AppendKb(out, "VmLck:\t", t.locked);
  AppendKb(out, "VmPin:\t", 0);
  AppendKb(out, "VmHWM:\t", std::max(u.peak, u.resident));
  AppendKb(out, "VmRSS:\t", u.resident);
  AppendKb(out, "RssAnon:\t", u.resident - shared);
  AppendKb(out, "RssFile:\t", shared);
  AppendKb(out, "RssShmem:\t", 0);
  AppendKb(out, "VmData:\t", t.data);
  AppendKb(out, "VmStk:\t", t.stack);
  AppendKb(out, "VmExe:\t", text);
  AppendKb(out, "VmLib:\t", t.exec - text);
  // What x86-64 tables for that much resident memory take at least.
  AppendKb(out, "VmPTE:\t", PageRoundUp(u.resident / 512) + 4 * kPageSize);
  AppendKb(out, "VmSwap:\t", 0);
  AppendKb(out, "HugetlbPages:\t", 0);
}

}  // namespace

Result<std::string> ReadStat(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  const GroupState g = SnapshotGroup(o, *task);
  kernel::Usage usage = UsageOf(o, *task);
  const SignalState signals = SnapshotSignals(*task);
  const bool permitted = MayInspect(ctx, *task).ok();
  RefPtr<mm::MemoryManager> mm = task->mm_ref();
  const char state = task->StateCode();
  mm::MemoryManager::Totals totals;
  mm::MemoryManager::Layout layout;
  uint64_t resident = 0;
  if (mm) {
    totals = mm->totals();
    layout = mm->layout();
    const platform::AddressSpace::Usage memory = mm->address_space().GetUsage();
    resident = memory.resident;
    if (o.whole()) usage.AddMemory(memory);
  }
  auto at = [&](GuestAddr a) { return permitted && mm ? a.value : 0; };
  std::string out;
  absl::StrAppend(&out, task->TidIn(o.pid_ns()), " (", EscapeName(task->comm()), ") ",
                  absl::string_view(&state, 1), " ", g.ppid, " ", g.pgrp, " ", g.session, " ");
  constexpr uint32_t kForkNoExec = 0x40, kRandomize = 0x400000;
  absl::StrAppend(&out, g.tty, " ", g.tty_group, " ", kRandomize | (g.did_exec ? 0 : kForkNoExec),
                  " ", usage.minor_faults, " ", g.children.minor_faults, " ", usage.major_faults);
  absl::StrAppend(&out, " ", g.children.major_faults, " ", usage.cpu.user_ns / kTick, " ",
                  usage.cpu.system_ns / kTick, " ", g.children.cpu.user_ns / kTick, " ",
                  g.children.cpu.system_ns / kTick, " ");
  const auto start = static_cast<uint64_t>(
      std::max<int64_t>(0, task->group().start_time() - o.kernel().boot_time()));
  absl::StrAppend(&out, Priority(*task), " ", task->nice.load(std::memory_order_relaxed), " ",
                  std::max(g.threads, 1), " 0 ", start / kTick, " ");
  absl::StrAppend(&out, totals.virtual_bytes, " ", resident / kPageSize, " ",
                  task->group().limits().soft(kernel::kRlimitRss), " ",
                  mm ? (permitted ? layout.start_code.value : 1) : 0, " ",
                  mm ? (permitted ? layout.end_code.value : 1) : 0, " ",
                  at(layout.start_stack), " 0 0 ");
  constexpr uint64_t kOldMask = 0x7fffffff;
  absl::StrAppend(&out, signals.thread & kOldMask, " ", signals.blocked & kOldMask, " ",
                  signals.ignored & kOldMask, " ", signals.caught & kOldMask, " ",
                  permitted && state != 'R' ? 1 : 0, " 0 0 ", g.exit_signal, " 0 ",
                  task->sched_priority.load(std::memory_order_relaxed), " ",
                  task->sched_policy.load(std::memory_order_relaxed) & ~0x40000000, " 0 0 0 ");
  absl::StrAppend(&out, at(layout.start_data), " ", at(layout.end_data), " ", at(layout.start_brk),
                  " ", at(layout.arg_start), " ", at(layout.arg_end), " ", at(layout.env_start),
                  " ", at(layout.env_end), " ", permitted ? g.wait_status : 0, "\n");
  return out;
}

Result<std::string> ReadStatm(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  RefPtr<mm::MemoryManager> mm = task->mm_ref();
  if (!mm) return std::string("0 0 0 0 0 0 0\n");
  const mm::MemoryManager::Totals t = mm->totals();
  const platform::AddressSpace::Usage u = mm->address_space().GetUsage();
  const mm::MemoryManager::Layout l = mm->layout();
  const uint64_t text =
      std::min(t.exec, PageRoundUp(l.end_code.value) - PageRoundDown(l.start_code.value));
  return absl::StrCat(t.virtual_bytes / kPageSize, " ", u.resident / kPageSize, " ",
                      u.shared / kPageSize, " ", text / kPageSize, " 0 ",
                      (t.data + t.stack) / kPageSize, " 0\n");
}

Result<std::string> ReadStatus(CallContext& ctx, TaskObject& o, const auth::Credentials& opener) {
  RefPtr<Task> task = TRY(o.Get());
  const GroupState g = SnapshotGroup(o, *task);
  const SignalState signals = SnapshotSignals(*task);
  RefPtr<const auth::Credentials> c = task->creds_ref();
  RefPtr<mm::MemoryManager> mm = task->mm_ref();
  RefPtr<kernel::FdTable> fds = task->fd_table_ref();
  RefPtr<kernel::FsContext> fs = task->fs_ref();
  const auth::UserNamespace& ns = *opener.user_ns;
  std::string out;
  absl::StrAppend(&out, "Name:\t", EscapeName(task->comm()), "\n");
  if (fs) Append(&out, "Umask:\t%#04o\n", fs->umask());
  absl::StrAppend(&out, "State:\t", StateName(task->StateCode()), "\nTgid:\t", g.tgid,
                  "\nNgid:\t0\nPid:\t", task->TidIn(o.pid_ns()), "\nPPid:\t", g.ppid,
                  "\nTracerPid:\t", kernel::Ptrace::TracerTid(*task, o.pid_ns()), "\n");
  auto uid = [&](uint32_t id) { return ns.FromKernelUid(id); };
  auto gid = [&](uint32_t id) { return ns.FromKernelGid(id); };
  absl::StrAppend(&out, "Uid:\t", uid(c->ruid), "\t", uid(c->euid), "\t", uid(c->suid), "\t",
                  uid(c->fsuid), "\n");
  absl::StrAppend(&out, "Gid:\t", gid(c->rgid), "\t", gid(c->egid), "\t", gid(c->sgid), "\t",
                  gid(c->fsgid), "\nFDSize:\t", fds ? fds->capacity() : 0, "\nGroups:\t");
  for (size_t i = 0; i < c->groups.size(); ++i)
    absl::StrAppend(&out, i == 0 ? "" : " ", gid(c->groups[i]));
  out += " \n";
  // From the namespace of this mount down to the task's own.
  std::vector<const PidNamespace*> chain;
  RefPtr<kernel::Pid> pid = task->pid_ref();
  for (const PidNamespace* n = &pid->ns(); n != nullptr; n = n->parent().get()) {
    chain.insert(chain.begin(), n);
    if (n == &o.pid_ns()) break;
  }
  RefPtr<kernel::Pid> pgrp, session;
  {
    MutexLock lock(o.kernel().tasks_mu());
    if (task->group().process_group) {
      pgrp = task->group().process_group->id_ref();
      session = RefPtr<kernel::Pid>(&task->group().process_group->session()->id());
    }
  }
  auto numbers = [&](const char* name, kernel::Pid* p) {
    out += name;
    for (const PidNamespace* n : chain) absl::StrAppend(&out, "\t", p != nullptr ? p->NumberIn(*n) : 0);
    out += '\n';
  };
  numbers("NStgid:", &task->group().pid());
  numbers("NSpid:", pid.get());
  numbers("NSpgid:", pgrp.get());
  numbers("NSsid:", session.get());
  out += "Kthread:\t0\n";
  if (mm) {
    AppendMemory(&out, *mm);
    out += "CoreDumping:\t0\nTHP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n";
  }
  absl::StrAppend(&out, "Threads:\t", std::max(g.threads, 1), "\nSigQ:\t", signals.queued, "/",
                  task->group().limits().soft(kernel::kRlimitSigpending), "\n");
  auto hex = [&](const char* name, uint64_t v) {
    Append(&out, "%s:\t%016llx\n", name, static_cast<unsigned long long>(v));
  };
  hex("SigPnd", signals.thread);
  hex("ShdPnd", signals.shared);
  hex("SigBlk", signals.blocked);
  hex("SigIgn", signals.ignored);
  hex("SigCgt", signals.caught);
  hex("CapInh", c->inheritable);
  hex("CapPrm", c->permitted);
  hex("CapEff", c->effective);
  hex("CapBnd", c->bounding);
  hex("CapAmb", c->ambient);
  const int seccomp = task->seccomp_mode();
  RefPtr<kernel::SeccompFilter> filter = task->seccomp_ref();
  const int filters = filter ? filter->depth() : 0;
  absl::StrAppend(&out, "NoNewPrivs:\t", task->no_new_privs.load(std::memory_order_relaxed) ? 1 : 0,
                  "\nSeccomp:\t", seccomp, "\nSeccomp_filters:\t", filters,
                  "\nSpeculation_Store_Bypass:\tthread vulnerable\n"
                  "SpeculationIndirectBranch:\tconditional enabled\n");
  uint64_t cpus = task->cpu_affinity.load(std::memory_order_relaxed) & OnlineCpus(o.kernel());
  if (cpus == 0) cpus = OnlineCpus(o.kernel());
  absl::StrAppend(&out, "Cpus_allowed:\t", CpuMask(cpus), "\nCpus_allowed_list:\t", CpuList(cpus),
                  "\nMems_allowed:\t00000000,00000001\nMems_allowed_list:\t0\n");
  const kernel::Usage usage = UsageOf(o, *task);
  absl::StrAppend(&out, "voluntary_ctxt_switches:\t", usage.voluntary_switches,
                  "\nnonvoluntary_ctxt_switches:\t", usage.involuntary_switches,
                  "\nx86_Thread_features:\t\nx86_Thread_features_locked:\t\n");
  return out;
}

// Time on a CPU, time waiting for one (not known), time slices.
Result<std::string> ReadSchedstat(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  kernel::CpuTimes cpu = task->GetCpuTimes();
  return absl::StrCat(cpu.user_ns + cpu.system_ns, " 0 ", (cpu.user_ns + cpu.system_ns) / 4'000'000,
                      "\n");
}

Result<std::string> ReadTimers(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  TRY(MayInspect(ctx, *task));
  return task->group().timers().Show();
}

}  // namespace caisson::procfs
