// ptrace(2): what a tracer asks of its tracee (Linux kernel/ptrace.c, ptrace_request();
// arch/x86/kernel/ptrace.c). The tracee's thread waits in Task::PtraceStop() meanwhile.
#include <cstring>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kTaskSizeMax = uint64_t{1} << 47;
// CF PF AF ZF SF TF DF OF NT RF AC: what a tracer may set (FLAG_MASK).
constexpr uint64_t kFlagMask = 0x54dd5;
constexpr size_t kLegacyArea = 512, kHeaderSize = 64, kMxcsrOffset = 24, kMxcsrMaskOffset = 28;
constexpr uint32_t kDefaultMxcsrMask = 0xffbf;

bool IsUserSelector(uint64_t value, bool may_be_null) {
  value &= 0xffff;
  return value == 0 ? may_be_null : (value & 3) == 3;
}

// What the CPU would refuse to load (Intel SDM vol. 1, 13.8).
bool FpIsValid(const std::string& fp, const std::string& before, uint64_t features) {
  uint32_t mxcsr, mask;
  memcpy(&mxcsr, fp.data() + kMxcsrOffset, sizeof(mxcsr));
  memcpy(&mask, before.data() + kMxcsrMaskOffset, sizeof(mask));
  if ((mxcsr & ~(mask != 0 ? mask : kDefaultMxcsrMask)) != 0) return false;
  if (fp.size() < kLegacyArea + kHeaderSize) return true;
  uint64_t header[kHeaderSize / 8];
  memcpy(header, fp.data() + kLegacyArea, kHeaderSize);
  for (size_t i = 1; i < std::size(header); ++i)
    if (header[i] != 0) return false;
  return (header[0] & ~features) == 0;
}

}  // namespace

// Calls `f` while `target` is held in a stop of the caller's.
template <typename F>
auto Ptrace::WithStopped(Task& tracer, Task& target, F f) -> decltype(f()) {
  MutexLock lock(tracer.kernel_.tasks_mu());
  if (target.trace_.tracer != &tracer) return Errno::kESRCH;
  MutexLock signal_lock(target.group_->signal_mu);
  if (!IsHeldLocked(target)) return Errno::kESRCH;
  return f();
}

Result<void> Ptrace::CheckStopped(Task& tracer, Task& target) {
  return WithStopped(tracer, target, []() -> Result<void> { return {}; });
}

Result<void> Ptrace::Resume(Task& tracer, Task& target, Resumption how, int signo) {
  if (signo != 0 && !signal::IsValid(signo)) return Errno::kEIO;
  uint32_t flags = kTraced;
  if (how == Resumption::kSyscall) flags |= kTraceSyscalls;
  if (how == Resumption::kEmulate || how == Resumption::kEmulateStep) flags |= kTraceEmulate;
  if (how == Resumption::kStep || how == Resumption::kEmulateStep) flags |= kTraceStep;
  return WithStopped(tracer, target, [&]() -> Result<void> {
    target.trace_.resume_signal = signo;
    target.trace_.stopped = false;
    target.trace_flags_.store(flags, std::memory_order_release);
    target.SignalWake(false);
    return {};
  });
}

Result<void> Ptrace::Detach(Task& tracer, Task& target, int signo) {
  if (signo != 0 && !signal::IsValid(signo)) return Errno::kEIO;
  Grave grave;
  MutexLock lock(tracer.kernel_.tasks_mu());
  if (target.trace_.tracer != &tracer) return Errno::kESRCH;
  {
    MutexLock signal_lock(target.group_->signal_mu);
    if (!IsHeldLocked(target)) return Errno::kESRCH;
    target.trace_.resume_signal = signo;
  }
  UnlinkLocked(target, &grave);
  return {};
}

Result<void> Ptrace::Interrupt(Task& tracer, Task& target) {
  MutexLock lock(tracer.kernel_.tasks_mu());
  if (target.trace_.tracer != &tracer || target.exited_) return Errno::kESRCH;
  MutexLock signal_lock(target.group_->signal_mu);
  if (!target.trace_.seized) return Errno::kEIO;
  target.trace_.trap_pending = true;
  if (target.trace_.listening) target.trace_.notify_pending = true;  // It comes to another stop at once.
  target.SignalWake(false);
  return {};
}

Result<void> Ptrace::Listen(Task& tracer, Task& target) {
  return WithStopped(tracer, target, [&]() -> Result<void> {
    PtraceState& state = target.trace_;
    if (!state.seized || !state.has_info || state.info.code >> 8 != static_cast<int>(PtraceEvent::kStop))
      return Errno::kEIO;
    state.listening = true;
    if (state.notify_pending) target.SignalWake(false);
    return {};
  });
}

Result<void> Ptrace::Kill(Task& tracer, Task& target) {
  {
    MutexLock lock(tracer.kernel_.tasks_mu());
    if (target.trace_.tracer != &tracer) return Errno::kESRCH;
  }
  target.SendThreadSignal(signal::Info(signal::kSIGKILL), nullptr, /*force=*/true);
  return {};
}

Result<void> Ptrace::SetOptions(Task& tracer, Task& target, uint32_t options) {
  if ((options & ~kPtraceOptions) != 0) return Errno::kEINVAL;
  return WithStopped(tracer, target, [&]() -> Result<void> {
    target.trace_.options = options;
    return {};
  });
}

Result<platform::Registers> Ptrace::GetRegisters(Task& tracer, Task& target) {
  return WithStopped(tracer, target, [&]() -> Result<platform::Registers> { return target.regs_; });
}

Result<void> Ptrace::SetRegisters(Task& tracer, Task& target, const platform::Registers& regs) {
  if (!IsUserSelector(regs.cs, false) || !IsUserSelector(regs.ss, false)) return Errno::kEIO;
  for (uint64_t selector : {regs.ds, regs.es, regs.fs, regs.gs})
    if (!IsUserSelector(selector, true)) return Errno::kEIO;
  if (regs.fs_base >= kTaskSizeMax || regs.gs_base >= kTaskSizeMax) return Errno::kEIO;
  return WithStopped(tracer, target, [&]() -> Result<void> {
    const uint64_t kept = target.regs_.eflags & ~kFlagMask;
    target.regs_ = regs;
    target.regs_.eflags = kept | (regs.eflags & kFlagMask);
    target.trace_.registers_changed = true;
    return {};
  });
}

Result<std::string> Ptrace::GetFp(Task& tracer, Task& target) {
  return WithStopped(tracer, target, [&]() -> Result<std::string> {
    if (target.trace_.fp.size() < kLegacyArea) return Errno::kEIO;
    return target.trace_.fp;
  });
}

Result<void> Ptrace::SetFp(Task& tracer, Task& target, std::string fp) {
  const uint64_t features = target.kernel_.platform().fp_features();
  return WithStopped(tracer, target, [&]() -> Result<void> {
    PtraceState& state = target.trace_;
    if (state.fp.size() != fp.size() || fp.size() < kLegacyArea) return Errno::kEIO;
    if (!FpIsValid(fp, state.fp, features)) return Errno::kEINVAL;
    state.fp = std::move(fp);
    state.fp_changed = true;
    return {};
  });
}

Result<signal::Info> Ptrace::GetInfo(Task& tracer, Task& target) {
  return WithStopped(tracer, target, [&]() -> Result<signal::Info> {
    if (!target.trace_.has_info) return Errno::kEINVAL;
    return target.trace_.info;
  });
}

Result<void> Ptrace::SetInfo(Task& tracer, Task& target, const signal::Info& info) {
  return WithStopped(tracer, target, [&]() -> Result<void> {
    if (!target.trace_.has_info) return Errno::kEINVAL;
    target.trace_.info = info;
    return {};
  });
}

Result<uint64_t> Ptrace::GetMessage(Task& tracer, Task& target) {
  return WithStopped(tracer, target, [&]() -> Result<uint64_t> { return target.trace_.message; });
}

Result<signal::Set> Ptrace::GetMask(Task& tracer, Task& target) {
  return WithStopped(tracer, target, [&]() -> Result<signal::Set> {
    return target.has_saved_mask_ ? target.saved_mask_ : target.signal_mask();
  });
}

Result<void> Ptrace::SetMask(Task& tracer, Task& target, signal::Set mask) {
  return WithStopped(tracer, target, [&]() -> Result<void> {
    target.has_saved_mask_ = false;
    target.blocked_.store(mask & ~signal::kUnblockable, std::memory_order_relaxed);
    return {};  // The tracee looks at what is pending when it goes on.
  });
}

Result<std::vector<signal::Info>> Ptrace::PeekSignals(Task& tracer, Task& target, bool shared,
                                                      uint64_t first, size_t count) {
  MutexLock lock(tracer.kernel_.tasks_mu());
  if (target.trace_.tracer != &tracer) return Errno::kESRCH;
  ThreadGroup& group = target.group();
  MutexLock signal_lock(group.signal_mu);
  if (!IsHeldLocked(target)) return Errno::kESRCH;
  const signal::Queue& queue = shared ? group.shared_pending : target.pending_;
  return queue.Peek(first, count);
}

Result<Ptrace::CallStop> Ptrace::GetCallStop(Task& tracer, Task& target) {
  return WithStopped(tracer, target, [&]() -> Result<CallStop> {
    constexpr int kSeccompCode = signal::kSIGTRAP | static_cast<int>(PtraceEvent::kSeccomp) << 8;
    const PtraceState& state = target.trace_;
    CallStop stop;
    stop.regs = target.regs_;
    stop.message = state.message;
    if (state.has_info && state.info.code == (signal::kSIGTRAP | 0x80))
      stop.op = state.message == 1 || state.message == 2 ? static_cast<uint8_t>(state.message) : 0;
    else if (state.has_info && state.info.code == kSeccompCode)
      stop.op = 3;
    return stop;
  });
}

}  // namespace caisson::kernel
