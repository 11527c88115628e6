// seccomp(2), prctl(2), arch_prctl(2).
#include <algorithm>

#include "syscalls/handlers.h"
#include "syscalls/trace_names.h"

namespace caisson::syscalls {

using auth::Capability;

// --- seccomp ---

namespace {
constexpr uint32_t kFilterTsync = 1, kFilterLog = 2, kFilterSpecAllow = 4, kFilterNewListener = 8;

SyscallResult InstallFilter(Task& task, uint32_t flags, GuestAddr address) {
  if ((flags & ~(kFilterTsync | kFilterLog | kFilterSpecAllow | kFilterNewListener)) != 0) return Errno::kEINVAL;
  struct Fprog {
    uint16_t length;
    uint16_t pad[3];
    uint64_t filter;
  };
  Fprog prog = TRY(task.Read<Fprog>(address));
  if (prog.length == 0 || prog.length > bpf::kMaxInstructions) return Errno::kEINVAL;
  if (!task.no_new_privs.load() && !task.creds().HasCapability(Capability::kSysAdmin)) return Errno::kEACCES;
  std::vector<bpf::Instruction> program(prog.length);
  TRY(task.CopyInBytes(GuestAddr(prog.filter), absl::Span<char>(reinterpret_cast<char*>(program.data()),
                                                                program.size() * sizeof(bpf::Instruction))));
  if ((flags & kFilterNewListener) != 0) {
    task.kernel().NoteUnsupported("seccomp: SECCOMP_FILTER_FLAG_NEW_LISTENER");
    return Errno::kEINVAL;
  }
  return task.AddSeccompFilter(std::move(program), (flags & kFilterLog) != 0, (flags & kFilterTsync) != 0);
}
}  // namespace

SyscallResult Seccomp(Task& task, uint32_t operation, Flags flags, GuestAddr args) {
  constexpr uint32_t kStrict = 0, kFilter = 1, kActionAvail = 2, kNotifSizes = 3;
  switch (operation) {
    case kStrict:
      if (flags.value != 0 || !args.is_null()) return Errno::kEINVAL;
      TRY(task.SetSeccompStrict());
      return 0;
    case kFilter:
      return InstallFilter(task, flags.value, args);
    case kActionAvail: {
      if (flags.value != 0) return Errno::kEINVAL;
      uint32_t action = TRY(task.Read<uint32_t>(args));
      switch (action) {
        case bpf::kRetKillProcess: case bpf::kRetKillThread: case bpf::kRetTrap: case bpf::kRetErrno:
        case bpf::kRetTrace: case bpf::kRetLog: case bpf::kRetAllow:
          return 0;
        default:
          return Errno::kEOPNOTSUPP;
      }
    }
    case kNotifSizes:
      return Errno::kEINVAL;
    default:
      return Errno::kEINVAL;
  }
}

// --- prctl ---

namespace {

SyscallResult AmbientCap(Task& task, uint64_t op, uint64_t cap) {
  constexpr uint64_t kIsSet = 1, kRaise = 2, kLower = 3, kClearAll = 4;
  const auth::Credentials& c = task.creds();
  if (op == kClearAll) {
    if (cap != 0) return Errno::kEINVAL;
  } else if (cap > auth::kLastCapability) {
    return Errno::kEINVAL;
  }
  auth::CapSet bit = op == kClearAll ? 0 : auth::CapSet{1} << cap;
  if (op == kIsSet) return (c.ambient & bit) != 0;
  auto now = MakeRef<auth::Credentials>(c);
  switch (op) {
    case kClearAll: now->ambient = 0; break;
    case kRaise:
      if ((c.permitted & bit) == 0 || (c.inheritable & bit) == 0 || (c.securebits & auth::kSecNoCapAmbientRaise) != 0)
        return Errno::kEPERM;
      now->ambient |= bit;
      break;
    case kLower: now->ambient &= ~bit; break;
    default: return Errno::kEINVAL;
  }
  task.set_creds(RefPtr<const auth::Credentials>(now));
  return 0;
}

SyscallResult SetSecurebits(Task& task, uint64_t bits) {
  const auth::Credentials& c = task.creds();
  constexpr uint32_t kAll = 0xff, kLocks = 0xaa;
  const uint32_t locked = c.securebits & kLocks;
  if ((bits & ~uint64_t{kAll}) != 0 || (((locked >> 1) & (c.securebits ^ bits)) != 0) || (locked & ~bits) != 0 ||
      !task.creds().HasCapability(Capability::kSetpcap))
    return Errno::kEPERM;
  auto now = MakeRef<auth::Credentials>(c);
  now->securebits = static_cast<uint32_t>(bits);
  task.set_creds(RefPtr<const auth::Credentials>(now));
  return 0;
}

}  // namespace

SyscallResult Prctl(Task& task, int32_t option, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) {
  switch (option) {
    case 1:  // PR_SET_PDEATHSIG
      if (a2 > signal::kSignalCount) return Errno::kEINVAL;
      task.pdeath_signal = static_cast<int>(a2);
      return 0;
    case 2:  // PR_GET_PDEATHSIG
      TRY(task.Write(GuestAddr(a2), int32_t{task.pdeath_signal.load()}));
      return 0;
    case 3:  // PR_GET_DUMPABLE
      return task.mm().dumpable();
    case 4:  // PR_SET_DUMPABLE
      if (a2 > 1) return Errno::kEINVAL;
      task.mm().set_dumpable(static_cast<int>(a2));
      return 0;
    case 7:  // PR_GET_KEEPCAPS
      return (task.creds().securebits & auth::kSecKeepCaps) != 0;
    case 8: {  // PR_SET_KEEPCAPS
      if (a2 > 1) return Errno::kEINVAL;
      if ((task.creds().securebits & auth::kSecKeepCapsLocked) != 0) return Errno::kEPERM;
      auto now = MakeRef<auth::Credentials>(task.creds());
      now->securebits = (now->securebits & ~auth::kSecKeepCaps) | (a2 != 0 ? auth::kSecKeepCaps : 0);
      task.set_creds(RefPtr<const auth::Credentials>(now));
      return 0;
    }
    case 13:  // PR_GET_TIMING
      return 0;
    case 14:  // PR_SET_TIMING
      if (a2 != 0) return Errno::kEINVAL;
      return 0;
    case 15: {  // PR_SET_NAME
      char name[16] = {};
      Result<std::string> text = task.memory().CopyInString(GuestAddr(a2), 15);
      if (text.ok()) {
        task.set_comm(*text);
      } else {
        if (text.error() != Errno::kENAMETOOLONG) return text.error();
        TRY(task.CopyInBytes(GuestAddr(a2), absl::Span<char>(name, 15)));
        task.set_comm(absl::string_view(name, 15));
      }
      return 0;
    }
    case 16: {  // PR_GET_NAME
      char name[16] = {};
      std::string comm = task.comm();
      memcpy(name, comm.data(), std::min<size_t>(comm.size(), 15));
      TRY(task.CopyOutBytes(GuestAddr(a2), {name, sizeof(name)}));
      return 0;
    }
    case 21:  // PR_GET_SECCOMP
      return task.seccomp_mode();
    case 22:  // PR_SET_SECCOMP
      if (a2 == 1) return Seccomp(task, 0, Flags{0}, GuestAddr());
      if (a2 == 2) return InstallFilter(task, 0, GuestAddr(a3));
      return Errno::kEINVAL;
    case 23:  // PR_CAPBSET_READ
      if (a2 > auth::kLastCapability) return Errno::kEINVAL;
      return (task.creds().bounding >> a2) & 1;
    case 24: {  // PR_CAPBSET_DROP
      if (!task.creds().HasCapability(Capability::kSetpcap)) return Errno::kEPERM;
      if (a2 > auth::kLastCapability) return Errno::kEINVAL;
      auto now = MakeRef<auth::Credentials>(task.creds());
      now->bounding &= ~(auth::CapSet{1} << a2);
      task.set_creds(RefPtr<const auth::Credentials>(now));
      return 0;
    }
    case 25: case 26:  // PR_GET_TSC, PR_SET_TSC
      if (option == 25) {
        TRY(task.Write(GuestAddr(a2), int32_t{1}));
        return 0;
      }
      return a2 == 1 ? SyscallResult(0) : SyscallResult(Errno::kEINVAL);
    case 27:  // PR_GET_SECUREBITS
      return task.creds().securebits;
    case 28:
      return SetSecurebits(task, a2);
    case 29:  // PR_SET_TIMERSLACK
      task.timer_slack = a2 == 0 ? 50'000 : a2;
      return 0;
    case 30:
      return static_cast<int64_t>(task.timer_slack.load());
    case 36: {  // PR_SET_CHILD_SUBREAPER
      MutexLock lock(task.kernel().tasks_mu());
      task.group().is_subreaper = a2 != 0;
      return 0;
    }
    case 37: {
      int32_t on;
      {
        MutexLock lock(task.kernel().tasks_mu());
        on = task.group().is_subreaper;
      }
      TRY(task.Write(GuestAddr(a2), on));
      return 0;
    }
    case 38:  // PR_SET_NO_NEW_PRIVS
      if (a2 != 1 || a3 != 0 || a4 != 0 || a5 != 0) return Errno::kEINVAL;
      task.no_new_privs = true;
      return 0;
    case 39:
      if (a2 != 0 || a3 != 0 || a4 != 0 || a5 != 0) return Errno::kEINVAL;
      return task.no_new_privs.load() ? 1 : 0;
    case 40:  // PR_GET_TID_ADDRESS
      TRY(task.Write(GuestAddr(a2), task.clear_child_tid.value));
      return 0;
    case 41:  // PR_SET_THP_DISABLE
    case 42:
      return option == 42 ? 0 : (a3 != 0 || a4 != 0 || a5 != 0 ? SyscallResult(Errno::kEINVAL) : SyscallResult(0));
    case 47:  // PR_CAP_AMBIENT
      if (a4 != 0 || a5 != 0) return Errno::kEINVAL;
      return AmbientCap(task, a2, a3);
    case 0x53564d41:  // PR_SET_VMA: anonymous names, refused as CONFIG_ANON_VMA_NAME=n.
      return Errno::kEINVAL;
    case 0x59616d61:  // PR_SET_PTRACER: as with Yama absent.
      return Errno::kEINVAL;
    default:
      task.kernel().NoteUnsupported(absl::StrCat("prctl: option ", NameOf(kPrctlNames, static_cast<uint32_t>(option))));
      return Errno::kEINVAL;
  }
}

SyscallResult ArchPrctl(Task& task, int32_t code, uint64_t address) {
  constexpr int kSetGs = 0x1001, kSetFs = 0x1002, kGetFs = 0x1003, kGetGs = 0x1004;
  switch (code) {
    case kSetFs:
    case kSetGs:
      if (address >> 47 != 0) return Errno::kEPERM;
      (code == kSetFs ? task.regs().fs_base : task.regs().gs_base) = address;
      return 0;
    case kGetFs:
    case kGetGs:
      TRY(task.Write(GuestAddr(address), code == kGetFs ? task.full_regs().fs_base : task.full_regs().gs_base));
      return 0;
    default:
      return Errno::kEINVAL;
  }
}

}  // namespace caisson::syscalls
