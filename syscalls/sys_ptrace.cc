// ptrace(2): the requests as the guest writes them (Linux kernel/ptrace.c, arch/x86/kernel/ptrace.c).
#include <algorithm>
#include <cstring>

#include "base/bpf.h"
#include "sentry/kernel/ptrace.h"
#include "syscalls/handlers.h"

namespace caisson::syscalls {
namespace {

using kernel::Ptrace;
using platform::Registers;

enum Request : int64_t {
  kTraceMe = 0, kPeekText = 1, kPeekData = 2, kPeekUser = 3, kPokeText = 4, kPokeData = 5,
  kPokeUser = 6, kCont = 7, kKill = 8, kArchPrctl = 30, kSingleStep = 9, kGetRegs = 12, kSetRegs = 13,
  kGetFpRegs = 14, kSetFpRegs = 15, kAttach = 16, kDetach = 17, kSyscall = 24, kSysemu = 31,
  kSysemuSingleStep = 32, kSetOptions = 0x4200, kGetEventMsg = 0x4201, kGetSigInfo = 0x4202,
  kSetSigInfo = 0x4203, kGetRegSet = 0x4204, kSetRegSet = 0x4205, kSeize = 0x4206,
  kInterrupt = 0x4207, kListen = 0x4208, kPeekSigInfo = 0x4209, kGetSigMask = 0x420a,
  kSetSigMask = 0x420b, kGetSyscallInfo = 0x420e, kOldSetOptions = 21,
};
constexpr uint64_t kPrStatus = 1, kPrFpReg = 2, kX86Xstate = 0x202;  // NT_*.
constexpr uint64_t kUserSize = 912, kDebugRegisters = 848, kDebugRegistersEnd = kDebugRegisters + 8 * 8;
constexpr size_t kFxsaveSize = 512, kXstateHeader = 512;

struct Iovec {
  uint64_t base, length;
};

SyscallResult Done(const Result<void>& result) {
  if (!result.ok()) return result.error();
  return 0;
}

// PTRACE_PEEK*: the C library expects the word in memory.
SyscallResult Peek(Task& task, Task& target, uint64_t addr, GuestAddr data) {
  RefPtr<mm::MemoryManager> mm = TRY(Ptrace::MemoryOf(task, target));
  uint64_t word = 0;
  if (mm->CopyInForced(GuestAddr(addr), absl::Span<char>(reinterpret_cast<char*>(&word), 8)) != 8)
    return Errno::kEIO;
  return Done(task.Write(data, word));
}

SyscallResult Poke(Task& task, Task& target, uint64_t addr, uint64_t word) {
  RefPtr<mm::MemoryManager> mm = TRY(Ptrace::MemoryOf(task, target));
  const char* bytes = reinterpret_cast<const char*>(&word);
  if (mm->CopyOutForced(GuestAddr(addr), absl::Span<const char>(bytes, 8)) != 8) return Errno::kEIO;
  return 0;
}

// The user area: registers, and debug registers, which read as zero and are all taken (ENOSPC), as
// where perf(1) uses them.
SyscallResult PeekUser(Task& task, Task& target, uint64_t offset, GuestAddr data) {
  Registers regs = TRY(Ptrace::GetRegisters(task, target));
  if (offset % 8 != 0 || offset >= kUserSize) return Errno::kEIO;
  uint64_t word = 0;
  if (offset < sizeof(regs)) memcpy(&word, reinterpret_cast<const char*>(&regs) + offset, 8);
  return Done(task.Write(data, word));
}

SyscallResult PokeUser(Task& task, Task& target, uint64_t offset, uint64_t word) {
  Registers regs = TRY(Ptrace::GetRegisters(task, target));
  if (offset % 8 != 0 || offset >= kUserSize) return Errno::kEIO;
  if (offset < sizeof(regs)) {
    memcpy(reinterpret_cast<char*>(&regs) + offset, &word, 8);
    return Done(Ptrace::SetRegisters(task, target, regs));
  }
  if (offset < kDebugRegisters || offset >= kDebugRegistersEnd) return Errno::kEIO;
  if (word != 0) return Errno::kENOSPC;
  return 0;
}

// PTRACE_ARCH_PRCTL: arch_prctl(2) of another.
SyscallResult OtherArchPrctl(Task& task, Task& target, GuestAddr addr, uint64_t code) {
  constexpr uint64_t kSetGs = 0x1001, kSetFs = 0x1002, kGetFs = 0x1003, kGetGs = 0x1004;
  Registers regs = TRY(Ptrace::GetRegisters(task, target));
  switch (code) {
    case kGetFs:
      return Done(task.Write(addr, regs.fs_base));
    case kGetGs:
      return Done(task.Write(addr, regs.gs_base));
    case kSetFs:
    case kSetGs:
      (code == kSetFs ? regs.fs_base : regs.gs_base) = addr.value;
      if (!Ptrace::SetRegisters(task, target, regs).ok()) return Errno::kEPERM;
      return 0;
    default:
      return Errno::kEINVAL;
  }
}

// What a register set is, and at most `size` bytes of it.
Result<std::string> ReadSet(Task& task, Task& target, uint64_t type) {
  if (type == kPrStatus) {
    Registers regs = TRY(Ptrace::GetRegisters(task, target));
    return std::string(reinterpret_cast<const char*>(&regs), sizeof(regs));
  }
  if (type != kPrFpReg && type != kX86Xstate) return Errno::kEINVAL;
  std::string fp = TRY(Ptrace::GetFp(task, target));
  if (type == kPrFpReg) fp.resize(kFxsaveSize);
  return fp;
}

Result<void> WriteSet(Task& task, Task& target, uint64_t type, const std::string& bytes) {
  if (type == kPrStatus) {
    Registers regs = TRY(Ptrace::GetRegisters(task, target));
    memcpy(&regs, bytes.data(), std::min(bytes.size(), sizeof(regs)));
    return Ptrace::SetRegisters(task, target, regs);
  }
  std::string fp = TRY(Ptrace::GetFp(task, target));
  if (type == kX86Xstate) {
    if (bytes.size() != fp.size()) return Errno::kEFAULT;
    return Ptrace::SetFp(task, target, bytes);
  }
  if (bytes.size() != kFxsaveSize) return Errno::kEINVAL;
  memcpy(fp.data(), bytes.data(), kFxsaveSize);
  if (fp.size() > kXstateHeader) fp[kXstateHeader] |= 3;  // x87 and SSE are in use.
  return Ptrace::SetFp(task, target, std::move(fp));
}

SyscallResult RegisterSet(Task& task, Task& target, bool set, uint64_t type, GuestAddr at) {
  TRY(Ptrace::CheckStopped(task, target));
  Iovec iov = TRY(task.Read<Iovec>(at));
  std::string now = TRY(ReadSet(task, target, type));
  if (iov.length % 8 != 0) return Errno::kEINVAL;
  const size_t size = std::min<uint64_t>(iov.length, now.size());
  now.resize(size);
  if (set) {
    TRY(task.memory().CopyIn(GuestAddr(iov.base), absl::Span<char>(now.data(), size)));
    TRY(WriteSet(task, target, type, now));
  } else {
    TRY(task.memory().CopyOut(GuestAddr(iov.base), now));
  }
  iov.length = size;
  return Done(task.Write(at, iov));
}

// All of a set, without a length (PTRACE_GETREGS and so on).
SyscallResult WholeSet(Task& task, Task& target, bool set, uint64_t type, GuestAddr at) {
  std::string bytes = TRY(ReadSet(task, target, type));
  if (!set) return Done(task.memory().CopyOut(at, bytes));
  TRY(task.memory().CopyIn(at, absl::Span<char>(bytes.data(), bytes.size())));
  return Done(WriteSet(task, target, type, bytes));
}

SyscallResult PeekSigInfo(Task& task, Task& target, GuestAddr arguments, GuestAddr out) {
  struct Arguments {
    uint64_t first;
    uint32_t flags;
    int32_t count;
  };
  constexpr uint32_t kShared = 1;
  constexpr int32_t kAtOnce = 64;
  TRY(Ptrace::CheckStopped(task, target));
  const Arguments a = TRY(task.Read<Arguments>(arguments));
  if ((a.flags & ~kShared) != 0 || a.count < 0) return Errno::kEINVAL;
  int32_t done = 0;
  while (done < a.count) {
    const auto want = static_cast<size_t>(std::min(a.count - done, kAtOnce));
    if (a.first > UINT64_MAX - static_cast<uint64_t>(done)) break;
    std::vector<signal::Info> found = TRY(Ptrace::PeekSignals(
        task, target, (a.flags & kShared) != 0, a.first + static_cast<uint64_t>(done), want));
    for (const signal::Info& info : found) {
      if (!task.Write(GuestAddr(out.value + static_cast<uint64_t>(done) * sizeof(info)), info).ok())
        return done != 0 ? SyscallResult(done) : Errno::kEFAULT;
      ++done;
    }
    if (found.size() < want || task.IsKilled()) break;
  }
  return done;
}

// struct ptrace_syscall_info. Returns its size; stores what fits.
SyscallResult GetSyscallInfo(Task& task, Task& target, uint64_t size, GuestAddr out) {
  constexpr uint8_t kEntry = 1, kExit = 2, kSeccomp = 3;
  struct Info {
    uint8_t op = 0, pad[3] = {};
    uint32_t arch = bpf::kArchX86_64;
    uint64_t ip = 0, sp = 0;
    uint64_t words[8] = {};  // Of entry: number, arguments; seccomp: its data too; exit: result, error.
  } info;
  constexpr size_t kHead = 24;
  const Ptrace::CallStop stop = TRY(Ptrace::GetCallStop(task, target));
  info.op = stop.op;
  info.ip = stop.regs.rip;
  info.sp = stop.regs.rsp;
  size_t actual = kHead;
  if (stop.op == kEntry || stop.op == kSeccomp) {
    info.words[0] = stop.regs.orig_rax;
    for (int i = 0; i < 6; ++i) info.words[1 + i] = stop.regs.arg(i);
    actual += 7 * 8;
    if (stop.op == kSeccomp) {
      info.words[7] = static_cast<uint32_t>(stop.message);
      actual += 8;  // ret_data, and the padding that the union has.
    }
  } else if (stop.op == kExit) {
    constexpr int64_t kMaxErrno = 4095;
    const auto value = static_cast<int64_t>(stop.regs.rax);
    info.words[0] = stop.regs.rax;
    info.words[1] = value < 0 && value >= -kMaxErrno ? 1 : 0;
    actual += 9;
  }
  TRY(task.memory().CopyOut(out, absl::Span<const char>(reinterpret_cast<const char*>(&info),
                                                        std::min<uint64_t>(actual, size))));
  return static_cast<int64_t>(actual);
}

SyscallResult Attach(Task& task, Task& target, bool seize, uint64_t addr, uint64_t data) {
  if (seize && (addr != 0 || (data & ~uint64_t{kernel::kPtraceOptions}) != 0)) return Errno::kEIO;
  return Done(Ptrace::Attach(task, target, seize, seize ? static_cast<uint32_t>(data) : 0));
}

// A signal for PTRACE_CONT and its like. What is none is refused there.
int SignalOf(uint64_t data) { return data <= signal::kSignalCount ? static_cast<int>(data) : -1; }

}  // namespace

SyscallResult PtraceCall(Task& task, int64_t request, int32_t pid, GuestAddr addr, uint64_t data) {
  if (request == kTraceMe) return Done(Ptrace::TraceMe(task));
  RefPtr<Task> found = task.kernel().FindTask(task.pid_namespace(), pid);
  if (!found) return Errno::kESRCH;
  Task& target = *found;
  using How = Ptrace::Resumption;
  const GuestAddr at(data);
  switch (request) {
    case kAttach:
    case kSeize:
      return Attach(task, target, request == kSeize, addr.value, data);
    case kPeekText:
    case kPeekData:
      return Peek(task, target, addr.value, at);
    case kPokeText:
    case kPokeData:
      return Poke(task, target, addr.value, data);
    case kPeekUser:
      return PeekUser(task, target, addr.value, at);
    case kPokeUser:
      return PokeUser(task, target, addr.value, data);
    case kCont:
      return Done(Ptrace::Resume(task, target, How::kContinue, SignalOf(data)));
    case kSyscall:
      return Done(Ptrace::Resume(task, target, How::kSyscall, SignalOf(data)));
    case kSingleStep:
      return Done(Ptrace::Resume(task, target, How::kStep, SignalOf(data)));
    case kSysemu:
      return Done(Ptrace::Resume(task, target, How::kEmulate, SignalOf(data)));
    case kSysemuSingleStep:
      return Done(Ptrace::Resume(task, target, How::kEmulateStep, SignalOf(data)));
    case kDetach:
      return Done(Ptrace::Detach(task, target, SignalOf(data)));
    case kKill:
      return Done(Ptrace::Kill(task, target));
    case kInterrupt:
      return Done(Ptrace::Interrupt(task, target));
    case kListen:
      return Done(Ptrace::Listen(task, target));
    case kSetOptions:
    case kOldSetOptions:
      if (data > UINT32_MAX) return Errno::kEINVAL;
      return Done(Ptrace::SetOptions(task, target, static_cast<uint32_t>(data)));
    case kGetRegs:
    case kSetRegs:
      return WholeSet(task, target, request == kSetRegs, kPrStatus, at);
    case kGetFpRegs:
    case kSetFpRegs:
      return WholeSet(task, target, request == kSetFpRegs, kPrFpReg, at);
    case kGetRegSet:
    case kSetRegSet:
      return RegisterSet(task, target, request == kSetRegSet, addr.value, at);
    case kGetEventMsg: {
      const uint64_t message = TRY(Ptrace::GetMessage(task, target));
      return Done(task.Write(at, message));
    }
    case kGetSigInfo: {
      const signal::Info info = TRY(Ptrace::GetInfo(task, target));
      return Done(task.Write(at, info));
    }
    case kSetSigInfo: {
      const signal::Info info = TRY(task.Read<signal::Info>(at));
      return Done(Ptrace::SetInfo(task, target, info));
    }
    case kPeekSigInfo:
      return PeekSigInfo(task, target, addr, at);
    case kGetSigMask: {
      const signal::Set mask = TRY(Ptrace::GetMask(task, target));
      if (addr.value != sizeof(mask)) return Errno::kEINVAL;
      return Done(task.Write(at, mask));
    }
    case kSetSigMask: {
      TRY(Ptrace::CheckStopped(task, target));
      if (addr.value != sizeof(signal::Set)) return Errno::kEINVAL;
      const signal::Set mask = TRY(task.Read<signal::Set>(at));
      return Done(Ptrace::SetMask(task, target, mask));
    }
    case kArchPrctl:
      return OtherArchPrctl(task, target, addr, data);
    case kGetSyscallInfo:
      return GetSyscallInfo(task, target, addr.value, at);
    default:
      TRY(Ptrace::CheckStopped(task, target));
      task.kernel().NoteUnsupported(absl::StrCat("ptrace request ", request));
      return Errno::kEIO;
  }
}

}  // namespace caisson::syscalls
