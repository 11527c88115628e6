#include "sentry/kernel/thread_group.h"

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/task.h"
#include "vfs/tty/tty.h"

namespace caisson::kernel {

void Usage::Add(const Usage& o) {
  cpu += o.cpu;
  max_rss_kb = std::max(max_rss_kb, o.max_rss_kb);
  minor_faults += o.minor_faults;
  major_faults += o.major_faults;
  in_blocks += o.in_blocks;
  out_blocks += o.out_blocks;
  voluntary_switches += o.voluntary_switches;
  involuntary_switches += o.involuntary_switches;
}

void Usage::AddMemory(const platform::AddressSpace::Usage& o) {
  max_rss_kb = std::max(max_rss_kb, o.peak / 1024);
  minor_faults += o.minor_faults;
  major_faults += o.major_faults;
}

ThreadGroup::ThreadGroup(Kernel& kernel, RefPtr<Pid> pid, RefPtr<SignalActions> actions,
                         const Rlimits& limits)
    : kernel_(kernel),
      pid_(std::move(pid)),
      limits_(limits),
      start_time_(time::BoottimeNow()),
      actions_(std::move(actions)),
      timers_(std::make_unique<ProcessTimers>(*this)) {}

ThreadGroup::~ThreadGroup() = default;

RefPtr<SignalActions> ThreadGroup::actions() const {
  MutexLock lock(actions_mu_);
  return actions_;
}

void ThreadGroup::set_actions(RefPtr<SignalActions> actions) {
  MutexLock lock(actions_mu_);
  std::swap(actions_, actions);
}

Usage ThreadGroup::GetUsage() const {
  MutexLock lock(kernel_.tasks_mu());
  Usage usage = dead_usage;
  for (const RefPtr<Task>& t : tasks)
    if (t->StateCode() != 'Z') usage.cpu += t->GetCpuTimes();
  return usage;
}

Usage ThreadGroup::GetChildrenUsage() const {
  {
    MutexLock lock(kernel_.tasks_mu());
    if (late_ends == 0) return children_usage;
  }
  // Those that begin from now on are nobody's to ask for yet.
  kernel_.late_ends().Wait();
  MutexLock lock(kernel_.tasks_mu());
  return children_usage;
}

std::string ThreadGroup::command() const {
  MutexLock lock(kernel_.tasks_mu());
  return leader != nullptr ? leader->comm() : "";
}

uint32_t ThreadGroup::UidSeenLocked(const Task& child) const {
  const uint32_t uid = child.creds_ref()->ruid;
  return leader != nullptr ? leader->creds_ref()->user_ns->FromKernelUid(uid) : uid;
}

// SIGCHLD to the parent for a stop or a continuation, and a wake-up of its waiters (Linux
// do_notify_parent_cldstop()).
static void NotifyParentLocked(ThreadGroup& child, int code, int status) {
  ThreadGroup* parent = child.parent;
  if (parent == nullptr) return;
  signal::Action action = parent->actions()->Get(signal::kSIGCHLD);
  // A tracer among them has been told of the stop of its tracee.
  const bool told = Ptrace::IsTracedByLocked(*child.leader, *parent) && code == signal::kCldStopped;
  if (!told && action.handler != signal::kHandlerIgnore && (action.flags & signal::kSaNocldstop) == 0) {
    signal::Info info(signal::kSIGCHLD, code);
    info.child.pid = child.pid().NumberIn(parent->pid().ns());
    info.child.uid = parent->UidSeenLocked(*child.leader);
    info.child.status = status;
    parent->SendSignal(info);
  }
  parent->child_events.Notify(kReadable);
}

void ThreadGroup::NotifyStopped(int signo) {
  MutexLock lock(kernel_.tasks_mu());
  stop_report = signo;
  continue_report = false;
  NotifyParentLocked(*this, signal::kCldStopped, signo);
}

void ThreadGroup::NotifyContinued() {
  MutexLock lock(kernel_.tasks_mu());
  stop_report = 0;
  continue_report = true;
  NotifyParentLocked(*this, signal::kCldContinued, signal::kSIGCONT);
}

}  // namespace caisson::kernel
