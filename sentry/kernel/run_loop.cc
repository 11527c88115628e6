// The life of a task's host thread: guest code, its events, its signals.
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/log.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace caisson::kernel {
namespace {

constexpr int kSysRestartSyscall = 219;
constexpr uint64_t kVsyscallStart = 0xffffffffff600000;
constexpr uint64_t kVsyscallEnd = kVsyscallStart + kPageSize;
constexpr uint64_t kSyscallInstructionLength = 2;

}  // namespace

Result<void> Task::Prepare() {
  host_thread_ = TRY(kernel_.host_threads_.Reserve());
  kernel_.task_count_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Result<void> Task::Start() {
  if (Result<void> made = Prepare(); !made.ok()) {
    exit_status_ = signal::kSIGKILL;
    ExitTask();
    return made;
  }
  Launch();
  return {};
}

void Task::Launch() {
  IncRef();  // The thread's; ThreadMain drops it.
  kernel_.host_threads_.Start(host_thread_, &Task::ThreadMain, this);
}

void Task::Abandon() {
  kernel_.host_threads_.Release(host_thread_);
  kernel_.task_count_.fetch_sub(1, std::memory_order_release);
}

void Task::ThreadMain(void* self) {
  RefPtr<Task> task = RefPtr<Task>::Adopt(static_cast<Task*>(self));
  Kernel& kernel = task->kernel_;
  {
    MutexLock lock(task->cpu_mu_);
    timespec ts{};  // What the thread has used for others before.
    task->has_clock_ = pthread_getcpuclockid(pthread_self(), &task->cpu_clock_) == 0 &&
                       clock_gettime(task->cpu_clock_, &ts) == 0;
    task->cpu_clock_start_ = static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000 + ts.tv_nsec;
  }
  task->Run();
  task.reset();
  kernel.task_count_.fetch_sub(1, std::memory_order_release);  // ~Kernel waits for this.
}

void Task::Run() {
  for (;;) {
    if ((interrupt_.load(std::memory_order_acquire) || exiting_ ||
         kernel_.paused_.load(std::memory_order_acquire)) &&
        !HandlePendingWork())
      break;
    if (answers_stale_.load(std::memory_order_relaxed)) UpdateAnswers();
    phase_.store(Phase::kGuest, std::memory_order_seq_cst);
    // A signal sent before the store above, or a pause, would not have interrupted the context.
    if (interrupt_.load(std::memory_order_seq_cst) ||
        kernel_.paused_.load(std::memory_order_seq_cst)) {
      phase_.store(Phase::kKernel, std::memory_order_seq_cst);
      continue;
    }
    platform::Event event = context_->Switch(mm_->address_space(), regs_);
    switches_.fetch_add(1, std::memory_order_seq_cst);
    phase_.store(Phase::kKernel, std::memory_order_seq_cst);
    switch (event.kind) {
      case platform::Event::Kind::kSyscall:
        if (event.compat32) {
          // int 0x80 and the like: numbers of a table that we do not have.
          in_syscall_ = true;
          restart_code_ = Errno{0};
          ApplySyscallResult(Errno::kENOSYS);
          break;
        }
        HandleSyscall();
        break;
      case platform::Event::Kind::kFault:
      case platform::Event::Kind::kException:
        HandleFault(event);
        break;
      case platform::Event::Kind::kInterrupted:
        break;
      case platform::Event::Kind::kKilled:
        // The host's OOM killer took the address space: to the guest it looks the same.
        group_->Kill(signal::kSIGKILL);
        break;
    }
  }
  ExitTask();
}

bool Task::MayAnswer() const {
  return seccomp_mode() == 0 && trace_flags_.load(std::memory_order_seq_cst) == 0 &&
         kernel_.answers_allowed_.load(std::memory_order_seq_cst);
}

// The ids that a process asks for are its own: the platform may tell them, unless a filter or
// somebody who watches has to see the call.
void Task::UpdateAnswers() {
  answers_stale_.store(false, std::memory_order_relaxed);
  if (!MayAnswer()) {
    context_->ClearAnswers();
    return;
  }
  const auth::UserNamespace& ns = *creds_->user_ns;
  if (!ns.maps_are_set()) {
    // Whoever writes them changes what all in the namespace are told.
    context_->ClearAnswers();
    answers_stale_.store(true, std::memory_order_relaxed);
    return;
  }
  const PidNamespace& pids = pid_namespace();
  platform::Context::Answers answers;
  answers.pid = static_cast<uint32_t>(TgidIn(pids));
  answers.tid = static_cast<uint32_t>(TidIn(pids));
  answers.uid = ns.FromKernelUid(creds_->ruid);
  answers.euid = ns.FromKernelUid(creds_->euid);
  answers.gid = ns.FromKernelGid(creds_->rgid);
  answers.egid = ns.FromKernelGid(creds_->egid);
  context_->SetAnswers(answers);
  // Who forbade them meanwhile has cleared them before, or sees them set.
  if (!MayAnswer()) context_->ClearAnswers();
}

void Task::HandleSyscall() {
  int number = static_cast<int>(regs_.orig_rax);
  current_syscall_.store(number, std::memory_order_relaxed);
  registers_replaced_ = false;
  in_syscall_ = true;
  restart_code_ = Errno{0};
  memory_.BeginCall(number);
  if (__builtin_expect(trace_flags_.load(std::memory_order_relaxed) != 0, 0)) {
    HandleTracedSyscall();
    current_syscall_.store(-1, std::memory_order_relaxed);
    return;
  }
  SyscallResult result = kernel_.dispatcher().Dispatch(*this, number);
  memory_.EndCall();
  current_syscall_.store(-1, std::memory_order_relaxed);
  if (registers_replaced_) {
    in_syscall_ = false;
    return;
  }
  ApplySyscallResult(result);
}

void Task::ApplySyscallResult(const SyscallResult& result) {
  if (result.ok()) {
    regs_.rax = static_cast<uint64_t>(result.value());
    in_syscall_ = false;
  } else {
    Errno e = result.error();
    regs_.rax = static_cast<uint64_t>(-static_cast<int64_t>(e));
    if (static_cast<int>(e) >= 512) {
      restart_code_ = e;
      // Something must turn the code into EINTR or a restart before the guest sees it.
      interrupt_.store(true, std::memory_order_release);
    } else {
      in_syscall_ = false;
    }
  }
  // What the instruction itself does to these two registers.
  regs_.rcx = regs_.rip;
  regs_.r11 = regs_.eflags;
}

void Task::RestartSyscallIfNeeded(const signal::Action* handler) {
  Errno code = restart_code_;
  if (!in_syscall_ || code == Errno{0}) return;
  in_syscall_ = false;
  restart_code_ = Errno{0};
  bool restart = true;
  if (handler != nullptr) {
    restart = code == Errno::kERESTARTNOINTR ||
              (code == Errno::kERESTARTSYS && (handler->flags & signal::kSaRestart) != 0);
  }
  if (!restart) {
    regs_.rax = static_cast<uint64_t>(-static_cast<int64_t>(Errno::kEINTR));
    return;
  }
  regs_.rip -= kSyscallInstructionLength;
  regs_.rax = code == Errno::kERESTART_RESTARTBLOCK ? kSysRestartSyscall : regs_.orig_rax;
}

void Task::HandleFault(const platform::Event& event) {
  if (EmulateVsyscall(event)) return;
  regs_.orig_rax = ~uint64_t{0};
  int signo = event.signo;
  int code = event.code;
  if (EndOfStep(signo, code)) return;
  if (event.kind == platform::Event::Kind::kFault) {
    auto fault = mm_->HandleFault(event, group_->limits().soft(kRlimitStack));
    if (fault.repaired) return;
    signo = fault.signo;
    code = fault.code;
  }
  signal::Info info(signo, code);
  info.fault.address = event.address;
  fault_trap_ = event.trap_number;
  fault_error_ = event.error_code;
  fault_cr2_ = event.kind == platform::Event::Kind::kFault ? event.address : 0;
  ForceSignal(info);
}

// Calls to the vsyscall page (gettimeofday, time, getcpu of old programs) fault under every
// platform: the page is not the guest's. Emulated as Linux does with vsyscall=emulate.
bool Task::EmulateVsyscall(const platform::Event& event) {
  if (regs_.rip < kVsyscallStart || regs_.rip >= kVsyscallEnd) return false;
  int number;
  switch (regs_.rip - kVsyscallStart) {
    case 0: number = 96; break;        // gettimeofday
    case 0x400: number = 201; break;   // time
    case 0x800: number = 309; break;   // getcpu
    default: return false;
  }
  Result<uint64_t> caller = Read<uint64_t>(GuestAddr(regs_.rsp));
  if (!caller.ok()) return false;
  regs_.orig_rax = number;
  regs_.rax = number;
  SyscallResult result = kernel_.dispatcher().Dispatch(*this, number);
  regs_.rax = result.ok() ? static_cast<uint64_t>(result.value())
                          : static_cast<uint64_t>(-static_cast<int64_t>(result.error()));
  regs_.rip = caller.value();
  regs_.rsp += 8;
  regs_.orig_rax = ~uint64_t{0};
  return true;
}

bool Task::HandlePendingWork() {
  memory_.Settle();  // It may stop or end here, while others go on with the memory it shares.
  if (kernel_.paused_.load(std::memory_order_acquire)) kernel_.WaitWhilePaused(*this);
  while (!exiting_) {
    StopIfRequested();
    if (exiting_ || IsKilled()) break;
    if (!DeliverOne()) break;
  }
  if (IsKilled() && !exiting_) {
    MutexLock lock(group_->signal_mu);
    exiting_ = true;
    exit_status_ = group_->group_exiting ? group_->group_exit_status : signal::kSIGKILL;
  }
  if (exiting_) return false;
  // No handler ran: the call is restarted, and a temporary mask ends.
  RestartSyscallIfNeeded(nullptr);
  RestoreMask();
  MutexLock lock(group_->signal_mu);
  RecalcInterruptLocked();
  return true;
}

}  // namespace caisson::kernel
