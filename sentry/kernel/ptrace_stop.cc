// ptrace(2): the stops of a tracee, on its own thread (Linux kernel/signal.c, ptrace_stop()).
#include "base/log.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kTrapFlag = 0x100;
constexpr int kSyscallMark = 0x80;          // PTRACE_O_TRACESYSGOOD.
constexpr uint64_t kMessageEntry = 1, kMessageExit = 2;  // PTRACE_EVENTMSG_SYSCALL_*.
constexpr int kTrapBreakpoint = 1, kTrapTrace = 2;       // si_code of SIGTRAP.

int Code(int signo, PtraceEvent event) { return signo | static_cast<int>(event) << 8; }

}  // namespace

// Stops until the tracer resumes or lets go. Returns the signal to go on with.
int Task::PtraceStop(const PtraceStopArgs& args) {
  // The tracer sees memory and registers as they will be, without asking the platform: that is this
  // thread's alone.
  memory_.Settle();
  full_regs();
  HideStep();
  std::string fp(kernel_.platform().fp_state_size(), '\0');
  if (!context_->GetFpState(absl::Span<char>(fp.data(), fp.size())).ok()) fp.clear();
  {
    MutexLock lock(kernel_.tasks_mu());
    if (trace_.tracer == nullptr) return args.otherwise;
    uint64_t message = args.message;
    if (args.message_pid != nullptr)
      message = static_cast<uint64_t>(args.message_pid->NumberIn(trace_.tracer->pid_namespace()));
    {
      MutexLock signal_lock(group_->signal_mu);
      if (args.killable && IsKilled()) return args.otherwise;
      trace_.stopped = true;
      trace_.listening = false;
      trace_.at_end = !args.killable;
      // Not notify_pending: a SIGCONT since PtraceTrap() looked at the group is to be told of.
      trace_.trap_pending = trace_.trapping = false;
      trace_.wait_code = args.code;
      trace_.has_info = args.info != nullptr;
      if (args.info != nullptr) trace_.info = *args.info;
      trace_.message = message;
      trace_.resume_signal = 0;
      trace_.fp = std::move(fp);
      trace_.fp_changed = trace_.registers_changed = false;
      phase_.store(Phase::kTraced, std::memory_order_seq_cst);
    }
    Ptrace::NotifyLocked(*this, args.why, args.code & 0x7f);
  }
  int signo = args.otherwise;
  bool registers_changed = false, fp_changed = false;
  for (;;) {
    {
      MutexLock lock(group_->signal_mu);
      const bool resumed = !trace_.stopped;
      if (resumed || (args.killable && IsKilled()) || (trace_.listening && trace_.notify_pending)) {
        if (resumed) signo = trace_.resume_signal;
        trace_.stopped = trace_.listening = trace_.at_end = false;
        trace_.wait_code = 0;
        registers_changed = trace_.registers_changed;
        fp_changed = trace_.fp_changed;
        fp = std::move(trace_.fp);
        phase_.store(Phase::kKernel, std::memory_order_seq_cst);
        break;
      }
    }
    // SignalWake() sets interrupt_ before the nudge: none is lost.
    while (parker_.Park(time::kNever, [this] {
      return interrupt_.exchange(false, std::memory_order_seq_cst);
    }) != Parker::Outcome::kStopped) {
    }
  }
  if (fp_changed && !context_->SetFpState(fp).ok())
    LOG_DEBUG("tid ", tid(), ": the tracer's extended state was not set");
  if (registers_changed) AdoptRestart();
  if ((trace_flags_.load(std::memory_order_acquire) & kTraceStep) != 0) {
    regs_.eflags |= kTrapFlag;
    forced_step_ = true;
  }
  // What came meanwhile, and a call to restart, are looked at before guest code goes on. No more than
  // that: a call that blocks now would be interrupted, and come to this stop again.
  MutexLock lock(group_->signal_mu);
  RecalcInterruptLocked();
  if ((in_syscall_ && restart_code_ != Errno{0}) || has_saved_mask_)
    interrupt_.store(true, std::memory_order_seq_cst);
  return signo;
}

void Task::HideStep() {
  if (!std::exchange(forced_step_, false)) return;
  regs_.eflags &= ~kTrapFlag;
}

// A tracer says with orig_rax and rax whether there is a call to restart: gdb takes it away for calls
// of its own and puts it back (Linux arch_do_signal_or_restart()).
void Task::AdoptRestart() {
  in_syscall_ = false;
  restart_code_ = Errno{0};
  if (static_cast<int32_t>(regs_.orig_rax) < 0) return;
  const int64_t value = static_cast<int64_t>(regs_.rax);
  for (Errno e : {Errno::kERESTARTSYS, Errno::kERESTARTNOINTR, Errno::kERESTARTNOHAND,
                  Errno::kERESTART_RESTARTBLOCK}) {
    if (value != -static_cast<int64_t>(e)) continue;
    in_syscall_ = true;
    restart_code_ = e;
  }
}

void Task::PtraceReport(int code, uint64_t message, Pid* message_pid, bool killable) {
  signal::Info info(signal::kSIGTRAP, code);
  info.rt.pid = TidIn(pid_namespace());
  info.rt.uid = creds_->user_ns->FromKernelUid(creds_->ruid);
  const int signo = PtraceStop({.code = code, .info = &info, .message = message,
                                .message_pid = message_pid, .killable = killable});
  // Of stops at events the tracer's signal is not taken (ptrace_event()).
  if (signo != 0 && (code >> 8) == 0) SendThreadSignal(signal::Info(signo));
}

bool Task::ReportPtraceEvent(PtraceEvent event, uint64_t message, Pid* message_pid) {
  if (trace_flags_.load(std::memory_order_acquire) == 0) return false;
  {
    MutexLock lock(kernel_.tasks_mu());
    if ((trace_.options >> static_cast<int>(event) & 1) == 0) return false;
  }
  PtraceReport(Code(signal::kSIGTRAP, event), message, message_pid, event != PtraceEvent::kExit);
  return true;
}

void Task::ReportPtraceExec(Pid* old_pid) {
  if (ReportPtraceEvent(PtraceEvent::kExec, 0, old_pid)) return;
  if (trace_flags_.load(std::memory_order_acquire) == 0) return;
  {
    MutexLock lock(kernel_.tasks_mu());
    if (trace_.tracer == nullptr || trace_.seized) return;
  }
  signal::Info info(signal::kSIGTRAP, signal::kSiUser);
  info.rt.pid = TidIn(pid_namespace());
  SendThreadSignal(info);
}

void Task::PtraceCallStop(bool entry) {
  int code = signal::kSIGTRAP;
  {
    MutexLock lock(kernel_.tasks_mu());
    if ((trace_.options & kPtraceSysgood) != 0) code |= kSyscallMark;
  }
  PtraceReport(code, entry ? kMessageEntry : kMessageExit, nullptr, true);
}

// HandleSyscall() of a task that is traced.
void Task::HandleTracedSyscall() {
  full_regs();
  regs_.rcx = regs_.rip;  // As the instruction leaves them.
  regs_.r11 = regs_.eflags;
  uint32_t flags = trace_flags_.load(std::memory_order_acquire);
  bool skip = false;
  if ((flags & (kTraceSyscalls | kTraceEmulate)) != 0) {
    regs_.rax = static_cast<uint64_t>(-static_cast<int64_t>(Errno::kENOSYS));
    PtraceCallStop(/*entry=*/true);
    // The tracer may have taken the call away, and memory may be another now.
    skip = (flags & kTraceEmulate) != 0 || IsKilled() || static_cast<int>(regs_.orig_rax) == -1;
    memory_.Settle();
  }
  const int number = static_cast<int>(regs_.orig_rax);
  in_syscall_ = true;
  restart_code_ = Errno{0};
  if (skip) {
    memory_.EndCall();
    in_syscall_ = false;
    regs_.rcx = regs_.rip;
    regs_.r11 = regs_.eflags;
  } else {
    current_syscall_.store(number, std::memory_order_relaxed);
    SyscallResult result = kernel_.dispatcher().Dispatch(*this, number);
    memory_.EndCall();
    if (registers_replaced_) in_syscall_ = false;
    else ApplySyscallResult(result);
  }
  if (exiting_ || IsKilled()) return;
  flags = trace_flags_.load(std::memory_order_acquire);
  if ((flags & kTraceStep) != 0) {
    HideStep();
    signal::Info info(signal::kSIGTRAP, kTrapBreakpoint);
    info.fault.address = regs_.rip;
    ForceSignal(info);
  } else if ((flags & kTraceSyscalls) != 0) {
    PtraceCallStop(/*entry=*/false);
  }
}

// A trap of the CPU's. True: of a step that nobody waits for any more.
bool Task::EndOfStep(int signo, int code) {
  if (!forced_step_ || signo != signal::kSIGTRAP || code != kTrapTrace) return false;
  HideStep();
  return (trace_flags_.load(std::memory_order_acquire) & kTraceStep) == 0;
}

// The signal-delivery-stop. False: the tracer keeps it.
bool Task::PtraceSignal(signal::Info* info) {
  const int signo = PtraceStop({.code = info->signo, .info = info, .otherwise = info->signo});
  if (signo == 0 || IsKilled()) return false;
  bool blocked;
  {
    MutexLock lock(kernel_.tasks_mu());
    MutexLock signal_lock(group_->signal_mu);
    if (trace_.has_info) *info = trace_.info;
    if (signo != info->signo) {
      *info = signal::Info(signo, signal::kSiUser);
      if (trace_.tracer != nullptr) {
        info->rt.pid = trace_.tracer->TidIn(pid_namespace());
        info->rt.uid = creds_->user_ns->FromKernelUid(trace_.tracer->creds_ref()->ruid);
      }
    }
    blocked = (signal_mask() & signal::Bit(signo)) != 0;
  }
  if (!blocked) return true;
  SendThreadSignal(*info);
  return false;
}

// The stops of a tracee that are no signal's: PTRACE_INTERRUPT, and the group's stop. False: none.
bool Task::PtraceTrap() {
  bool seized, all_stopped = false;
  int signo;
  {
    MutexLock lock(group_->signal_mu);
    const bool group_stop = group_->stop_signal != 0 && !stop_counted_;
    if (IsKilled() || trace_flags_.load(std::memory_order_relaxed) == 0) return false;
    if (!group_stop && !trace_.trap_pending && !trace_.notify_pending) return false;
    trace_.trap_pending = trace_.notify_pending = false;
    seized = trace_.seized;
    signo = group_->stop_signal;
    if (group_stop) all_stopped = CountStoppedLocked();
  }
  if (all_stopped) group_->NotifyStopped(signo);
  if (!seized) {
    if (signo != 0) PtraceStop({.code = signo, .why = signal::kCldStopped});
    else Ptrace::EndTrapping(*this);  // A SIGCONT has come.
    return true;
  }
  if (signo == 0) signo = signal::kSIGTRAP;
  signal::Info info(signo, Code(signo, PtraceEvent::kStop));
  info.rt.pid = TidIn(pid_namespace());
  info.rt.uid = creds_->user_ns->FromKernelUid(creds_->ruid);
  PtraceStop({.code = info.code, .why = signal::kCldStopped, .info = &info});
  return true;
}

bool Task::PtraceSeccomp(uint32_t data) { return ReportPtraceEvent(PtraceEvent::kSeccomp, data, nullptr); }

}  // namespace caisson::kernel
