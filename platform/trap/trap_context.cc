#include "platform/trap/trap_context.h"

#include <linux/audit.h>
#include <signal.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "platform/stub/layout.h"
#include "platform/stub/xstate.h"
#include "platform/trap/patch_scan.h"

namespace caisson::platform::trap {
namespace {

using Stop = HostThread::Stop;

constexpr uint64_t kVsyscallPage = 0xffffffffff600000;
constexpr int kSysSeccomp = 1;
constexpr uint64_t kTrapFlag = 0x100;  // Who single-steps would step through our code.

bool IsCanonicalUser(uint64_t address) { return address < stub::kReservedEnd; }

// What a return to user mode would refuse, if the host let it come so far.
bool CpuAccepts(const Registers& regs) {
  auto selector_ok = [](uint64_t s) { return (s & 3) == 3; };
  return selector_ok(regs.cs) && selector_ok(regs.ss) && IsCanonicalUser(regs.fs_base) &&
         IsCanonicalUser(regs.gs_base);
}

// The registers that a notification does not tell.
constexpr uint64_t Registers::* kUnknown[] = {
    &Registers::rbx, &Registers::rbp, &Registers::rsp, &Registers::r12,     &Registers::r13,
    &Registers::r14, &Registers::r15, &Registers::cs,  &Registers::fs_base, &Registers::gs_base,
    &Registers::ss,  &Registers::eflags,
};
// Those that it tells and that its answer cannot change.
constexpr uint64_t Registers::* kTold[] = {
    &Registers::rip, &Registers::rdi, &Registers::rsi, &Registers::rdx,
    &Registers::r10, &Registers::r8,  &Registers::r9,
};

// Those that a call of a patched site does not tell, nor its answer change.
constexpr uint64_t Registers::* kUnknownInCall[] = {
    &Registers::cs, &Registers::ss, &Registers::fs_base, &Registers::gs_base,
};

template <size_t n>
bool Same(const Registers& a, const Registers& b, uint64_t Registers::* const (&fields)[n]) {
  for (auto field : fields) {
    if (a.*field != b.*field) return false;
  }
  return true;
}

template <size_t n>
void Merge(Registers& regs, const Registers& shown, const Registers& frame,
           uint64_t Registers::* const (&fields)[n]) {
  for (auto field : fields) {
    if (regs.*field == shown.*field) regs.*field = frame.*field;
  }
}

// Of this thread: the one whose event it handles. Contexts are used by one thread each.
thread_local TrapContext* t_stopped = nullptr;

}  // namespace

TrapContext::TrapContext(const Shared& shared)
    : shared_(shared), spinner_(shared.spin_group), cpu_time_(shared.clock, shared.proc) {}

TrapContext::~TrapContext() { Detach(); }

void TrapContext::DropPrepared() {
  MutexLock lock(mu_);
  if (prepared_thread_ != nullptr) prepared_space_->ParkThread(std::move(prepared_thread_));
  prepared_space_ = nullptr;
}

Result<void> TrapContext::Prepare(AddressSpace& space) {
  auto& trap_space = static_cast<TrapAddressSpace&>(space);
  Result<std::unique_ptr<HostThread>> thread = trap_space.TakeThread();
  if (!thread.ok()) return Errno::kEAGAIN;
  MutexLock lock(mu_);
  prepared_space_ = &trap_space;
  prepared_thread_ = std::move(thread).value();
  return OkResult();
}

Result<void> TrapContext::Enter(TrapAddressSpace& space) {
  if (space_ != nullptr) {
    // To another address space without Detach(): the extended state goes along.
    std::vector<char> state(stub::HostXstate().size);
    const bool have_state = thread_ != nullptr && GetFpState(absl::MakeSpan(state)).ok();
    Leave();
    if (have_state) pending_fp_ = std::move(state);
  }
  space_ = &space;
  killed_ = false;
  {
    MutexLock lock(mu_);
    if (prepared_space_ == &space) {
      thread_ = std::move(prepared_thread_);
      prepared_space_ = nullptr;
    }
  }
  if (thread_ == nullptr) thread_ = TRY(space.TakeThread());
  TakeHostThread();
  // Whatever it ran before: all its registers are set now.
  if (thread_->BringToTrap() != Stop::kTrap) return Errno::kEAGAIN;
  full_ = true;
  std::vector<char> state = std::move(pending_fp_);
  pending_fp_.clear();
  if (state.empty()) {
    state.resize(stub::HostXstate().size);
    stub::InitialXstate(absl::MakeSpan(state));
  }
  if (!thread_->WriteFpState(state)) return Errno::kEAGAIN;
  return OkResult();
}

// The thread is stopped or gone. The stub, and its other threads, live on.
void TrapContext::Leave() {
  FlushCounts();
  if (thread_ != nullptr) {
    spinner_.Leave();
    ForgetHostThread();
    // A dead one's listener closes here.
    if (thread_->at() == Stop::kDead) {
      thread_.reset();
    } else {
      space_->ParkThread(std::move(thread_));
    }
  }
  space_ = nullptr;
  killed_ = false;
  full_ = true;
  copies_.Forget();
  copy_failed_ = false;
  fp_.clear();
  fp_handed_.clear();
  fp_changed_ = false;
}

TrapContext* TrapContext::stopped() { return t_stopped; }

// By the kernel's word: a notification of the guest's own, not answered yet, which no interrupt can withdraw.
bool TrapContext::IsHeld() const {
  return thread_ != nullptr && thread_->at() == Stop::kNotification &&
         !signalled_.load(std::memory_order_relaxed) && space_->HadOneThread();
}

// It ends while its thread's listener is closed here, and whatever else the caller has to do.
void TrapContext::DetachLast(AddressSpace& space) {
  if (space_ == &space) {
    space_->stub().Kill();
    if (thread_ != nullptr) {
      spinner_.Leave();
      ForgetHostThread();
      thread_.reset();
    }
  }
  Detach();
}

void TrapContext::Detach() {
  if (t_stopped == this) t_stopped = nullptr;
  DropPrepared();
  Leave();
  pending_fp_.clear();
}

void TrapContext::Interrupt() {
  interrupt_.store(true);
  if (!running_.load()) return;
  SignalThread();
}

void TrapContext::SignalThread() {
  MutexLock lock(mu_);
  // StopRunning() clears the flag before it takes the lock.
  if (signal_thread_ == nullptr || !running_.load()) return;
  signal_thread_->Signal();
  signalled_.store(true, std::memory_order_relaxed);
  watched_ = true;
  shared_.watchdog.Add(this, signal_thread_->pid());
}

void TrapContext::StopRunning() {
  running_.store(false);
  MutexLock lock(mu_);
  if (std::exchange(watched_, false)) shared_.watchdog.Remove(this);
}

void TrapContext::SetKilled(Event& event) {
  spinner_.Leave();
  ForgetHostThread();
  thread_.reset();
  killed_ = true;
  full_ = true;
  event.kind = Event::Kind::kKilled;
}

Event TrapContext::Switch(AddressSpace& space, Registers& regs) {
  Event event;
  unseen_ = 0;
  // Before anything is answered: a signal that meets an answer could undo it (README.md).
  if (interrupt_.exchange(false)) return event;
  auto& trap_space = static_cast<TrapAddressSpace&>(space);
  if (space_ != &trap_space) {
    Result<void> entered = Enter(trap_space);
    if (!entered.ok()) {
      LOG_INFO("no host thread for a guest task: ", ErrnoName(entered.error()));
      killed_ = true;
    }
  }
  if (killed_) {
    event.kind = Event::Kind::kKilled;
    return event;
  }
  if (!CpuAccepts(regs)) {
    event.kind = Event::Kind::kException;
    event.signo = SIGSEGV;
    event.code = SI_KERNEL;
    event.trap_number = 13;
    return event;
  }
  const uint64_t start = stub::CpuClock::Now();
  cpu_time_.Enter(start);
  if (!Run(regs)) {
    SetKilled(event);
    return event;
  }
  running_.store(true);
  if (interrupt_.load()) SignalThread();
  spinner_.OnRun();
  Stop stop;
  for (;;) {
    stop = thread_->Wait();
    if (stop == Stop::kSlow) {
      spinner_.Leave();
      continue;
    }
    if (HandleStop(stop, regs, event)) break;
  }
  StopRunning();
  t_stopped = this;
  const uint64_t now = stub::CpuClock::Now();
  cpu_time_.Leave(now);
  if (thread_ != nullptr) {
    Count(stop);
    // A trap is handed over by the slot too, whatever made it.
    spinner_.OnStop(*thread_, stop == Stop::kCall ||
                    (stop == Stop::kTrap && event.kind != Event::Kind::kInterrupted), start, now);
  } else {
    spinner_.OnGone();
  }
  return event;
}

void TrapContext::Count(Stop stop) {
  constexpr uint64_t kOften = 4096;
  const uint64_t n = stop == Stop::kNotification ? ++counts_.notifications
                     : stop != Stop::kCall       ? ++counts_.traps
                     : thread_->awake()          ? ++counts_.spins
                                                 : ++counts_.bells;
  if (n == kOften) FlushCounts();
}

void TrapContext::FlushCounts() {
  shared_.notifications.fetch_add(std::exchange(counts_.notifications, 0), std::memory_order_relaxed);
  shared_.traps.fetch_add(std::exchange(counts_.traps, 0), std::memory_order_relaxed);
  shared_.spins.fetch_add(std::exchange(counts_.spins, 0), std::memory_order_relaxed);
  shared_.bells.fetch_add(std::exchange(counts_.bells, 0), std::memory_order_relaxed);
  shared_.host_calls.fetch_add(std::exchange(counts_.host_calls, 0), std::memory_order_relaxed);
  shared_.bulk_copies.fetch_add(std::exchange(counts_.bulk_copies, 0), std::memory_order_relaxed);
  if (thread_ != nullptr) shared_.in_stub.fetch_add(thread_->TakeAnswered(), std::memory_order_relaxed);
}

bool TrapContext::Run(Registers& regs) {
  const bool by_call = thread_->at() == Stop::kCall && Same(regs, shown_, kUnknownInCall) &&
                       IsCanonicalUser(regs.rip) && (regs.eflags & kTrapFlag) == 0;
  if (!by_call || fp_changed_ || regs.rip != shown_.rip || !HostThread::IsAfterCall(regs))
    FlushCopies(*space_);
  if (std::exchange(copy_failed_, false) && regs.rip == shown_.rip) regs.rax = kCopyFailed;
  // An interrupt that was sent before the call, and that has not been seen, may withdraw it at any moment:
  // the host says of an answer that meets it "sent", and makes the call again. So it comes first. (In the
  // trampoline it may have come unseen; then it comes twice.)
  if (thread_->at() == Stop::kNotification && !signalled_.load(std::memory_order_relaxed)) {
    if (Same(regs, shown_, kTold) && Same(regs, shown_, kUnknown) && AnswerNotification(regs))
      return true;
  } else if (by_call) {
    copies_.Publish(thread_->slot());
    if (fp_changed_) {
      thread_->LoadFpState(fp_);
      fp_handed_ = std::move(fp_);
    }
    fp_.clear();
    fp_changed_ = false;
    thread_->AnswerCall(regs);
    return true;
  }
  if (!BringToTrap()) return false;
  if (fp_changed_ && !thread_->WriteFpState(fp_)) return false;
  fp_.clear();
  fp_changed_ = false;
  Complete(regs);
  thread_->WriteRegisters(regs);
  thread_->Resume();
  return true;
}

// False if the thread has gone to a trap, or is gone.
bool TrapContext::AnswerNotification(Registers& regs) {
  const HostThread::Notification call = thread_->notification();
  while (!thread_->Answer(regs.rax)) {
    // Withdrawn by a stop or freezer of the host, or a late signal. Made again it is the same call,
    // with the result that we have (docs/platform.md 1).
    if (thread_->Wait() != Stop::kNotification) return false;
    if (thread_->SameCall(call)) continue;
    LOG_WARNING("stub ", thread_->pid(), ": another call instead of the one withdrawn");
    thread_->stub().Kill();
  }
  return true;
}

bool TrapContext::BringToTrap() {
  if (thread_->BringToTrap() != Stop::kTrap) return false;
  if (thread_->signal_info().signo == kInterruptSignal) signalled_.store(false, std::memory_order_relaxed);
  return true;
}

// At a trap that took the place of a notification: `regs` gets what that did not tell.
void TrapContext::Complete(Registers& regs) {
  if (full_) return;
  full_ = true;
  const Registers frame = thread_->ReadRegisters();
  if (in_call_) {
    Merge(regs, shown_, frame, kUnknownInCall);
    return;
  }
  Merge(regs, shown_, frame, kUnknown);
  // The return from the vsyscall page has been done.
  if (vsyscall_ && regs.rip == shown_.rip) regs.rip = frame.rip;
  regs.rcx = regs.rip;
  regs.r11 = regs.eflags;
}

void TrapContext::FullRegisters(Registers& regs) {
  if (full_ || thread_ == nullptr) return;
  // If it is gone, Switch() will say so.
  if (BringToTrap()) Complete(regs);
}

void TrapContext::GeneralRegisters(Registers& regs) {
  // A call tells all of them.
  if (thread_ == nullptr || thread_->at() != Stop::kCall) FullRegisters(regs);
}

bool TrapContext::HandleStop(Stop stop, Registers& regs, Event& event) {
  switch (stop) {
    case Stop::kSlow:
      return false;
    case Stop::kDead:
      SetKilled(event);
      return true;
    case Stop::kTrap:
      return HandleTrap(regs, event);
    case Stop::kCall: {
      event.kind = Event::Kind::kSyscall;
      fp_handed_.clear();
      const Registers before = regs;
      regs = thread_->call_registers();
      for (auto field : {&Registers::fs_base, &Registers::gs_base}) regs.*field = before.*field;
      copies_.TakeCall(thread_->slot(), regs, [this](uint64_t from, absl::Span<char> bytes) {
        space_->patches().Overlay(from, bytes);
      });
      shown_ = regs;
      full_ = false;
      in_call_ = true;
      return true;
    }
    case Stop::kNotification:
      break;
  }
  in_call_ = false;
  copies_.Forget();
  fp_handed_.clear();
  const HostThread::Notification& call = thread_->notification();
  event.kind = Event::Kind::kSyscall;
  event.compat32 = call.arch != AUDIT_ARCH_X86_64;
  regs.orig_rax = regs.rax = static_cast<uint32_t>(call.number);
  regs.rdi = call.args[0];
  regs.rsi = call.args[1];
  regs.rdx = call.args[2];
  regs.r10 = call.args[3];
  regs.r8 = call.args[4];
  regs.r9 = call.args[5];
  regs.rip = regs.rcx = space_->patches().BehindSite(call.ip);
  regs.r11 = regs.eflags;
  vsyscall_ = PageRoundDown(call.ip) == kVsyscallPage;
  if (!event.compat32 && !vsyscall_ && regs.rip == call.ip)
    space_->patches().OnTrap(call.ip, call.number);
  shown_ = regs;
  full_ = false;
  return true;
}

bool TrapContext::HandleTrap(Registers& regs, Event& event) {
  const HostThread::SignalInfo& info = thread_->signal_info();
  const bool of_cpu = info.code > 0;
  if (!of_cpu && info.signo == kInterruptSignal) signalled_.store(false, std::memory_order_relaxed);
  // Others' are from us, or from an administrator of the host.
  const bool asked_for =
      !of_cpu && info.signo == kInterruptSignal && interrupt_.exchange(false);
  if (!of_cpu && !asked_for && GoesOn()) {
    if (thread_->interrupted_state() == kCall) {
      // We have not seen that call: kGuest would be an answer to it.
      Registers here = thread_->ReadRegisters();
      uint64_t escape;
      LeaveTrampoline(here, &escape);
      thread_->WriteRegisters(here);
    }
    thread_->Resume();
    return false;
  }
  const bool memory = of_cpu && (info.signo == SIGSEGV || info.signo == SIGBUS);
  if (memory && HandleCopyFault()) return false;
  regs = thread_->ReadRegisters();
  full_ = true;
  uint64_t escape;
  const bool in_trampoline = LeaveTrampoline(regs, &escape);
  copies_.Forget();
  fp_handed_.clear();
  if (!of_cpu) return true;
  // Where the site's own `syscall` has been replaced, who single-steps would come here for ever.
  const bool to_escape = in_trampoline && escape != 0 && info.signo == SIGTRAP;
  if (in_trampoline && memory) {
    // The gs base is the guest's own: no trampoline finds a slot by it.
    LOG_DEBUG("stub ", thread_->pid(), ": the guest uses gs");
    space_->patches().Disable();
  }
  if ((to_escape || (in_trampoline && memory)) && GoesOn()) {
    if (escape != 0) regs.rip = escape;
    thread_->WriteRegisters(regs);
    thread_->Resume();
    return false;
  }
  switch (info.signo) {
    case SIGSYS:
      if (info.code != kSysSeccomp) break;
      event.kind = Event::Kind::kSyscall;
      event.compat32 = info.arch != AUDIT_ARCH_X86_64;
      // Not from the frame: a number from -512 to -516 looks to the host like a call to restart.
      regs.orig_rax = regs.rax = info.syscall;
      if (PageRoundDown(info.address) != kVsyscallPage)
        regs.rip = space_->patches().BehindSite(info.address);
      if (!event.compat32 && IsPatchableCall(info.syscall) && regs.rip == info.address)
        space_->patches().OnTrap(regs.rip, info.syscall);
      return true;
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGTRAP:
      DescribeSignal(regs, event);
      return true;
    default:
      break;
  }
  if (!GoesOn()) return true;
  thread_->Resume();
  return false;
}

void TrapContext::DescribeSignal(const Registers& regs, Event& event) {
  const HostThread::SignalInfo& info = thread_->signal_info();
  const bool memory = (info.signo == SIGSEGV && info.code != SI_KERNEL) ||
                      (info.signo == SIGBUS && info.code != BUS_ADRALN);
  event.kind = memory ? Event::Kind::kFault : Event::Kind::kException;
  event.signo = info.signo;
  event.code = info.code;
  event.address = info.address;
  event.trap_number = info.trap_number & 0x1f;
  event.error_code = info.error_code & 0xffff;
  event.has_error_code = event.trap_number == 14;
  // Page-fault error code: bit 1 write, bit 4 instruction fetch (Intel SDM vol. 3, 4.7).
  if ((event.error_code & 0x10) != 0 || event.address == regs.rip) {
    event.access = Access::kExecute;
  } else if ((event.error_code & 2) != 0) {
    event.access = Access::kWrite;
  }
}

}  // namespace caisson::platform::trap
