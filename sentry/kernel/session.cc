// setsid(2), setpgid(2), orphaned process groups, and the loss of a controlling terminal.
#include "sentry/kernel/session.h"

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "vfs/tty/tty.h"

namespace caisson::kernel {

bool Kernel::IsOrphanedLocked(const ProcessGroup& pg, const ThreadGroup* without) const {
  for (ThreadGroup* member : pg.members) {
    if (member == without || member->zombie || member->parent == nullptr) continue;
    const RefPtr<ProcessGroup>& parent_pg = member->parent->process_group;
    // Linux will_become_orphaned_pgrp() leaves out children of the host's own init, never those of
    // a container's: a shell that is PID 1 has job control.
    if (parent_pg && parent_pg.get() != &pg && parent_pg->session().get() == pg.session().get())
      return false;
  }
  return true;
}

bool Kernel::IsOrphanedProcessGroup(ThreadGroup& member) {
  MutexLock lock(tasks_mu_);
  return !member.process_group || IsOrphanedLocked(*member.process_group, nullptr);
}

Result<int32_t> Kernel::Setsid(Task& task) {
  RefPtr<vfs::tty::Tty> tty;  // Released after the lock.
  ThreadGroup& group = task.group();
  MutexLock lock(tasks_mu_);
  RefPtr<ProcessGroup> old;  // Released under it: its end changes its id's pointer.
  if (group.pid().process_group != nullptr) return Errno::kEPERM;
  auto session = MakeRef<Session>(group.pid_ref());
  session->leader = &group;
  auto pg = MakeRef<ProcessGroup>(group.pid_ref(), session);
  tty = std::move(group.controlling_tty);
  old = std::move(group.process_group);
  auto& members = old->members;
  members.erase(std::remove(members.begin(), members.end(), &group), members.end());
  pg->members.push_back(&group);
  group.process_group = std::move(pg);
  return group.pid().NumberIn(task.pid_namespace());
}

Result<void> Kernel::Setpgid(Task& task, int32_t pid, int32_t pgid) {
  PidNamespace& ns = task.pid_namespace();
  RefPtr<Pid> target_pid = pid == 0 ? task.group().pid_ref() : ns.Find(pid);
  RefPtr<Pid> pg_pid = pgid == 0 ? target_pid : ns.Find(pgid);
  if (pgid < 0) return Errno::kEINVAL;
  MutexLock lock(tasks_mu_);
  RefPtr<ProcessGroup> old;  // Released under the lock: its end changes its id's pointer.
  ThreadGroup* group = target_pid ? target_pid->group : nullptr;
  if (group == nullptr || group->zombie) return Errno::kESRCH;
  ThreadGroup& self = task.group();
  if (group != &self) {
    if (group->parent != &self) return Errno::kESRCH;
    if (group->process_group->session().get() != self.process_group->session().get())
      return Errno::kEPERM;
    if (group->did_exec) return Errno::kEACCES;
  }
  Session* session = group->process_group->session().get();
  if (session->leader == group) return Errno::kEPERM;
  if (!pg_pid) return Errno::kEPERM;
  RefPtr<ProcessGroup> wanted;
  if (pg_pid->process_group != nullptr) {
    wanted = RefPtr<ProcessGroup>(pg_pid->process_group);
    if (wanted->session().get() != session) return Errno::kEPERM;
  } else if (pg_pid.get() == &group->pid()) {
    wanted = MakeRef<ProcessGroup>(pg_pid, group->process_group->session());
  } else {
    return Errno::kEPERM;
  }
  if (wanted == group->process_group) return {};
  old = std::move(group->process_group);
  auto& members = old->members;
  members.erase(std::remove(members.begin(), members.end(), group), members.end());
  wanted->members.push_back(group);
  group->process_group = std::move(wanted);
  return {};
}

}  // namespace caisson::kernel
