// wait4(2), waitid(2) (Linux kernel/exit.c, do_wait()).
#include <algorithm>
#include <optional>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/ptrace.h"

namespace caisson::kernel {
namespace {

constexpr uint32_t kWnohang = 1, kWstopped = 2, kWexited = 4, kWcontinued = 8,
                   kWnowait = 0x01000000, kWnothread = 0x20000000, kWall = 0x40000000,
                   kWclone = 0x80000000;

// `task`: the leader, or the thread that is a tracee. eligible_child(): __WALL holds for tracees.
bool Matches(const ThreadGroup& child, const Task& task, const Kernel::WaitArgs& args, bool traced) {
  switch (args.who) {
    case Kernel::WaitArgs::Who::kAny:
      break;
    case Kernel::WaitArgs::Who::kPid:
      if (!args.pid || task.pid_ref() != args.pid) return false;
      break;
    case Kernel::WaitArgs::Who::kProcessGroup:
      if (!args.pid || !child.process_group || &child.process_group->id() != args.pid.get())
        return false;
      break;
  }
  // "Clone" children signal something other than SIGCHLD.
  if (traced || (args.options & kWall) != 0) return true;
  bool clone_child = child.exit_signal != signal::kSIGCHLD;
  return clone_child == ((args.options & kWclone) != 0);
}

// __WNOTHREAD: what another thread of the caller's group has forked, and what that traces. The children
// of a thread that has ended are everybody's here.
bool IsOfOtherThread(const ThreadGroup& child, const Task& task) {
  if (child.forked_by == task.unique_id()) return false;
  const std::vector<RefPtr<Task>>& threads = task.group().tasks;
  return std::any_of(threads.begin(), threads.end(),
                     [&](const auto& t) { return t->unique_id() == child.forked_by && t->StateCode() != 'Z'; });
}

int EndCode(int32_t status) {
  if ((status & 0x7f) == 0) return signal::kCldExited;
  return (status & 0x80) != 0 ? signal::kCldDumped : signal::kCldKilled;
}

}  // namespace

// A tracee of `tracer`'s; the end of a child is looked at with the other children.
std::optional<Kernel::WaitResult> Kernel::TryWaitTracee(Task& tracer, Task& tracee, const WaitArgs& args,
                                                        WaitGrave* grave) {
  ThreadGroup& group = tracee.group();
  const bool leader = group.leader == &tracee;
  WaitResult result;
  result.pid = tracee.TidIn(tracer.pid_namespace());
  result.uid = tracee.creds_ref()->ruid;
  result.usage = group.dead_usage;
  if (!tracee.exited_) {
    MutexLock lock(group.signal_mu);
    PtraceState& state = tracee.trace_;
    if (!state.stopped || state.listening || state.wait_code == 0) return std::nullopt;
    result.status = state.wait_code << 8 | 0x7f;
    result.code = signal::kCldTrapped;
    if ((args.options & kWnowait) == 0) state.wait_code = 0;
    return result;
  }
  if ((args.options & kWexited) == 0) return std::nullopt;
  if (leader) {
    if (!group.zombie || group.parent == &tracer.group()) return std::nullopt;
    result.status = group.wait_status;
  } else {
    result.status = tracee.exit_status_;
  }
  result.code = EndCode(result.status);
  if ((args.options & kWnowait) != 0) return result;
  Ptrace::UnlinkLocked(tracee, &grave->trace);
  if (leader) NotifyParentOfExitLocked(group, grave->released);
  return result;
}

Result<Kernel::WaitResult> Kernel::TryWait(Task& task, const WaitArgs& args) {
  for (;;) {
    bool late = false;
    Result<WaitResult> result = TryWaitOnce(task, args, &late);
    if (!late) return result;
    late_ends_.Wait();
  }
}

Result<Kernel::WaitResult> Kernel::TryWaitOnce(Task& task, const WaitArgs& args, bool* late) {
  WaitGrave grave;  // Destroyed after the lock is dropped.
  ThreadGroup& self = task.group();
  const PidNamespace& ns = task.pid_namespace();
  MutexLock lock(tasks_mu_);
  bool any = false;
  for (const RefPtr<ThreadGroup>& child_ref : self.children) {
    ThreadGroup& child = *child_ref;
    const bool traced = child.leader->trace_.tracer != nullptr;
    const bool ours = traced && Ptrace::IsTracedByLocked(*child.leader, self);
    if (!Matches(child, *child.leader, args, ours)) continue;
    if ((args.options & kWnothread) != 0 && IsOfOtherThread(child, task)) continue;
    any = true;
    WaitResult result;
    result.pid = child.pid().NumberIn(ns);
    result.uid = child.leader->creds_ref()->ruid;
    result.usage = child.dead_usage;
    result.usage.Add(child.children_usage);
    // Another's tracee ends for its tracer first.
    if (child.zombie && (args.options & kWexited) != 0 && (!traced || ours)) {
      *late = args.wants_usage && child.late_ends != 0;
      if (*late) return Errno::kEAGAIN;
      result.status = child.wait_status;
      result.code = EndCode(result.status);
      if ((args.options & kWnowait) == 0) ReapLocked(child, grave.released, /*waited_for=*/true);
      return result;
    }
    // Of a tracee of ours only the tracer's stops are seen.
    if (child.stop_report != 0 && (args.options & kWstopped) != 0 && !child.zombie && !ours) {
      result.status = (child.stop_report << 8) | 0x7f;
      result.code = signal::kCldStopped;
      if ((args.options & kWnowait) == 0) child.stop_report = 0;
      return result;
    }
    if (child.continue_report && (args.options & kWcontinued) != 0 && !child.zombie) {
      result.status = 0xffff;
      result.code = signal::kCldContinued;
      if ((args.options & kWnowait) == 0) child.continue_report = false;
      return result;
    }
  }
  for (const RefPtr<Task>& thread : self.tasks) {
    if ((args.options & kWnothread) != 0 && thread.get() != &task) continue;
    for (const RefPtr<Task>& tracee : thread->trace_.tracees) {
      if (!Matches(tracee->group(), *tracee, args, true)) continue;
      any = true;
      // It changes the list where it finds something.
      if (std::optional<WaitResult> result = TryWaitTracee(*thread, *tracee, args, &grave)) return *result;
    }
  }
  if (!any) return Errno::kECHILD;
  if ((args.options & kWnohang) != 0) return WaitResult{};
  return Errno::kEAGAIN;
}

}  // namespace caisson::kernel
