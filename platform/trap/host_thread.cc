#include "platform/trap/host_thread.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "platform/stub/xstate.h"

namespace caisson::platform::trap {

const int kInterruptSignal = SIGUSR1;

namespace {

constexpr uint64_t Bit(int signo) { return uint64_t{1} << (signo - 1); }

}  // namespace

const uint64_t kGuestSignalMask = ~(Bit(SIGSEGV) | Bit(SIGBUS) | Bit(SIGFPE) | Bit(SIGILL) |
                                    Bit(SIGTRAP) | Bit(SIGSYS) | Bit(SIGUSR1));

namespace {

// struct ucontext and struct sigcontext_64 (Linux arch/x86/include/uapi/asm/sigcontext.h).
constexpr size_t kUcStack = 16, kUcRegisters = 40, kUcFpState = kUcRegisters + 23 * 8,
                 kUcSignalMask = 296, kUcSize = 304, kSiginfoSize = 128;
enum GeneralRegister {
  kR8, kR9, kR10, kR11, kR12, kR13, kR14, kR15, kRdi, kRsi, kRbp, kRbx, kRdx, kRax, kRcx, kRsp,
  kRip, kEflags, kSelectors, kErr, kTrapNumber, kOldMask, kCr2, kGeneralRegisters,
};
constexpr size_t kFpTrailer = 464, kFpHeader = 512;  // In the XSAVE area: the software's bytes.
constexpr uint64_t kAutodisarm = 1u << 31;           // SS_AUTODISARM.

uint32_t LoadAcquire(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

template <typename T>
T Get(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
template <typename T>
void Put(char* to, T value) {
  std::memcpy(to, &value, sizeof(value));
}

// Until the new thread has put its listener there. The guest can change it: any descriptor of the stub's
// is checked below.
Result<int> AwaitListener(const stub::StubProcess& stub, Slot* slot) {
  auto* word = reinterpret_cast<uint32_t*>(&slot->listener);
  for (int round = 0; round < HostThread::kRounds; ++round) {
    const auto value = static_cast<int32_t>(LoadAcquire(word));
    if (value < 0) return Errno::kEAGAIN;
    if (value > 0) return value - 1;
    const timespec timeout{0, HostThread::kRoundMs * 1'000'000L};
    syscall(SYS_futex, word, FUTEX_WAIT, 0, &timeout, nullptr, 0);
    if (stub.HasEnded()) return Errno::kEIO;
  }
  return Errno::kEIO;
}

}  // namespace

HostThread::HostThread(stub::StubProcess& stub, const ThreadEnvironment& environment, size_t slot,
                       pid_t tid)
    : stub_(stub), environment_(environment), tid_(tid), slot_address_(SlotAddress(slot)),
      slot_memory_(static_cast<char*>(stub.slots().thread_slot(slot))),
      slot_(reinterpret_cast<Slot*>(slot_memory_)),
      page_(static_cast<ThreadPage*>(stub.slots().thread_page(slot))),
      counted_answers_(slot_->answered) {}

Result<std::unique_ptr<HostThread>> HostThread::Start(stub::StubProcess& stub, size_t index,
                                                      const ThreadEnvironment& environment) {
  auto* slot = static_cast<Slot*>(stub.slots().thread_slot(index));
  slot->listener = 0;
  slot->state = kGuest;
  InitSlot(slot, index);
  InitThreadPage(stub.slots(), index);
  stub::StubProcess::ThreadStart start;
  start.r9 = SlotAddress(index);
  start.r8 = ThreadPageAddress(index);
  start.started = [&]() -> Result<int> {
    const int fd = TRY(AwaitListener(stub, slot));
    return environment.notify ? fd : -1;
  };
  const pid_t tid = TRY(stub.CloneThread(&start));
  std::unique_ptr<HostThread> thread(new HostThread(stub, environment, index, tid));
  thread->listener_ = std::move(start.made);
  if (!thread->Adopt()) return Errno::kEIO;
  return thread;
}

std::unique_ptr<HostThread> HostThread::TakeReady(stub::StubProcess& stub,
                                                  const ThreadEnvironment& environment) {
  const pid_t tid = stub.TakeReadyThread();
  if (tid <= 0) return nullptr;
  Result<int> fd = AwaitListener(stub, static_cast<Slot*>(stub.slots().thread_slot(0)));
  std::unique_ptr<HostThread> thread(new HostThread(stub, environment, 0, tid));
  if (!fd.ok()) return nullptr;
  if (environment.notify) {
    Result<UniqueFd> listener = stub.TakeDescriptor(*fd);
    if (!listener.ok()) return nullptr;
    thread->listener_ = std::move(listener).value();
  }
  if (!thread->Adopt()) return nullptr;
  return thread;
}

bool HostThread::Adopt() {
  if (!environment_.notify) return true;
  // Also the proof that it is a listener and not some other descriptor.
  constexpr unsigned long kSetFlags = _IOW('!', 4, uint64_t);  // SECCOMP_IOCTL_NOTIF_SET_FLAGS
  constexpr uint64_t kSyncWakeUp = 1;
  if (ioctl(listener_.get(), kSetFlags, kSyncWakeUp) == 0) return true;
  Broken("no listener");
  return false;
}

void InitThreadPage(const stub::Slots& slots, size_t index) {
  auto* page = static_cast<ThreadPage*>(slots.thread_page(index));
  page->stack_address = SlotAddress(index) + kStackOffset;
  page->stack_flags = kAutodisarm;
  page->stack_size = kStackSize;
  page->signal_mask = kGuestSignalMask;
  page->answers = 0;
  page->waiters = stub::kWaitersAddr;
}

HostThread::Stop HostThread::Broken(const char* why) {
  if (!stub_.dead()) LOG_WARNING("stub ", stub_.pid(), ", thread ", tid_, ": ", why);
  stub_.Kill();
  return Dead();
}

HostThread::Stop HostThread::Dead() { return at_ = Stop::kDead; }

void HostThread::Signal() { syscall(SYS_tgkill, stub_.pid(), tid_, kInterruptSignal); }

void HostThread::SetAnswers(const Context::Answers* a) {
  if (a != nullptr) {
    page_->pid = a->pid, page_->tid = a->tid;
    page_->uid = a->uid, page_->euid = a->euid;
    page_->gid = a->gid, page_->egid = a->egid;
  }
  __atomic_store_n(&page_->answers, a != nullptr ? 1 : 0, __ATOMIC_SEQ_CST);
}

// The part of the slot's stack at `address` in the stub; null if it is not wholly in it.
char* HostThread::InStack(uint64_t address, size_t size) const {
  const uint64_t start = slot_address_ + kStackOffset;
  if (address < start || address - start > kStackSize || size > kStackSize - (address - start))
    return nullptr;
  return slot_memory_ + (address - slot_address_);
}

HostThread::Stop HostThread::TakeTrap() {
  const auto* slot = static_cast<const volatile Slot*>(slot_);
  context_ = InStack(slot->ucontext, kUcSize);
  const char* info = InStack(slot->siginfo, kSiginfoSize);
  if (context_ == nullptr || info == nullptr) return Broken("a frame outside its stack");
  info_.signo = Get<int32_t>(info);
  info_.code = Get<int32_t>(info + 8);
  info_.address = Get<uint64_t>(info + 16);
  info_.syscall = Get<uint32_t>(info + 24);
  info_.arch = Get<uint32_t>(info + 28);
  const char* registers = context_ + kUcRegisters;
  info_.error_code = Get<uint64_t>(registers + 8 * kErr);
  info_.trap_number = Get<uint64_t>(registers + 8 * kTrapNumber);
  interrupted_state_ = slot->interrupted_state & kTurnMask;
  at_ = Stop::kTrap;
  if (starting_) {
    starting_ = false;
    const char* fp = FpArea();
    if (fp != nullptr) {
      std::memcpy(fp_trailer_, fp + kFpTrailer, sizeof(fp_trailer_));
      have_trailer_ = true;
    }
  }
  return at_;
}

HostThread::Stop HostThread::TakeCall() {
  ReloadCall();
  fp_saved_ = SavesExtendedState(static_cast<uint32_t>(call_.rax));
  return at_ = Stop::kCall;
}

void HostThread::ReloadCall() {
  std::memcpy(&call_, const_cast<const CallRegisters*>(&slot_->registers), sizeof(call_));
  asm volatile("" : : : "memory");  // What follows uses the copy.
}

Registers HostThread::call_registers() const {
  Registers r{};
  r.rax = r.orig_rax = static_cast<uint32_t>(call_.rax);
  r.rdi = call_.rdi, r.rsi = call_.rsi, r.rdx = call_.rdx;
  r.r10 = call_.r10, r.r8 = call_.r8, r.r9 = call_.r9;
  r.rbx = call_.rbx, r.rbp = call_.rbp, r.rsp = call_.rsp;
  r.r12 = call_.r12, r.r13 = call_.r13, r.r14 = call_.r14, r.r15 = call_.r15;
  r.rip = r.rcx = call_.rip;
  r.eflags = r.r11 = call_.rflags;
  r.cs = 0x33;
  r.ss = 0x2b;
  return r;
}

void HostThread::AnswerCall(const Registers& r) {
  CallRegisters& to = slot_->registers;
  to.rax = r.rax, to.rdi = r.rdi, to.rsi = r.rsi, to.rdx = r.rdx;
  to.r10 = r.r10, to.r8 = r.r8, to.r9 = r.r9, to.rip = r.rip;
  to.rbx = r.rbx, to.rbp = r.rbp, to.rsp = r.rsp;
  to.r12 = r.r12, to.r13 = r.r13, to.r14 = r.r14, to.r15 = r.r15;
  to.rflags = r.eflags;
  answered_all_ = !IsAfterCall(r);
  if (answered_all_) {
    slot_->rcx = answered_rcx_ = r.rcx;
    slot_->r11 = answered_r11_ = r.r11;
    copies_ |= kAllRegisters;
  }
  if (copies_ != 0) slot_->copies = std::exchange(copies_, 0);
  Resume();
}

void HostThread::AddAnswered(Registers& regs) const {
  if (!answered_all_) return;
  regs.rcx = answered_rcx_;
  regs.r11 = answered_r11_;
}

// The guest can write it: more than a thread could do is nothing.
uint64_t HostThread::TakeAnswered() {
  constexpr uint64_t kPlausible = uint64_t{1} << 40;
  const uint64_t now = *static_cast<const volatile uint64_t*>(&slot_->answered);
  const uint64_t more = now - std::exchange(counted_answers_, now);
  return more < kPlausible ? more : 0;
}

bool HostThread::SaveFpState(absl::Span<char> out) {
  static_assert(kCopyOffset % 64 == 0);
  const size_t size = stub::HostXstate().size;
  if (stub::HostXstate().features == 0 || size > kCopySize) return false;
  if (!std::exchange(fp_saved_, false)) {
    slot_->copies = kSaveFp;
    Resume();
    if (WaitShortly() != Stop::kCall) return false;
    slot_->copies = 0;
  }
  // What XSAVE leaves as it is: copies may have been there, and the guest may have written there too. Nothing
  // of the header but the components that are in use.
  std::memset(out.data(), 0, size);
  stub::CopyXstate(out, {slot_memory_ + kCopyOffset, size});
  std::memset(out.data() + kFpTrailer, 0, kFpHeader - kFpTrailer);
  std::memset(out.data() + kFpHeader + 8, 0, 56);
  stub::SanitizeXstate(out);
  return true;
}

void HostThread::LoadFpState(absl::Span<const char> in) {
  stub::CopyXstate({slot_memory_ + kCopyOffset, kCopySize}, in);
  copies_ = kLoadFp;
}

HostThread::Stop HostThread::BringToTrap() {
  if (at_ == Stop::kTrap) return at_;
  if (starting_) return WaitFor(kRounds);
  if (at_ == Stop::kDead) return at_;
  // A late interrupt has brought it there already, and host calls may have taken its doorbell.
  if (at_ == Stop::kCall && (LoadAcquire(&slot_->state) & kTurnMask) == kTrap) return TakeTrap();
  const Notification call = notification_;
  Signal();
  constexpr int kAwake = 10'000;
  for (int again = 0;; ++again) {
    const Stop stop = WaitFor(kRounds);
    if (stop == Stop::kCall) {
      // It rings again; or there are no bells, and it has not got the signal yet. It may have blocked that.
      if (again == kAwake + kRounds * kRoundMs) return Broken("does not react to a signal");
      const timespec timeout{0, again < kAwake ? 0 : 1'000'000};
      uint32_t never = 0;
      if (!environment_.notify) syscall(SYS_futex, &never, FUTEX_WAIT, 0, &timeout, nullptr, 0);
      continue;
    }
    if (stop != Stop::kNotification) return stop;
    // Made again after a stop of the host's; the signal is still to come.
    if (!SameCall(call)) return Broken("a call instead of a signal");
  }
}

bool HostThread::SameCall(const Notification& o) const {
  const Notification& n = notification_;
  return n.ip == o.ip && n.number == o.number && n.arch == o.arch &&
         std::equal(std::begin(n.args), std::end(n.args), std::begin(o.args));
}

Registers HostThread::ReadRegisters() const {
  uint64_t g[kGeneralRegisters];
  std::memcpy(g, context_ + kUcRegisters, sizeof(g));
  const auto* slot = static_cast<const volatile Slot*>(slot_);
  Registers r{};
  r.r8 = g[kR8], r.r9 = g[kR9], r.r10 = g[kR10], r.r11 = g[kR11];
  r.r12 = g[kR12], r.r13 = g[kR13], r.r14 = g[kR14], r.r15 = g[kR15];
  r.rdi = g[kRdi], r.rsi = g[kRsi], r.rbp = g[kRbp], r.rbx = g[kRbx];
  r.rdx = g[kRdx], r.rax = g[kRax], r.rcx = g[kRcx], r.rsp = g[kRsp];
  r.rip = g[kRip], r.eflags = g[kEflags];
  r.orig_rax = ~uint64_t{0};
  r.cs = g[kSelectors] & 0xffff;
  r.ss = g[kSelectors] >> 48;
  r.fs_base = slot->fs_base;
  r.gs_base = slot->gs_base;
  if (r.gs_base == slot_address_) r.gs_base = 0;
  return r;
}

void HostThread::WriteRegisters(const Registers& r) {
  uint64_t g[kSelectors + 1];
  g[kR8] = r.r8, g[kR9] = r.r9, g[kR10] = r.r10, g[kR11] = r.r11;
  g[kR12] = r.r12, g[kR13] = r.r13, g[kR14] = r.r14, g[kR15] = r.r15;
  g[kRdi] = r.rdi, g[kRsi] = r.rsi, g[kRbp] = r.rbp, g[kRbx] = r.rbx;
  g[kRdx] = r.rdx, g[kRax] = r.rax, g[kRcx] = r.rcx, g[kRsp] = r.rsp;
  g[kRip] = r.rip, g[kEflags] = r.eflags;
  g[kSelectors] = (r.cs & 0xffff) | r.ss << 48;
  std::memcpy(context_ + kUcRegisters, g, sizeof(g));
  // These decide where the next frame goes and what can interrupt the thread.
  Put<uint64_t>(context_ + kUcStack, slot_address_ + kStackOffset);
  Put<uint32_t>(context_ + kUcStack + 8, static_cast<uint32_t>(kAutodisarm));
  Put<uint64_t>(context_ + kUcStack + 16, kStackSize);
  Put<uint64_t>(context_ + kUcSignalMask, kGuestSignalMask);
  slot_->fs_base = r.fs_base;
  slot_->gs_base = r.gs_base == 0 ? slot_address_ : r.gs_base;
}

char* HostThread::FpArea() const {
  const auto address = Get<uint64_t>(context_ + kUcFpState);
  return address % 64 != 0 ? nullptr : InStack(address, stub::HostXstate().size);
}

bool HostThread::ReadFpState(absl::Span<char> out) const {
  const char* area = FpArea();
  if (area == nullptr) return false;
  std::memcpy(out.data(), area, stub::HostXstate().size);
  stub::SanitizeXstate(out);
  return true;
}

bool HostThread::WriteFpState(absl::Span<const char> in) {
  char* area = FpArea();
  if (area == nullptr || !have_trailer_) return false;
  std::memcpy(area, in.data(), kFpTrailer);
  std::memcpy(area + kFpTrailer, fp_trailer_, sizeof(fp_trailer_));
  std::memcpy(area + kFpHeader, in.data() + kFpHeader, in.size() - kFpHeader);
  return true;
}

}  // namespace caisson::platform::trap
