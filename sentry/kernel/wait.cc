// wait4(2), waitid(2) (Linux kernel/exit.c, do_wait()).
#include "sentry/kernel/kernel.h"

namespace caisson::kernel {
namespace {

constexpr uint32_t kWnohang = 1, kWstopped = 2, kWexited = 4, kWcontinued = 8,
                   kWnowait = 0x01000000, kWall = 0x40000000, kWclone = 0x80000000;

bool Matches(const ThreadGroup& child, const Kernel::WaitArgs& args) {
  switch (args.who) {
    case Kernel::WaitArgs::Who::kAny:
      break;
    case Kernel::WaitArgs::Who::kPid:
      if (!args.pid || args.pid->group != &child) return false;
      break;
    case Kernel::WaitArgs::Who::kProcessGroup:
      if (!args.pid || !child.process_group || &child.process_group->id() != args.pid.get())
        return false;
      break;
  }
  // "Clone" children signal something other than SIGCHLD.
  if ((args.options & kWall) != 0) return true;
  bool clone_child = child.exit_signal != signal::kSIGCHLD;
  return clone_child == ((args.options & kWclone) != 0);
}

}  // namespace

Result<Kernel::WaitResult> Kernel::TryWait(Task& task, const WaitArgs& args) {
  std::vector<RefPtr<ThreadGroup>> released;  // Destroyed after the lock is dropped.
  ThreadGroup& self = task.group();
  const PidNamespace& ns = task.pid_namespace();
  MutexLock lock(tasks_mu_);
  bool any = false;
  for (const RefPtr<ThreadGroup>& child_ref : self.children) {
    ThreadGroup& child = *child_ref;
    if (!Matches(child, args)) continue;
    any = true;
    WaitResult result;
    result.pid = child.pid().NumberIn(ns);
    result.uid = child.leader->creds_ref()->ruid;
    result.usage = child.dead_usage;
    result.usage.Add(child.children_usage);
    if (child.zombie && (args.options & kWexited) != 0) {
      result.status = child.wait_status;
      int signo = result.status & 0x7f;
      result.code = signo == 0 ? signal::kCldExited
                               : ((result.status & 0x80) != 0 ? signal::kCldDumped : signal::kCldKilled);
      if ((args.options & kWnowait) == 0) ReapLocked(child, released);
      return result;
    }
    if (child.stop_report != 0 && (args.options & kWstopped) != 0 && !child.zombie) {
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
  if (!any) return Errno::kECHILD;
  if ((args.options & kWnohang) != 0) return WaitResult{};
  return Errno::kEAGAIN;
}

}  // namespace caisson::kernel
