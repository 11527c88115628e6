// ptrace(2): who traces whom (Linux kernel/ptrace.c, ptrace_attach(); kernel/exit.c).
#include <algorithm>

#include "sentry/kernel/clone_flags.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task.h"

namespace caisson::kernel {

// __ptrace_may_access(), and cap_ptrace_access_check(); there is no Yama.
bool Ptrace::MayAccess(const auth::Credentials& who, Ids ids, Task& target) {
  const auth::Kuid uid = ids == Ids::kReal ? who.ruid : who.fsuid;
  const auth::Kgid gid = ids == Ids::kReal ? who.rgid : who.fsgid;
  const auth::CapSet caps = ids == Ids::kReal ? who.permitted : who.effective;
  RefPtr<const auth::Credentials> theirs = target.creds_ref();
  const bool capable = who.HasCapability(auth::Capability::kSysPtrace, *theirs->user_ns);
  const bool same = uid == theirs->euid && uid == theirs->suid && uid == theirs->ruid &&
                    gid == theirs->egid && gid == theirs->sgid && gid == theirs->rgid;
  const bool subset = who.user_ns == theirs->user_ns && (theirs->permitted & ~caps) == 0;
  if (!(same && subset) && !capable) return false;
  RefPtr<mm::MemoryManager> mm = target.mm_ref();
  return !mm || mm->IsOpenTo(who);
}

Result<void> Ptrace::MayAttach(Task& caller, Task& target) {
  if (&caller.group() == &target.group()) return {};
  return MayAccess(caller.creds(), Ids::kReal, target) ? Result<void>() : Errno::kEPERM;
}

// ptrace_access_vm(): a program that the tracer may not look at may have come since it attached.
Result<RefPtr<mm::MemoryManager>> Ptrace::MemoryOf(Task& tracer, Task& target) {
  TRY(CheckStopped(tracer, target));
  RefPtr<mm::MemoryManager> mm = target.mm_ref();
  RefPtr<const auth::Credentials> creds;
  {
    MutexLock lock(tracer.kernel_.tasks_mu());
    creds = target.trace_.tracer_creds;
  }
  if (!mm || !creds || !mm->IsOpenTo(*creds)) return Errno::kEIO;
  return mm;
}

// What a tracee must not have, from before its tracer is told that there is one. Without locks; the
// flag in trace_flags_ is set, so that nobody who comes later gives it to the task (UpdateAnswers(),
// Exec()).
void Ptrace::Expose(Task& tracee) {
  tracee.StopAnswers();
  if (RefPtr<mm::MemoryManager> mm = tracee.mm_ref()) mm->address_space().KeepCode();
}

Result<void> Ptrace::TraceMe(Task& self) {
  TRY(TraceMeInner(self));
  Expose(self);
  return {};
}

Result<void> Ptrace::TraceMeInner(Task& self) {
  RefPtr<Task> tracer;
  RefPtr<const auth::Credentials> creds;
  MutexLock lock(self.kernel_.tasks_mu());
  ThreadGroup* parent = self.group_->parent;
  if (self.trace_.tracer != nullptr || parent == nullptr || parent == self.group_.get()) return Errno::kEPERM;
  // Who has forked it; another thread where that one has ended (find_new_reaper()).
  for (const RefPtr<Task>& t : parent->tasks)
    if (!t->exited_ && (!tracer || t->unique_id() == self.group_->forked_by)) tracer = t;
  if (!tracer) return Errno::kEPERM;
  creds = tracer->creds_ref();
  // cap_ptrace_traceme().
  const auth::Credentials& mine = *self.creds_;
  if ((creds->user_ns != mine.user_ns || (mine.permitted & ~creds->permitted) != 0) &&
      !creds->HasCapability(auth::Capability::kSysPtrace, *mine.user_ns))
    return Errno::kEPERM;
  tracer->trace_.tracees.emplace_back(&self);
  MutexLock signal_lock(self.group_->signal_mu);
  self.trace_.tracer = tracer.get();
  self.trace_.seized = false;
  self.trace_.options = 0;
  self.trace_.tracer_creds = std::move(creds);
  self.trace_flags_.store(kTraced, std::memory_order_seq_cst);
  return {};
}

Result<void> Ptrace::Attach(Task& tracer, Task& target, bool seize, uint32_t options) {
  if (&tracer.group() == &target.group()) return Errno::kEPERM;
  RefPtr<const auth::Credentials> creds = tracer.creds_ref();
  bool moves = false;
  for (;;) {
    uint32_t exec_count;
    {
      MutexLock lock(tracer.kernel_.tasks_mu());
      // Neither what it was nor what it will be: Linux waits for its cred_guard_mutex.
      if (target.trace_.exec_gains) return Errno::kERESTARTNOINTR;
      exec_count = target.trace_.exec_count;
    }
    TRY(MayAttach(tracer, target));
    MutexLock lock(tracer.kernel_.tasks_mu());
    if (target.trace_.exec_gains || target.trace_.exec_count != exec_count) continue;
    if (target.exited_ || target.trace_.tracer != nullptr) return Errno::kEPERM;
    tracer.trace_.tracees.emplace_back(&target);
    MutexLock signal_lock(target.group_->signal_mu);
    PtraceState& state = target.trace_;
    state.tracer = &tracer;
    state.seized = seize;
    state.options = options;
    state.tracer_creds = std::move(creds);
    target.trace_flags_.store(kTraced, std::memory_order_seq_cst);
    // A stopped one comes to a stop of the tracer's.
    if (target.group_->stop_signal != 0 && target.stop_counted_) {
      state.trap_pending = state.trapping = moves = true;
      target.SignalWake(false);
    }
    break;
  }
  Expose(target);
  if (!seize) target.SendThreadSignal(signal::Info(signal::kSIGSTOP), nullptr, /*force=*/true);
  if (moves) AwaitStop(tracer, target);
  return {};
}

// A tracee that was stopped before is so after PTRACE_ATTACH and PTRACE_SEIZE too (JOBCTL_TRAPPING).
void Ptrace::AwaitStop(Task& tracer, Task& target) {
  vfs::ContextWaiter waiter(tracer);
  tracer.group().child_events.Add(waiter, kReadable);  // NotifyLocked().
  for (;;) {
    {
      MutexLock lock(tracer.kernel_.tasks_mu());
      if (target.trace_.tracer != &tracer || target.exited_ || target.IsKilled()) break;
      MutexLock signal_lock(target.group_->signal_mu);
      if (!target.trace_.trapping) break;
    }
    if (!tracer.BlockKillable(time::kNever).ok()) break;
  }
  tracer.group().child_events.Remove(waiter);
}

void Ptrace::EndTrapping(Task& tracee) {
  MutexLock lock(tracee.kernel_.tasks_mu());
  MutexLock signal_lock(tracee.group_->signal_mu);
  tracee.trace_.trapping = false;
  if (Task* tracer = tracee.trace_.tracer) tracer->group().child_events.Notify(kReadable);
}

PtraceEvent Ptrace::InheritLocked(Task& parent, Task& child, uint64_t flags, int exit_signal) {
  const PtraceState& from = parent.trace_;
  if (from.tracer == nullptr) return PtraceEvent::kNone;
  PtraceEvent event = (flags & kCloneVfork) != 0            ? PtraceEvent::kVfork
                      : exit_signal != signal::kSIGCHLD ? PtraceEvent::kClone
                                                            : PtraceEvent::kFork;
  if ((flags & kCloneUntraced) != 0 || (from.options >> static_cast<int>(event) & 1) == 0)
    event = PtraceEvent::kNone;
  if (event == PtraceEvent::kNone && (flags & kClonePtrace) == 0) return event;
  PtraceState& to = child.trace_;
  to.tracer = from.tracer;
  to.seized = from.seized;
  to.options = from.options;
  to.tracer_creds = from.tracer_creds;
  child.trace_flags_.store(kTraced, std::memory_order_seq_cst);
  from.tracer->trace_.tracees.emplace_back(&child);
  if (to.seized) to.trap_pending = true;
  else child.pending_.Add(signal::Info(signal::kSIGSTOP), child.user_ref(), ~uint64_t{0}, nullptr);
  child.interrupt_.store(true, std::memory_order_relaxed);  // It has not begun to run.
  return event;
}

void Ptrace::UnlinkLocked(Task& tracee, Grave* grave) {
  Task* tracer = tracee.trace_.tracer;
  if (tracer == nullptr) return;
  std::vector<RefPtr<Task>>& all = tracer->trace_.tracees;
  auto it = std::find_if(all.begin(), all.end(), [&](const auto& t) { return t.get() == &tracee; });
  if (it != all.end()) {
    grave->tasks.push_back(std::move(*it));
    all.erase(it);
  }
  MutexLock lock(tracee.group_->signal_mu);
  PtraceState& state = tracee.trace_;
  state.tracer = nullptr;
  state.seized = false;
  state.options = 0;
  grave->creds.push_back(std::move(state.tracer_creds));
  state.trap_pending = state.notify_pending = state.trapping = false;
  state.stopped = state.listening = state.at_end = false;
  tracee.trace_flags_.store(0, std::memory_order_seq_cst);
  tracee.RenewAnswers();
  // Back to the stop that its group is in, if it is.
  tracee.SignalWake(false);
}

// Who is killed goes on by itself, and is nobody's to ask any more, but for the stop before the end.
bool Ptrace::IsHeldLocked(const Task& tracee) {
  const PtraceState& state = tracee.trace_;
  return state.stopped && !state.listening && (state.at_end || !tracee.IsKilled());
}

void Ptrace::EndLastStopsLocked(ThreadGroup& group) {
  for (const RefPtr<Task>& t : group.tasks) {
    if (!t->trace_.at_end || !std::exchange(t->trace_.stopped, false)) continue;
    t->trace_.resume_signal = 0;
    t->SignalWake(true);
  }
}

bool Ptrace::IsTracedByLocked(const Task& task, const ThreadGroup& group) {
  return task.trace_.tracer != nullptr && &task.trace_.tracer->group() == &group;
}

void Ptrace::NotifyLocked(Task& tracee, int why, int status) {
  Task* tracer = tracee.trace_.tracer;
  if (tracer == nullptr) return;
  ThreadGroup& group = tracer->group();
  const signal::Action action = group.actions()->Get(signal::kSIGCHLD);
  const bool ended = why != signal::kCldTrapped && why != signal::kCldStopped;
  if (action.handler != signal::kHandlerIgnore && (ended || (action.flags & signal::kSaNocldstop) == 0)) {
    signal::Info info(signal::kSIGCHLD, why);
    info.child.pid = tracee.TidIn(tracer->pid_namespace());
    info.child.uid = group.UidSeenLocked(tracee);
    info.child.status = status;
    group.SendSignal(info, nullptr, true);
  }
  group.child_events.Notify(kReadable);
}

std::vector<ThreadGroup*> Ptrace::ReleaseTraceesLocked(Task& tracer, Grave* grave) {
  std::vector<ThreadGroup*> ended;
  while (!tracer.trace_.tracees.empty()) {
    Task& tracee = *tracer.trace_.tracees.back();
    const bool kill = (tracee.trace_.options & kPtraceExitKill) != 0;
    ThreadGroup& group = tracee.group();
    {
      // A signal that the tracer has not looked at is delivered.
      MutexLock lock(group.signal_mu);
      PtraceState& state = tracee.trace_;
      if (state.stopped) state.resume_signal = signal::IsValid(state.wait_code) ? state.wait_code : 0;
    }
    UnlinkLocked(tracee, grave);
    if (kill) tracee.SendThreadSignal(signal::Info(signal::kSIGKILL), nullptr, /*force=*/true);
    // The parent has not been told of an end that was the tracer's to see first.
    if (group.zombie && !group.reaped && group.leader == &tracee && group.parent != &tracer.group())
      ended.push_back(&group);
  }
  return ended;
}

int32_t Ptrace::TracerTid(Task& target, const PidNamespace& ns) {
  if (target.trace_flags_.load(std::memory_order_acquire) == 0) return 0;
  MutexLock lock(target.kernel_.tasks_mu());
  return target.trace_.tracer != nullptr ? target.trace_.tracer->TidIn(ns) : 0;
}

}  // namespace caisson::kernel
