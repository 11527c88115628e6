#include "sentry/kernel/job_control.h"

#include <vector>

#include "sentry/kernel/kernel.h"
#include "vfs/tty/tty.h"

namespace caisson::kernel {

using vfs::tty::Tty;

static Task* TaskOf(vfs::CallContext& ctx) { return static_cast<Task*>(ctx.owner()); }

KernelJobControl::Caller KernelJobControl::CallerOf(vfs::CallContext& ctx) {
  Task* task = TaskOf(ctx);
  if (task == nullptr) return {};
  MutexLock lock(kernel_.tasks_mu());
  ThreadGroup& group = task->group();
  if (!group.process_group) return {};
  const Session& session = *group.process_group->session();
  return {session.id().global(), group.process_group->id().global(), session.leader == &group,
          group.process_group->id_ref()};
}

RefPtr<Tty> KernelJobControl::ControllingTty(vfs::CallContext& ctx) {
  Task* task = TaskOf(ctx);
  if (task == nullptr) return nullptr;
  MutexLock lock(kernel_.tasks_mu());
  return task->group().controlling_tty;
}

void KernelJobControl::SetControllingTty(vfs::CallContext& ctx, RefPtr<Tty> tty) {
  Task* task = TaskOf(ctx);
  if (task == nullptr) return;
  MutexLock lock(kernel_.tasks_mu());
  std::swap(task->group().controlling_tty, tty);  // The old one is released after the lock.
}

void KernelJobControl::DropControllingTty(vfs::CallContext& ctx) {
  SetControllingTty(ctx, nullptr);
}

void KernelJobControl::ClearSessionTty(int32_t session, Tty& tty) {
  std::vector<RefPtr<Tty>> released;
  for (const RefPtr<ThreadGroup>& group : kernel_.ThreadGroups()) {
    MutexLock lock(kernel_.tasks_mu());
    if (group->controlling_tty.get() != &tty || !group->process_group ||
        group->process_group->session()->id().global() != session)
      continue;
    released.push_back(std::move(group->controlling_tty));
  }
}

bool KernelJobControl::CallerOrphaned(vfs::CallContext& ctx) {
  Task* task = TaskOf(ctx);
  return task == nullptr || kernel_.IsOrphanedProcessGroup(task->group());
}

bool KernelJobControl::CallerIgnores(vfs::CallContext& ctx, int signo) {
  Task* task = TaskOf(ctx);
  return task == nullptr || (task->signal_mask() & signal::Bit(signo)) != 0 ||
         task->group().actions()->Get(signo).handler == signal::kHandlerIgnore;
}

// The process group of that id, which the caller's reference to its Pid keeps for the call.
static ProcessGroup* FindGroup(const RefPtr<Pid>& pid) { return pid ? pid->process_group : nullptr; }

bool KernelJobControl::GroupInSession(int32_t group, int32_t session) {
  RefPtr<Pid> pid = kernel_.root_pid_ns()->Find(group);
  MutexLock lock(kernel_.tasks_mu());
  ProcessGroup* pg = FindGroup(pid);
  return pg != nullptr && pg->session()->id().global() == session;
}

bool KernelJobControl::GroupExists(int32_t group) {
  RefPtr<Pid> pid = kernel_.root_pid_ns()->Find(group);
  MutexLock lock(kernel_.tasks_mu());
  return FindGroup(pid) != nullptr;
}

void KernelJobControl::SignalGroup(int32_t session, int32_t group, int signo) {
  RefPtr<Pid> pid = kernel_.root_pid_ns()->Find(group);
  MutexLock lock(kernel_.tasks_mu());
  ProcessGroup* pg = FindGroup(pid);
  if (pg == nullptr || pg->session()->id().global() != session) return;
  for (ThreadGroup* member : pg->members) member->SendSignal(signal::Info(signo));
}

void KernelJobControl::SignalSessionLeader(int32_t session, int signo) {
  RefPtr<Pid> pid = kernel_.root_pid_ns()->Find(session);
  MutexLock lock(kernel_.tasks_mu());
  if (!pid || pid->session == nullptr || pid->session->leader == nullptr) return;
  pid->session->leader->SendSignal(signal::Info(signo));
}

int32_t KernelJobControl::ToCaller(vfs::CallContext& ctx, int32_t id) {
  Task* task = TaskOf(ctx);
  if (task == nullptr) return id;
  RefPtr<Pid> pid = kernel_.root_pid_ns()->Find(id);
  return pid ? pid->NumberIn(task->pid_namespace()) : 0;
}

vfs::ProcessId KernelJobControl::FromCaller(vfs::CallContext& ctx, int32_t id) {
  Task* task = TaskOf(ctx);
  if (task == nullptr) return {id, nullptr};
  RefPtr<Pid> pid = task->pid_namespace().Find(id);
  if (!pid) return {};
  const int32_t number = pid->global();
  return {number, std::move(pid)};
}

}  // namespace caisson::kernel
