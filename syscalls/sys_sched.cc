// Scheduling: policies, priorities and affinity are kept and reported; the host schedules.
#include <sched.h>

#include <algorithm>

#include "syscalls/handlers.h"

namespace caisson::syscalls {

using auth::Capability;

namespace {
Result<RefPtr<Task>> TaskOf(Task& task, int32_t pid) {
  if (pid < 0) return Errno::kEINVAL;
  if (pid == 0) return RefPtr<Task>(&task);
  RefPtr<Task> target = task.kernel().FindTask(task.pid_namespace(), pid);
  if (!target) return Errno::kESRCH;
  return target;
}
constexpr int kSchedOther = 0, kSchedFifo = 1, kSchedRr = 2, kSchedBatch = 3, kSchedIdle = 5;
bool IsRealtimePolicy(int policy) { return policy == kSchedFifo || policy == kSchedRr; }
Result<void> CheckPolicy(Task& task, int policy, int priority) {
  if (policy != kSchedOther && policy != kSchedBatch && policy != kSchedIdle && !IsRealtimePolicy(policy))
    return Errno::kEINVAL;
  if (IsRealtimePolicy(policy) ? (priority < 1 || priority > 99) : priority != 0) return Errno::kEINVAL;
  if (IsRealtimePolicy(policy) && !task.creds().HasRootCapability(Capability::kSysNice) &&
      static_cast<uint64_t>(priority) > task.group().limits().soft(kernel::kRlimitRtprio))
    return Errno::kEPERM;
  return {};
}
// check_same_owner(): who may change another's scheduling.
Result<void> MaySchedule(Task& task, Task& target) {
  RefPtr<const auth::Credentials> theirs = target.creds_ref();
  const auth::Credentials& mine = task.creds();
  if (mine.euid == theirs->euid || mine.euid == theirs->ruid || mine.HasCapability(Capability::kSysNice, *theirs->user_ns))
    return {};
  return Errno::kEPERM;
}
}  // namespace

SyscallResult SchedYield(Task& task) {
  sched_yield();
  return 0;
}
SyscallResult SchedGetaffinity(Task& task, int32_t pid, uint32_t size, GuestAddr out) {
  if (size % 8 != 0) return Errno::kEINVAL;
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  const uint32_t cpus = task.kernel().config().cpu_count;
  uint64_t all = cpus >= 64 ? ~uint64_t{0} : (uint64_t{1} << cpus) - 1;
  uint64_t mask = target->cpu_affinity.load(std::memory_order_relaxed) & all;
  const uint32_t bytes = std::min<uint32_t>(size, 8);
  if (bytes < 8) return Errno::kEINVAL;
  TRY(task.CopyOutBytes(out, {reinterpret_cast<const char*>(&mask), bytes}));
  return bytes;
}
SyscallResult SchedSetaffinity(Task& task, int32_t pid, uint32_t size, GuestAddr in) {
  uint64_t mask = 0;
  TRY(task.CopyInBytes(in, absl::Span<char>(reinterpret_cast<char*>(&mask), std::min<uint32_t>(size, 8))));
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  TRY(MaySchedule(task, *target));
  const uint32_t cpus = task.kernel().config().cpu_count;
  uint64_t all = cpus >= 64 ? ~uint64_t{0} : (uint64_t{1} << cpus) - 1;
  if ((mask & all) == 0) return Errno::kEINVAL;
  target->cpu_affinity.store(mask & all, std::memory_order_relaxed);
  return 0;
}
SyscallResult SchedGetscheduler(Task& task, int32_t pid) { return TRY(TaskOf(task, pid))->sched_policy.load(); }
SyscallResult SchedSetscheduler(Task& task, int32_t pid, int32_t policy, GuestAddr param) {
  if (pid < 0 || param.is_null()) return Errno::kEINVAL;
  int32_t priority = TRY(task.Read<int32_t>(param));
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  constexpr int kResetOnFork = 0x40000000;
  TRY(CheckPolicy(task, policy & ~kResetOnFork, priority));
  TRY(MaySchedule(task, *target));
  target->sched_policy = policy & ~kResetOnFork;
  target->sched_priority = priority;
  return 0;
}
SyscallResult SchedGetparam(Task& task, int32_t pid, GuestAddr param) {
  if (param.is_null()) return Errno::kEINVAL;
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  TRY(task.Write(param, int32_t{target->sched_priority.load()}));
  return 0;
}
SyscallResult SchedSetparam(Task& task, int32_t pid, GuestAddr param) {
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  return SchedSetscheduler(task, pid, target->sched_policy.load(), param);
}
SyscallResult SchedGetPriorityMax(Task& task, int32_t policy) {
  if (IsRealtimePolicy(policy)) return 99;
  if (policy == kSchedOther || policy == kSchedBatch || policy == kSchedIdle) return 0;
  return Errno::kEINVAL;
}
SyscallResult SchedGetPriorityMin(Task& task, int32_t policy) {
  if (IsRealtimePolicy(policy)) return 1;
  if (policy == kSchedOther || policy == kSchedBatch || policy == kSchedIdle) return 0;
  return Errno::kEINVAL;
}
SyscallResult SchedRrGetInterval(Task& task, int32_t pid, GuestAddr out) {
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  struct Spec { int64_t sec, nsec; };
  TRY(task.Write(out, Spec{0, target->sched_policy.load() == kSchedRr ? 100'000'000 : 4'000'000}));
  return 0;
}
SyscallResult Getcpu(Task& task, OutPtr<uint32_t> cpu, OutPtr<uint32_t> node, GuestAddr) {
  int now = sched_getcpu();
  if (!cpu.is_null())
    TRY(cpu.Write(task, now < 0 ? 0 : static_cast<uint32_t>(now) % task.kernel().config().cpu_count));
  if (!node.is_null()) TRY(node.Write(task, 0));
  return 0;
}

namespace {
// The tasks that setpriority(2) and ioprio_set(2) name.
Result<std::vector<RefPtr<Task>>> TasksOf(Task& task, int which, int who) {
  constexpr int kProcess = 0, kGroup = 1, kUser = 2;
  std::vector<RefPtr<Task>> out;
  if (which == kProcess) {
    out.push_back(TRY(TaskOf(task, who)));
    return out;
  }
  if (which != kGroup && which != kUser) return Errno::kEINVAL;
  RefPtr<kernel::Pid> pg = who == 0 ? nullptr : task.pid_namespace().Find(who);
  for (const auto& g : task.kernel().ThreadGroups()) {
    MutexLock lock(task.kernel().tasks_mu());
    for (const RefPtr<Task>& t : g->tasks) {
      bool match = which == kUser
                       ? t->creds_ref()->ruid == (who == 0 ? task.creds().ruid : static_cast<uint32_t>(who))
                       : (who == 0 ? g->process_group == task.group().process_group
                                   : pg && g->process_group && &g->process_group->id() == pg.get());
      if (match) out.push_back(t);
    }
  }
  if (out.empty()) return Errno::kESRCH;
  return out;
}
}  // namespace

SyscallResult Getpriority(Task& task, int32_t which, int32_t who) {
  auto tasks = TRY(TasksOf(task, which, who));
  int best = 20;
  for (const auto& t : tasks) best = std::min(best, t->nice.load());
  return 20 - best;
}
SyscallResult Setpriority(Task& task, int32_t which, int32_t who, int32_t nice) {
  nice = std::clamp(nice, -20, 19);
  auto tasks = TRY(TasksOf(task, which, who));
  for (const auto& t : tasks) {
    const auth::Credentials& me = task.creds();
    RefPtr<const auth::Credentials> c = t->creds_ref();
    if (me.euid != c->ruid && me.euid != c->euid && !me.HasCapability(Capability::kSysNice, *c->user_ns))
      return Errno::kEPERM;
    if (nice < t->nice.load() && !me.HasRootCapability(Capability::kSysNice) &&
        static_cast<uint64_t>(20 - nice) > t->group().limits().soft(kernel::kRlimitNice))
      return Errno::kEACCES;
    t->nice = nice;
  }
  return 0;
}
// IOPRIO_WHO_* count from 1, PRIO_* from 0; any number may come.
static int IoprioWhich(int32_t which) { return which >= 1 && which <= 3 ? which - 1 : -1; }
SyscallResult IoprioGet(Task& task, int32_t which, int32_t who) {
  auto tasks = TRY(TasksOf(task, IoprioWhich(which), who));
  return tasks.front()->io_priority.load();
}
SyscallResult IoprioSet(Task& task, int32_t which, int32_t who, int32_t priority) {
  const int io_class = priority >> 13;
  if (io_class < 0 || io_class > 3 || (priority & 0x1fff) > 7) return Errno::kEINVAL;
  if (io_class == 1 && !task.creds().HasRootCapability(Capability::kSysAdmin) &&
      !task.creds().HasRootCapability(Capability::kSysNice))
    return Errno::kEPERM;
  auto tasks = TRY(TasksOf(task, IoprioWhich(which), who));
  // set_task_ioprio().
  for (const auto& t : tasks) TRY(MaySchedule(task, *t));
  for (const auto& t : tasks) t->io_priority = priority;
  return 0;
}

}  // namespace caisson::syscalls
