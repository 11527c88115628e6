// Signals: who gets one, and what it does there (Linux kernel/signal.c).
#include <algorithm>

#include "base/log.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/task.h"
#include "sentry/signal/frame_x86_64.h"

namespace caisson::kernel {

using signal::Bit;

// --- Sending ---

// Queues `info` for this thread, or for its group with this thread as the one that is asked first.
// `force`: the sender is outside the pid namespace of the target, so that SIGKILL and SIGSTOP
// reach its init too.
bool Task::QueueSignal(const signal::Info& info, bool to_group, bool force, bool* overflow) {
  ThreadGroup& group = *group_;
  if (overflow != nullptr) *overflow = false;
  const int signo = info.signo;
  // clone(2) takes any low byte as exit signal; one that is none is not sent (do_notify_parent()).
  if (!signal::IsValid(signo)) return false;
  MutexLock lock(group.signal_mu);
  if (signo == signal::kSIGKILL) Ptrace::EndLastStopsLocked(group);
  if (group.group_exiting || (exited_ && !to_group)) return false;
  // Linux prepare_signal(): SIGCONT drops pending stops and resumes; a stop drops SIGCONT.
  if (signo == signal::kSIGCONT) {
    group.shared_pending.Remove(signal::kStopSignals);
    for (const RefPtr<Task>& t : group.tasks) t->pending_.Remove(signal::kStopSignals);
    if (group.stop_signal != 0) {
      // The first task to wake up tells the parent: it can take the tasks lock.
      if (group.stopped) group.continue_pending = true;
      group.stop_signal = 0;
      group.stopped = false;
      group.stopped_tasks = 0;
      for (const RefPtr<Task>& t : group.tasks) {
        t->stop_counted_ = false;
        t->SignalWake(false);
      }
    }
    for (const RefPtr<Task>& t : group.tasks) {
      if (!t->trace_.seized) continue;
      t->trace_.notify_pending = true;  // ptrace_trap_notify().
      t->SignalWake(false);
    }
  } else if ((Bit(signo) & signal::kStopSignals) != 0) {
    group.shared_pending.Remove(Bit(signal::kSIGCONT));
    for (const RefPtr<Task>& t : group.tasks) t->pending_.Remove(Bit(signal::kSIGCONT));
  }
  // An ignored signal is dropped unless the thread blocks it: it may get a handler before it
  // unblocks it (Linux sig_ignored()).
  // The tracer sees it in any case.
  const bool traced = trace_.tracer != nullptr && signo != signal::kSIGKILL;
  if (!traced && (blocked_.load(std::memory_order_relaxed) & Bit(signo)) == 0) {
    RefPtr<SignalActions> actions = group.actions();
    bool kernel_only = signo == signal::kSIGKILL || signo == signal::kSIGSTOP;
    if (group.unkillable && !(force && kernel_only) &&
        actions->Get(signo).handler == signal::kHandlerDefault)
      return false;
    if (actions->IsIgnored(signo)) return false;
  }
  signal::Queue& queue = to_group ? group.shared_pending : pending_;
  if (!queue.Add(info, user_ref(), group.limits().soft(kRlimitSigpending), overflow)) return false;
  if (signo == signal::kSIGKILL) {
    group.group_exiting = true;
    group.group_exit_status = signal::kSIGKILL;
    for (const RefPtr<Task>& t : group.tasks) t->SignalWake(true);
    return true;
  }
  auto wants = [&](const Task& t) {
    return !t.exited_ && (t.blocked_.load(std::memory_order_relaxed) & Bit(signo)) == 0;
  };
  if (wants(*this)) {
    SignalWake(false);
  } else if (to_group) {
    for (const RefPtr<Task>& t : group.tasks) {
      if (!wants(*t)) continue;
      t->SignalWake(false);
      break;
    }
  }
  for (const RefPtr<Task>& t : group.tasks)
    if (to_group || t.get() == this) t->signal_queue_.Notify(kReadable);
  return true;
}

bool Task::SendThreadSignal(const signal::Info& info, bool* overflow, bool force) {
  return QueueSignal(info, false, force, overflow);
}

bool ThreadGroup::SendSignal(const signal::Info& info, bool* overflow, bool force) {
  RefPtr<Task> target;
  {
    MutexLock lock(signal_mu);
    if (tasks.empty()) return false;
    // The leader may have ended before its threads.
    target = tasks.front();
    for (const RefPtr<Task>& t : tasks) {
      if (!t->exited_) {
        target = t;
        break;
      }
    }
  }
  return target->QueueSignal(info, true, force, overflow);
}

void Task::ForceSignal(const signal::Info& info) {
  const int signo = info.signo;
  RefPtr<SignalActions> actions = group_->actions();
  signal::Action action = actions->Get(signo);
  bool blocked = (signal_mask() & Bit(signo)) != 0;
  if (blocked || action.handler == signal::kHandlerIgnore) {
    // The instruction cannot go on: the default action it is (Linux force_sig_info()).
    actions->Set(signo, signal::Action{});
    if (blocked) SetSignalMask(signal_mask() & ~Bit(signo));
  }
  {
    MutexLock lock(group_->signal_mu);
    if (actions->Get(signo).handler == signal::kHandlerDefault) group_->unkillable = false;
    pending_.Remove(Bit(signo));
    pending_.Add(info, user_ref(), ~uint64_t{0}, nullptr);
    SignalWake(false);
  }
}

void Task::SignalWake(bool killed) {
  if (killed) killed_.store(true, std::memory_order_seq_cst);
  interrupt_.store(true, std::memory_order_seq_cst);
  switch (phase_.load(std::memory_order_seq_cst)) {
    case Phase::kGuest:
      context_->Interrupt();
      break;
    case Phase::kBlocked:
    case Phase::kStopped:
    case Phase::kTraced:
      parker_.Nudge();
      break;
    default:
      break;  // It looks at interrupt_ before it blocks or enters the guest.
  }
}

void ThreadGroup::Kill(int32_t status) {
  MutexLock lock(signal_mu);
  if (!group_exiting || status == signal::kSIGKILL) Ptrace::EndLastStopsLocked(*this);
  if (group_exiting) return;
  group_exiting = true;
  group_exit_status = status;
  for (const RefPtr<Task>& t : tasks) t->SignalWake(true);
}

bool ThreadGroup::HasOtherThreads() const {
  MutexLock lock(signal_mu);
  return live_tasks > 1;
}

bool ThreadGroup::IsExiting() const {
  MutexLock lock(signal_mu);
  return group_exiting;
}

// --- Masks and pending sets ---

void Task::RecalcInterruptLocked() {
  signal::Set deliverable = (pending_.pending() | group_->shared_pending.pending()) &
                            ~blocked_.load(std::memory_order_relaxed);
  bool work = deliverable != 0 || killed_.load(std::memory_order_relaxed) ||
              (group_->stop_signal != 0 && !stop_counted_) || trace_.trap_pending || trace_.notify_pending;
  interrupt_.store(work, std::memory_order_seq_cst);
}

void Task::SetSignalMask(signal::Set mask) {
  mask &= ~signal::kUnblockable;
  MutexLock lock(group_->signal_mu);
  signal::Set newly_blocked = mask & ~blocked_.load(std::memory_order_relaxed);
  blocked_.store(mask, std::memory_order_relaxed);
  RecalcInterruptLocked();
  // A shared signal that waited for this thread may be another's now (Linux retarget_shared_pending).
  signal::Set orphaned = newly_blocked & group_->shared_pending.pending();
  if (orphaned == 0) return;
  for (const RefPtr<Task>& t : group_->tasks) {
    if (t.get() != this && !t->exited_ && (orphaned & ~t->blocked_.load(std::memory_order_relaxed)) != 0)
      t->SignalWake(false);
  }
}

void Task::SetTemporaryMask(signal::Set mask) {
  saved_mask_ = signal_mask();
  has_saved_mask_ = true;
  SetSignalMask(mask);
}

void Task::RestoreMask() {
  if (!has_saved_mask_) return;
  has_saved_mask_ = false;
  SetSignalMask(saved_mask_);
}

bool Task::TakeSignal(signal::Set wanted, signal::Info* out) {
  bool taken = false;
  {
    MutexLock lock(group_->signal_mu);
    taken = pending_.Take(wanted, out) || group_->shared_pending.Take(wanted, out);
    if (taken) RecalcInterruptLocked();
  }
  if (taken && out->code == signal::kSiTimer)
    out->timer.overrun = group_->timers().OnDelivery(out->timer.timer_id);
  return taken;
}

signal::Set Task::PendingSignals() const {
  MutexLock lock(group_->signal_mu);
  return pending_.pending() | group_->shared_pending.pending();
}

signal::Set Task::PendingThreadSignals() const {
  MutexLock lock(group_->signal_mu);
  return pending_.pending();
}

void Task::DropPending(signal::Set signals) {
  MutexLock lock(group_->signal_mu);
  group_->shared_pending.Remove(signals);
  for (const RefPtr<Task>& t : group_->tasks) t->pending_.Remove(signals);
  RecalcInterruptLocked();
}

// --- Delivery, on the task's own thread ---

// Handles one signal. False if there is none left to handle.
bool Task::DeliverOne() {
  signal::Info info;
  {
    MutexLock lock(group_->signal_mu);
    if (killed_.load(std::memory_order_relaxed)) return false;
    signal::Set wanted = ~blocked_.load(std::memory_order_relaxed);
    if (!pending_.Take(wanted, &info) && !group_->shared_pending.Take(wanted, &info)) return false;
  }
  if (info.code == signal::kSiTimer)
    info.timer.overrun = group_->timers().OnDelivery(info.timer.timer_id);
  if (trace_flags_.load(std::memory_order_relaxed) != 0 && info.signo != signal::kSIGKILL) {
    if (!PtraceSignal(&info)) return !IsKilled();
  }
  const int signo = info.signo;
  kernel_.dispatcher().NoteSignal(*this, info);
  RefPtr<SignalActions> actions = group_->actions();
  signal::Action action = actions->Get(signo);
  if (action.handler == signal::kHandlerIgnore) return true;
  if (action.handler == signal::kHandlerDefault && signo != signal::kSIGKILL && signo != signal::kSIGSTOP) {
    MutexLock lock(group_->signal_mu);
    if (group_->unkillable) return true;
  }
  if (action.handler != signal::kHandlerDefault) {
    if ((action.flags & signal::kSaResethand) != 0) {
      signal::Action reset = action;
      reset.handler = signal::kHandlerDefault;
      actions->Set(signo, reset);
    }
    DeliverToHandler(info, action);
    return true;
  }
  switch (signal::DefaultOf(signo)) {
    case signal::DefaultAction::kIgnore:
    case signal::DefaultAction::kContinue:
      return true;
    case signal::DefaultAction::kStop: {
      if (signo != signal::kSIGSTOP && kernel_.IsOrphanedProcessGroup(*group_)) return true;
      MutexLock lock(group_->signal_mu);
      if (group_->group_exiting || group_->shared_pending.Contains(signal::kSIGCONT) ||
          pending_.Contains(signal::kSIGCONT))
        return true;
      if (group_->stop_signal == 0) group_->stop_signal = signo;
      else if (trace_.tracer != nullptr && stop_counted_) trace_.trap_pending = true;  // Once more.
      for (const RefPtr<Task>& t : group_->tasks) t->SignalWake(false);
      return true;
    }
    case signal::DefaultAction::kTerminate:
      group_->Kill(signo);
      return false;
    case signal::DefaultAction::kCore:
      LOG_INFO("task ", tid(), " (", comm(), ") killed by ", signal::Name(signo), " at address ",
               absl::Hex(info.fault.address), ", ip ", absl::Hex(regs_.rip));
      group_->Kill(signo);
      return false;
  }
  return true;
}

void Task::DeliverToHandler(const signal::Info& info, const signal::Action& action) {
  RestartSyscallIfNeeded(&action);
  const bool stepping = (trace_flags_.load(std::memory_order_relaxed) & kTraceStep) != 0;
  HideStep();
  signal::Set old_mask = has_saved_mask_ ? saved_mask_ : signal_mask();
  has_saved_mask_ = false;
  signal::FaultDetail fault{fault_trap_, fault_error_, fault_cr2_};
  Result<void> pushed = signal::PushFrame(*mm_, kernel_.platform(), *context_, general_regs(), action, info,
                                          old_mask, alt_stack_, fault);
  if (!pushed.ok()) {
    // The handler of SIGSEGV cannot run either if this was its frame.
    if (info.signo == signal::kSIGSEGV) group_->actions()->Set(signal::kSIGSEGV, signal::Action{});
    ForceSignal(signal::Info(signal::kSIGSEGV));
    return;
  }
  signal::Set mask = signal_mask() | action.mask;
  if ((action.flags & signal::kSaNodefer) == 0) mask |= Bit(info.signo);
  SetSignalMask(mask);
  if (stepping) PtraceReport(signal::kSIGTRAP, 0, nullptr, true);  // At the handler's start.
}

// --- Job control stops ---

bool Task::CountStoppedLocked() {
  if (std::exchange(stop_counted_, true)) return false;
  ++group_->stopped_tasks;
  if (group_->stopped || group_->stopped_tasks < group_->live_tasks) return false;
  group_->stopped = true;
  return true;
}

void Task::StopIfRequested() {
  bool all_stopped = false, tell_continued = false;
  int signo = 0;
  while (trace_flags_.load(std::memory_order_relaxed) != 0 && PtraceTrap()) {
  }
  {
    MutexLock lock(group_->signal_mu);
    tell_continued = std::exchange(group_->continue_pending, false);
    // A tracee that was let go on runs, whatever its group does.
    if (group_->stop_signal != 0 && !IsKilled() && trace_.tracer == nullptr) {
      signo = group_->stop_signal;
      phase_.store(Phase::kStopped, std::memory_order_seq_cst);
      all_stopped = CountStoppedLocked();
    }
  }
  if (tell_continued) group_->NotifyContinued();
  if (signo == 0) return;
  if (all_stopped) group_->NotifyStopped(signo);
  tell_continued = false;
  for (;;) {
    {
      MutexLock lock(group_->signal_mu);
      if (!stop_counted_ || IsKilled() || trace_.trap_pending || trace_.notify_pending) {
        phase_.store(Phase::kKernel, std::memory_order_seq_cst);
        tell_continued = std::exchange(group_->continue_pending, false);
        RecalcInterruptLocked();
        break;
      }
    }
    // SignalWake() sets interrupt_ before the nudge: none is lost.
    while (parker_.Park(time::kNever, [this] {
      return interrupt_.exchange(false, std::memory_order_seq_cst);
    }) != Parker::Outcome::kStopped) {
    }
  }
  if (tell_continued) group_->NotifyContinued();
  while (trace_flags_.load(std::memory_order_relaxed) != 0 && PtraceTrap()) {
  }
}

}  // namespace caisson::kernel
