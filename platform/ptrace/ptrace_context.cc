#include "platform/ptrace/ptrace_context.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "platform/ptrace/fault_info.h"
#include "platform/stub/layout.h"
#include "platform/stub/xstate.h"

namespace caisson::platform::ptrace {
namespace {

constexpr uint64_t kNoSyscall = ~uint64_t{0};
constexpr uint64_t kUserCs = 0x33, kUserSs = 0x2b;
constexpr uint64_t kVsyscallPage = 0xffffffffff600000;
// Ignored by default, so harmless to a thread that is not traced yet; always a stop of one that is.
constexpr int kInterruptSignal = SIGCHLD;

// The trap's vector, from what siginfo tells.
uint64_t GuessTrapNumber(const SignalInfo& info) {
  switch (info.signo) {
    case SIGSEGV: return info.code == SI_KERNEL ? 13 : 14;
    case SIGBUS: return info.code == BUS_ADRALN ? 17 : 14;
    case SIGILL: return 6;
    case SIGFPE: return info.code == FPE_INTDIV ? 0 : 19;
    default: return info.code == SI_KERNEL ? 3 : 1;  // SIGTRAP: int3, else debug.
  }
}

}  // namespace

PtraceContext::PtraceContext(const Shared& shared) : shared_(shared), cpu_time_(shared.clock, shared.proc) {}

PtraceContext::~PtraceContext() { Detach(); }

Result<void> PtraceContext::Prepare(AddressSpace& space) {
  auto& stub_space = static_cast<stub::StubAddressSpace&>(space);
  pid_t tid = stub_space.stub().TakeReadyThread();
  if (tid <= 0) {
    Result<pid_t> made = stub_space.stub().CloneThread();
    if (!made.ok()) return Errno::kEAGAIN;
    tid = *made;
  }
  MutexLock lock(mu_);
  prepared_space_ = &stub_space;
  prepared_tid_ = tid;
  return OkResult();
}

Result<void> PtraceContext::Enter(stub::StubAddressSpace& space) {
  if (space_ != nullptr) {
    // To another address space without Detach(): the extended state goes along.
    std::vector<char> state(stub::HostXstate().size);
    const bool have_state = tid_ != 0 && GetFpState(absl::MakeSpan(state)).ok();
    Leave();
    if (have_state) pending_fp_ = std::move(state);
  }
  space_ = &space;
  pid_ = space.stub().pid();
  killed_ = false;
  pid_t tid = 0;
  {
    MutexLock lock(mu_);
    if (prepared_space_ == &space) tid = prepared_tid_;
    prepared_space_ = nullptr;
    prepared_tid_ = 0;
  }
  if (tid <= 0) tid = space.stub().TakeReadyThread();
  const bool fresh = tid <= 0;
  if (fresh) tid = TRY(space.stub().CloneThread());
  if (!Seize(tid)) return Errno::kEAGAIN;
  pair_.tracer = gettid();
  pair_.tracee = tid;
  pair_.worker = pid_;
  shared_.placement.Start(pair_, stub::CpuClock::Now());
  if (!ptrace::Interrupt(tid) || Wait(tid).ended()) return Errno::kEAGAIN;
  if (!ClearSignalMask(tid)) return Errno::kEAGAIN;
  tid_ = tid;
  must_write_ = true;
  {
    MutexLock lock(mu_);
    signal_tid_ = tid;
    signal_pid_ = pid_;
  }
  cpu_time_.Begin(pid_, tid);
  // What the thread has from one that it ran before does not count.
  std::vector<char> state = std::move(pending_fp_);
  pending_fp_.clear();
  if (state.empty()) {
    if (fresh) return OkResult();
    state.resize(stub::HostXstate().size);
    stub::InitialXstate(absl::MakeSpan(state));
  }
  return SetFpState(state);
}

// Ends the host thread, which is stopped or gone. The stub, and its other threads, live on.
void PtraceContext::Leave() {
  shared_.placement.Unpin(pair_);
  if (tid_ != 0) {
    ForgetHostThread();
    Registers regs = host_regs_;
    const bool know_registers = !must_write_ || GetRegisters(tid_, &regs);
    if (know_registers && ParkHostThread(regs)) {
      space_ = nullptr;
      killed_ = false;
      return;
    }
    regs.rip = shared_.exit_thread;
    regs.orig_rax = kNoSyscall;
    regs.eflags = 0x202;
    if (!know_registers || !SetRegisters(tid_, regs)) space_->stub().Kill();
    // A signal may come in between; a thread that does not end takes its stub along.
    for (int stops = 0;; ++stops) {
      if (stops == 100) space_->stub().Kill();
      Resume(tid_);
      if (Wait(tid_).ended()) break;
    }
    tid_ = 0;
  }
  space_ = nullptr;
  killed_ = false;
}

bool PtraceContext::ParkHostThread(const Registers& guest) {
  Registers regs = guest;
  regs.rip = shared_.park;
  regs.orig_rax = kNoSyscall;
  regs.eflags = 0x202;
  regs.cs = kUserCs;
  regs.ss = kUserSs;
  regs.fs_base = regs.gs_base = 0;
  stub::StubProcess& stub = space_->stub();
  if (!stub.WantsReadyThreads()) return false;
  if (!BlockSignals(tid_) || !SetRegisters(tid_, regs)) return false;
  must_write_ = true;
  if (!Release(tid_)) return false;
  stub.PutBackThread(tid_);
  tid_ = 0;
  return true;
}

// The thread ends with its stub: that is one end to wait for instead of two.
void PtraceContext::DetachLast(AddressSpace& space) {
  if (tid_ != 0 && space_ == &space) {
    shared_.placement.Unpin(pair_, /*ends=*/true);
    ForgetHostThread();
    space_->stub().Kill();
    while (!Wait(tid_).ended()) {
    }
    tid_ = 0;
  }
  Detach();
}

void PtraceContext::Detach() {
  {
    MutexLock lock(mu_);
    prepared_space_ = nullptr;
    prepared_tid_ = 0;
  }
  Leave();
  pending_fp_.clear();
}

void PtraceContext::Interrupt() {
  interrupt_.store(true);
  if (!running_.load()) return;
  MutexLock lock(mu_);
  if (signal_tid_ != 0) syscall(SYS_tgkill, signal_pid_, signal_tid_, kInterruptSignal);
}

bool PtraceContext::WriteRegisters(const Registers& regs) {
  if (!must_write_ && std::memcmp(&regs, &host_regs_, sizeof(regs)) == 0) return true;
  // No call is under way, so no signal can restart one.
  host_regs_ = regs;
  host_regs_.orig_rax = kNoSyscall;
  must_write_ = !SetRegisters(tid_, host_regs_);
  return !must_write_;
}

void PtraceContext::SetKilled(Event& event) {
  shared_.placement.Unpin(pair_);
  ForgetHostThread();
  tid_ = 0;
  killed_ = true;
  event.kind = Event::Kind::kKilled;
}

Event PtraceContext::Switch(AddressSpace& space, Registers& regs) {
  Event event;
  auto& stub_space = static_cast<stub::StubAddressSpace&>(space);
  if (space_ != &stub_space) {
    if (interrupt_.exchange(false)) return event;
    Result<void> entered = Enter(stub_space);
    if (!entered.ok()) {
      LOG_INFO("no host thread for a guest task: ", ErrnoName(entered.error()));
      killed_ = true;
    }
  }
  if (killed_) {
    event.kind = Event::Kind::kKilled;
    return event;
  }
  if (!WriteRegisters(regs)) {
    if (GetRegisters(tid_, &host_regs_)) {
      // What the CPU does with a frame that holds such a selector or base.
      event.kind = Event::Kind::kException;
      event.signo = SIGSEGV;
      event.code = SI_KERNEL;
      event.trap_number = 13;
      return event;
    }
    if (Wait(tid_).ended()) SetKilled(event);
    return event;
  }
  const uint64_t start = stub::CpuClock::Now();
  shared_.placement.OnSwitch(pair_, start);
  cpu_time_.Enter(start);
  running_.store(true);
  while (!interrupt_.load()) {
    if (RunOnce(regs, event)) break;
  }
  running_.store(false, std::memory_order_relaxed);
  if (event.kind == Event::Kind::kInterrupted) interrupt_.store(false);
  cpu_time_.Leave(stub::CpuClock::Now());
  return event;
}

bool PtraceContext::RunOnce(Registers& regs, Event& event) {
  // ESRCH: the thread has been killed; the wait says so.
  ResumeToSyscall(tid_);
  const Stop stop = Wait(tid_);
  if (stop.ended() || !GetRegisters(tid_, &host_regs_)) {
    if (!stop.ended()) static_cast<void>(Wait(tid_));
    SetKilled(event);
    return true;
  }
  regs = host_regs_;
  must_write_ = false;
  if (!stop.is_syscall()) return !stop.is_event() && HandleSignal(stop, regs, event);
  event.kind = Event::Kind::kSyscall;
  regs.rax = regs.orig_rax;
  must_write_ = true;  // Of the host's registers, orig_rax must not stay.
  // The `syscall` instruction leaves these; other ways in, and forgeries, are looked at closely.
  if (regs.rcx != regs.rip || regs.r11 != regs.eflags || regs.cs != kUserCs)
    event.compat32 = regs.cs != kUserCs || IsCompatSyscall(tid_);
  return true;
}

// A signal-delivery stop; the signal itself is never delivered.
bool PtraceContext::HandleSignal(const Stop& stop, Registers& regs, Event& event) {
  if (stop.signo() == kInterruptSignal) return false;  // Switch() looks at the flag.
  SignalInfo info;
  if (!GetSignalInfo(tid_, &info) || info.code <= 0) return false;
  switch (info.signo) {
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGTRAP:
      DescribeSignal(info, regs, event);
      return true;
    case SIGSYS:
      // The kernel has emulated a call of the vsyscall page, up to our filter: the return has been
      // done, the call has not.
      if (PageRoundDown(info.address) != kVsyscallPage) return false;
      event.kind = Event::Kind::kSyscall;
      regs.orig_rax = regs.rax = static_cast<uint64_t>(info.syscall);
      must_write_ = true;
      return true;
    default:
      return false;  // From an administrator of the host; not the guest's business.
  }
}

void PtraceContext::DescribeSignal(const SignalInfo& info, Registers& regs, Event& event) {
  const bool memory = (info.signo == SIGSEGV && info.code != SI_KERNEL) ||
                      (info.signo == SIGBUS && info.code != BUS_ADRALN);
  event.kind = memory ? Event::Kind::kFault : Event::Kind::kException;
  event.signo = info.signo;
  event.code = info.code;
  event.address = info.address;
  event.trap_number = GuessTrapNumber(info);
  if (info.signo != SIGSEGV && info.signo != SIGBUS) return;
  FaultInfo fault;
  {
    MutexLock lock(space_->stub().fault_mutex());
    fault = ReadFaultInfo(pid_, tid_, info.signo, regs, fp_buffer());
  }
  must_write_ = true;
  if (fault.killed) {
    SetKilled(event);
  } else if (fault.valid) {
    event.trap_number = fault.trap_number;
    event.error_code = fault.error_code;
    event.has_error_code = fault.trap_number == 14;
  }
  // Page-fault error code: bit 1 write, bit 4 instruction fetch (Intel SDM vol. 3, 4.7).
  if ((event.error_code & 0x10) != 0 || event.address == regs.rip) {
    event.access = Access::kExecute;
  } else if ((event.error_code & 2) != 0) {
    event.access = Access::kWrite;
  }
}

std::vector<char>& PtraceContext::fp_buffer() {
  fp_buffer_.resize(stub::HostXstate().host_size);
  return fp_buffer_;
}

Result<void> PtraceContext::GetFpState(absl::Span<char> out) {
  const stub::XstateInfo& info = stub::HostXstate();
  if (out.size() < info.size) return Errno::kEINVAL;
  if (tid_ == 0) {
    if (pending_fp_.empty()) {
      stub::InitialXstate(out);
    } else {
      std::copy(pending_fp_.begin(), pending_fp_.end(), out.begin());
    }
    return OkResult();
  }
  std::vector<char>& buffer = fp_buffer();
  const size_t size = GetXstate(tid_, absl::MakeSpan(buffer));
  if (size == 0) return Errno::kEIO;
  std::fill(out.begin(), out.end(), 0);
  std::memcpy(out.data(), buffer.data(), std::min(size, info.size));
  stub::SanitizeXstate(out);
  return OkResult();
}

Result<void> PtraceContext::SetFpState(absl::Span<const char> in) {
  if (!stub::XstateIsValid(in)) return Errno::kEINVAL;
  if (tid_ == 0) {
    pending_fp_.assign(in.begin(), in.end());
    return OkResult();
  }
  // The host wants its full size.
  std::vector<char>& buffer = fp_buffer();
  if (buffer.size() < in.size()) return Errno::kEIO;
  std::memcpy(buffer.data(), in.data(), in.size());
  std::fill(buffer.begin() + static_cast<ptrdiff_t>(in.size()), buffer.end(), 0);
  if (SetXstate(tid_, absl::MakeSpan(buffer))) return OkResult();
  // A host that uses less than the CPU has enabled.
  const size_t size = GetXstate(tid_, absl::MakeSpan(buffer));
  if (size < in.size()) return Errno::kEIO;
  std::memcpy(buffer.data(), in.data(), in.size());
  std::fill(buffer.begin() + static_cast<ptrdiff_t>(in.size()), buffer.end(), 0);
  return SetXstate(tid_, absl::MakeSpan(buffer).first(size)) ? OkResult()
                                                             : Result<void>(Errno::kEINVAL);
}

void PtraceContext::ResetFpState() {
  pending_fp_.clear();
  if (tid_ == 0) return;
  std::vector<char> state(stub::HostXstate().size);
  stub::InitialXstate(absl::MakeSpan(state));
  Result<void> set = SetFpState(state);
  if (!set.ok()) LOG_DEBUG("the extended state of a thread that is gone was not reset");
}

// The host thread is about to end, or has.
void PtraceContext::ForgetHostThread() {
  cpu_time_.End();
  MutexLock lock(mu_);
  signal_tid_ = 0;
}

}  // namespace caisson::platform::ptrace
