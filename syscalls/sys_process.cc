// Processes: clone, exec, exit, wait.
#include "sentry/kernel/clone_flags.h"
#include "sentry/kernel/pidfd.h"
#include "syscalls/handlers.h"
#include "vfs/operations.h"

namespace caisson::syscalls {
namespace {

constexpr uint64_t kSignalMask = 0xff;

// argv and envp: arrays of pointers ended by null. `total` bounds both (Linux bprm_stack_limits();
// the loader checks the exact limit).
Result<std::vector<std::string>> ReadStrings(Task& task, GuestAddr array, uint64_t* total) {
  constexpr size_t kMaxString = 131072;  // MAX_ARG_STRLEN.
  constexpr uint64_t kMaxTotal = 6 << 20;
  std::vector<std::string> out;
  if (array.is_null()) return out;
  // Many pointers at a time, up to the end of their page: each copy costs a host call.
  std::vector<uint64_t> pointers;
  size_t next = 0;
  for (GuestAddr at = array;;) {
    if (next == pointers.size()) {
      pointers.resize(std::max<uint64_t>((kPageSize - at.value % kPageSize) / 8, 1));
      next = 0;
      TRY(task.CopyInBytes(at, absl::Span<char>(reinterpret_cast<char*>(pointers.data()), pointers.size() * 8)));
      at = at + pointers.size() * 8;
    }
    const uint64_t pointer = pointers[next++];
    if (pointer == 0) return out;
    Result<std::string> text = task.memory().CopyInString(GuestAddr(pointer), kMaxString - 1);
    if (!text.ok()) return text.error() == Errno::kENAMETOOLONG ? Errno::kE2BIG : text.error();
    *total += text->size() + 1 + 8;
    if (*total > kMaxTotal) return Errno::kE2BIG;
    out.push_back(std::move(*text));
  }
}

SyscallResult DoExec(Task& task, Fd dir, PathPtr path_ptr, GuestAddr argv, GuestAddr envp, uint32_t flags) {
  constexpr uint32_t kAtSymlinkNofollow = 0x100, kAtEmptyPath = 0x1000;
  if ((flags & ~(kAtSymlinkNofollow | kAtEmptyPath)) != 0) return Errno::kEINVAL;
  kernel::ExecArgs args;
  args.empty_path = (flags & kAtEmptyPath) != 0;
  args.no_follow = (flags & kAtSymlinkNofollow) != 0;
  args.path = TRY(path_ptr.Read(task, args.empty_path));
  args.start = TRY(StartOf(task, dir, args.path));
  if (args.path.empty() && !args.start) return Errno::kEACCES;
  if (dir.value != kAtFdcwd && (args.path.empty() || args.path[0] != '/'))
    args.close_on_exec_file = TRY(task.fd_table().close_on_exec(dir.value));
  uint64_t total = 0;
  args.argv = TRY(ReadStrings(task, argv, &total));
  args.envp = TRY(ReadStrings(task, envp, &total));
  if (args.argv.empty()) args.argv.emplace_back("");  // Linux 5.18: argc is at least 1.
  return task.Exec(args);
}

}  // namespace

SyscallResult Clone(Task& task, uint64_t flags, GuestAddr stack, GuestAddr parent_tid,
                    GuestAddr child_tid, GuestAddr tls) {
  kernel::CloneArgs args;
  args.flags = flags & 0xffffff00;
  args.exit_signal = static_cast<int>(flags & kSignalMask);
  args.stack = stack;
  args.parent_tid = args.pidfd = parent_tid;
  args.child_tid = child_tid;
  args.tls = tls;
  if ((flags & kernel::kClonePidfd) != 0 && (flags & kernel::kCloneParentSettid) != 0) return Errno::kEINVAL;
  return task.Clone(args);
}

SyscallResult Clone3(Task& task, GuestAddr address, uint64_t size) {
  struct Layout {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
  };
  constexpr uint64_t kSizeVer0 = 64;
  if (size > kPageSize) return Errno::kE2BIG;
  if (size < kSizeVer0) return Errno::kEINVAL;
  Layout l{};
  uint64_t known = std::min<uint64_t>(size, sizeof(l));
  TRY(task.CopyInBytes(address, absl::Span<char>(reinterpret_cast<char*>(&l), known)));
  TRY(CheckZeroTail(task, address, sizeof(l), size));
  constexpr uint64_t kKnown = 0x3ffffff00ull | kernel::kCloneNewtime;
  if ((l.flags & ~kKnown) != 0 || (l.flags & kernel::kCloneDetached) != 0) return Errno::kEINVAL;
  if ((l.flags & kernel::kCloneIntoCgroup) != 0) return Errno::kEINVAL;
  if (l.exit_signal > signal::kSignalCount) return Errno::kEINVAL;
  if ((l.flags & (kernel::kCloneThread | kernel::kCloneParent)) != 0 && l.exit_signal != 0) return Errno::kEINVAL;
  if ((l.stack == 0) != (l.stack_size == 0)) return Errno::kEINVAL;
  constexpr uint64_t kMaxSetTid = 32;
  if (l.set_tid_size > kMaxSetTid || (l.set_tid == 0) != (l.set_tid_size == 0)) return Errno::kEINVAL;
  kernel::CloneArgs args;
  args.flags = l.flags;
  args.exit_signal = static_cast<int>(l.exit_signal);
  args.stack = GuestAddr(l.stack + l.stack_size);
  args.tls = GuestAddr(l.tls);
  args.parent_tid = GuestAddr(l.parent_tid);
  args.child_tid = GuestAddr(l.child_tid);
  args.pidfd = GuestAddr(l.pidfd);
  if (l.set_tid_size != 0) {
    // A number in each of that many namespaces, from the child's own upwards; the capability is asked for
    // in the owner of each (alloc_pid()).
    const kernel::PidNamespace* ns = task.namespaces().pid_for_children.get();
    for (uint64_t i = 0; i < l.set_tid_size; ++i, ns = ns->parent().get()) {
      if (ns == nullptr) return Errno::kEINVAL;
      if (!task.creds().HasCapability(auth::Capability::kSysAdmin, ns->user_ns()) &&
          !task.creds().HasCapability(auth::Capability::kCheckpointRestore, ns->user_ns()))
        return Errno::kEPERM;
    }
    args.set_tid.resize(l.set_tid_size);
    TRY(task.CopyInBytes(GuestAddr(l.set_tid), absl::Span<char>(reinterpret_cast<char*>(args.set_tid.data()), l.set_tid_size * 4)));
    for (int32_t tid : args.set_tid)
      if (tid <= 0 || tid >= kernel::kPidMax) return Errno::kEINVAL;
  }
  return task.Clone(args);
}

SyscallResult Fork(Task& task) {
  kernel::CloneArgs args;
  args.exit_signal = signal::kSIGCHLD;
  return task.Clone(args);
}
SyscallResult Vfork(Task& task) {
  kernel::CloneArgs args;
  args.flags = kernel::kCloneVfork | kernel::kCloneVm;
  args.exit_signal = signal::kSIGCHLD;
  return task.Clone(args);
}
SyscallResult Unshare(Task& task, uint64_t flags) { return task.Unshare(flags); }

SyscallResult Execve(Task& task, PathPtr path, GuestAddr argv, GuestAddr envp) {
  return DoExec(task, Fd{kAtFdcwd}, path, argv, envp, 0);
}
SyscallResult Execveat(Task& task, Fd dir, PathPtr path, GuestAddr argv, GuestAddr envp, Flags flags) {
  return DoExec(task, dir, path, argv, envp, flags.value);
}

SyscallResult Exit(Task& task, int32_t code) {
  task.PrepareExit((code & 0xff) << 8);
  return 0;
}
SyscallResult ExitGroup(Task& task, int32_t code) {
  task.PrepareGroupExit((code & 0xff) << 8);
  return 0;
}

namespace {

struct RusageLayout {
  int64_t utime_sec, utime_usec, stime_sec, stime_usec;
  int64_t maxrss, ixrss, idrss, isrss, minflt, majflt, nswap, inblock, oublock, msgsnd, msgrcv,
      nsignals, nvcsw, nivcsw;
};
static_assert(sizeof(RusageLayout) == 144);

RusageLayout ToRusage(const kernel::Usage& u) {
  RusageLayout r{};
  r.utime_sec = static_cast<int64_t>(u.cpu.user_ns / 1'000'000'000);
  r.utime_usec = static_cast<int64_t>(u.cpu.user_ns % 1'000'000'000 / 1000);
  r.stime_sec = static_cast<int64_t>(u.cpu.system_ns / 1'000'000'000);
  r.stime_usec = static_cast<int64_t>(u.cpu.system_ns % 1'000'000'000 / 1000);
  r.maxrss = static_cast<int64_t>(u.max_rss_kb);
  r.minflt = static_cast<int64_t>(u.minor_faults);
  r.majflt = static_cast<int64_t>(u.major_faults);
  return r;
}

constexpr uint32_t kWnohang = 1, kWuntraced = 2, kWexited = 4, kWcontinued = 8, kWnowait = 0x01000000,
                   kWnothread = 0x20000000, kWall = 0x40000000, kWclone = 0x80000000;

Result<kernel::Kernel::WaitResult> Wait(Task& task, const kernel::Kernel::WaitArgs& args) {
  auto attempt = [&] {
    Result<kernel::Kernel::WaitResult> result = task.kernel().TryWait(task, args);
    if (!result.ok() && result.error() == Errno::kEAGAIN) task.kernel().platform().OnIdle();
    return result;
  };
  return vfs::WaitUntil(task, task.group().child_events, kReadable, time::kNever, attempt);
}

}  // namespace

SyscallResult Wait4(Task& task, int32_t pid, OutPtr<int32_t> status, uint32_t options, GuestAddr rusage) {
  if ((options & ~(kWnohang | kWuntraced | kWcontinued | kWnothread | kWall | kWclone)) != 0)
    return Errno::kEINVAL;
  if (pid == INT32_MIN) return Errno::kESRCH;
  kernel::Kernel::WaitArgs args;
  using Who = kernel::Kernel::WaitArgs::Who;
  args.options = options | kWexited;
  args.wants_usage = !rusage.is_null();
  if (pid > 0) {
    args.who = Who::kPid;
    args.pid = task.pid_namespace().Find(pid);
  } else if (pid < -1) {
    args.who = Who::kProcessGroup;
    args.pid = task.pid_namespace().Find(-pid);
  } else if (pid == 0) {
    args.who = Who::kProcessGroup;
    MutexLock lock(task.kernel().tasks_mu());
    args.pid = task.group().process_group->id_ref();
  }
  kernel::Kernel::WaitResult result = TRY(Wait(task, args));
  if (result.pid == 0) return 0;
  if (!status.is_null()) TRY(status.Write(task, result.status));
  if (!rusage.is_null()) TRY(task.Write(rusage, ToRusage(result.usage)));
  return result.pid;
}

SyscallResult Waitid(Task& task, int32_t type, int32_t id, GuestAddr info_out, uint32_t options, GuestAddr rusage) {
  constexpr uint32_t kKnown = kWnohang | kWuntraced | kWexited | kWcontinued | kWnowait | kWnothread | kWall | kWclone;
  if ((options & ~kKnown) != 0 || (options & (kWexited | kWuntraced | kWcontinued)) == 0) return Errno::kEINVAL;
  kernel::Kernel::WaitArgs args;
  using Who = kernel::Kernel::WaitArgs::Who;
  args.options = options;
  args.wants_usage = !rusage.is_null();
  constexpr int kPAll = 0, kPPid = 1, kPPgid = 2, kPPidfd = 3;
  switch (type) {
    case kPAll:
      break;
    case kPPid:
      if (id <= 0) return Errno::kEINVAL;
      args.who = Who::kPid;
      args.pid = task.pid_namespace().Find(id);
      break;
    case kPPgid:
      if (id < 0) return Errno::kEINVAL;
      args.who = Who::kProcessGroup;
      if (id == 0) {
        MutexLock lock(task.kernel().tasks_mu());
        args.pid = task.group().process_group->id_ref();
      } else {
        args.pid = task.pid_namespace().Find(id);
      }
      break;
    case kPPidfd: {
      if (id < 0) return Errno::kEINVAL;
      RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(id));
      args.who = Who::kPid;
      args.pid = TRY(kernel::PidOf(*file));
      if (file->nonblocking()) {
        args.options |= kWnohang;
        kernel::Kernel::WaitResult probe = TRY(task.kernel().TryWait(task, [&] { auto a = args; a.options |= kWnowait; return a; }()));
        if (probe.pid == 0 && (options & kWnohang) == 0) return Errno::kEAGAIN;
      }
      break;
    }
    default:
      return Errno::kEINVAL;
  }
  kernel::Kernel::WaitResult result = TRY(Wait(task, args));
  if (!info_out.is_null()) {
    signal::Info info;
    if (result.pid != 0) {
      info.signo = signal::kSIGCHLD;
      info.code = result.code;
      info.child.pid = result.pid;
      info.child.uid = task.creds().user_ns->FromKernelUid(result.uid);
      int s = result.status;
      if (result.code == signal::kCldExited) info.child.status = (s >> 8) & 0xff;
      else if (result.code == signal::kCldStopped) info.child.status = (s >> 8) & 0xff;
      else if (result.code == signal::kCldTrapped) info.child.status = s >> 8;  // With the event.
      else if (result.code == signal::kCldContinued) info.child.status = signal::kSIGCONT;
      else info.child.status = s & 0x7f;
    }
    TRY(task.Write(info_out, info));
  }
  if (!rusage.is_null() && result.pid != 0) TRY(task.Write(rusage, ToRusage(result.usage)));
  return 0;
}

SyscallResult Getrusage(Task& task, int32_t who, GuestAddr out) {
  constexpr int kSelf = 0, kChildren = -1, kThread = 1;
  kernel::Usage usage;
  if (who == kSelf) {
    usage = task.group().GetUsage();
  } else if (who == kChildren) {
    usage = task.group().GetChildrenUsage();
  } else if (who == kThread) {
    usage.cpu = task.GetCpuTimes();
  } else {
    return Errno::kEINVAL;
  }
  if (who != kChildren) usage.AddMemory(task.mm().address_space().GetUsage());
  TRY(task.Write(out, ToRusage(usage)));
  return 0;
}

SyscallResult Times(Task& task, GuestAddr out) {
  constexpr uint64_t kTick = 10'000'000;  // CLOCKS_PER_SEC 100.
  if (!out.is_null()) {
    struct Tms { int64_t utime, stime, cutime, cstime; };
    kernel::Usage self = task.group().GetUsage();
    kernel::Usage children = task.group().GetChildrenUsage();
    TRY(task.Write(out, Tms{static_cast<int64_t>(self.cpu.user_ns / kTick), static_cast<int64_t>(self.cpu.system_ns / kTick),
                            static_cast<int64_t>(children.cpu.user_ns / kTick), static_cast<int64_t>(children.cpu.system_ns / kTick)}));
  }
  return time::BoottimeNow() / static_cast<int64_t>(kTick);
}

SyscallResult SetTidAddress(Task& task, GuestAddr address) {
  task.clear_child_tid = address;
  return task.TidIn(task.pid_namespace());
}

Result<void> MayAccessTask(Task& task, Task& target) { return kernel::Ptrace::MayAttach(task, target); }

}  // namespace caisson::syscalls
