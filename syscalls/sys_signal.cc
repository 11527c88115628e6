// Signals: actions, masks, kill and waits.
#include "sentry/kernel/pidfd.h"
#include "sentry/procfs/register.h"
#include "sentry/signal/frame_x86_64.h"
#include "syscalls/handlers.h"
#include "syscalls/io.h"

namespace caisson::syscalls {

using signal::Set;

namespace {

constexpr uint64_t kSigsetSize = 8;
constexpr uint64_t kKnownActionFlags =
    signal::kSaNocldstop | signal::kSaNocldwait | signal::kSaSiginfo | signal::kSaRestorer |
    signal::kSaOnstack | signal::kSaRestart | signal::kSaNodefer | signal::kSaResethand |
    signal::kSaExposeTagbits;

// The sender as it names itself.
signal::Info UserInfo(Task& sender, int signo, int code) {
  signal::Info info(signo, code);
  info.rt.pid = sender.TgidIn(sender.pid_namespace());
  info.rt.uid = sender.creds().user_ns->FromKernelUid(sender.creds().ruid);
  return info;
}

// The sender as `target` sees it (send_signal_locked(), has_si_pid_and_uid()).
signal::Info Translate(Task& sender, Task& target, signal::Info info) {
  constexpr int kSiSigio = -5;
  if (info.code == signal::kSiTimer || info.code == kSiSigio) return info;
  const RefPtr<auth::UserNamespace> theirs = target.creds_ref()->user_ns;
  const auth::UserNamespace& mine = *sender.creds().user_ns;
  if (theirs.get() != &mine) {
    const std::optional<uint32_t> uid = mine.ToKernelUid(info.rt.uid);
    info.rt.uid = uid ? theirs->FromKernelUid(*uid) : auth::kOverflowId;
  }
  if (sender.TgidIn(target.pid_namespace()) == 0) info.rt.pid = 0;
  return info;
}

// kill(2): real or effective id of the sender is the real or saved id of the target, or CAP_KILL;
// SIGCONT within a session. The target's leader.
Result<RefPtr<Task>> MayKill(Task& task, kernel::ThreadGroup& target, int signo) {
  RefPtr<Task> leader;
  bool same_session = false;
  {
    MutexLock lock(task.kernel().tasks_mu());
    if (target.leader == nullptr) return Errno::kESRCH;
    leader = RefPtr<Task>(target.leader);
    same_session = target.process_group && task.group().process_group &&
                   target.process_group->session() == task.group().process_group->session();
  }
  if (&target == &task.group()) return leader;
  RefPtr<const auth::Credentials> theirs = leader->creds_ref();
  const auth::Credentials& mine = task.creds();
  if (mine.euid == theirs->suid || mine.euid == theirs->ruid || mine.ruid == theirs->suid ||
      mine.ruid == theirs->ruid || mine.HasCapability(auth::Capability::kKill, *theirs->user_ns))
    return leader;
  if (signo == signal::kSIGCONT && same_session) return leader;
  return Errno::kEPERM;
}

Result<void> KillGroup(Task& task, kernel::ThreadGroup& target, signal::Info info) {
  RefPtr<Task> leader = TRY(MayKill(task, target, info.signo));
  if (info.signo == 0) return {};
  bool outside = !(&target.pid().ns() == &task.pid_namespace());
  bool overflow = false;
  target.SendSignal(Translate(task, *leader, info), &overflow, outside);
  if (overflow && info.code < 0 && info.code != signal::kSiTkill) return Errno::kEAGAIN;
  return {};
}

// Sends to all of `targets`: success if one got it (kill(2)).
SyscallResult KillAll(Task& task, const std::vector<RefPtr<kernel::ThreadGroup>>& targets,
                      const signal::Info& info) {
  bool any = false;
  Errno error = Errno::kESRCH;
  for (const auto& target : targets) {
    Result<void> sent = KillGroup(task, *target, info);
    if (sent.ok()) any = true;
    else error = sent.error();
  }
  if (any) return 0;
  return error;
}

std::vector<RefPtr<kernel::ThreadGroup>> MembersOf(Task& task, kernel::Pid* id) {
  std::vector<RefPtr<kernel::ThreadGroup>> out;
  MutexLock lock(task.kernel().tasks_mu());
  kernel::ProcessGroup* pg = id != nullptr ? id->process_group : task.group().process_group.get();
  if (pg == nullptr) return out;
  for (kernel::ThreadGroup* member : pg->members) out.emplace_back(member);
  return out;
}

}  // namespace

Result<Set> ReadSigset(Task& task, GuestAddr address, uint64_t size) {
  if (size != kSigsetSize) return Errno::kEINVAL;
  return task.Read<Set>(address);
}

SyscallResult RtSigaction(Task& task, int32_t signo, GuestAddr new_action, GuestAddr old_action,
                          uint64_t size) {
  if (size != kSigsetSize) return Errno::kEINVAL;
  if (!signal::IsValid(signo)) return Errno::kEINVAL;
  signal::Action action;
  if (!new_action.is_null()) {
    action = TRY(task.Read<signal::Action>(new_action));
    if (signo == signal::kSIGKILL || signo == signal::kSIGSTOP) return Errno::kEINVAL;
  }
  signal::Action old = task.group().actions()->Get(signo);
  if (!new_action.is_null()) {
    action.flags &= kKnownActionFlags;
    action.mask &= ~signal::kUnblockable;
    task.group().actions()->Set(signo, action);
    // Setting a disposition that ignores drops what is pending (POSIX).
    if (task.group().actions()->IsIgnored(signo)) task.DropPending(signal::Bit(signo));
  }
  if (!old_action.is_null()) TRY(task.Write(old_action, old));
  return 0;
}

SyscallResult RtSigprocmask(Task& task, int32_t how, GuestAddr set, GuestAddr old_set, uint64_t size) {
  if (size != kSigsetSize) return Errno::kEINVAL;
  Set old = task.signal_mask();
  if (!set.is_null()) {
    Set mask = TRY(task.Read<Set>(set));
    switch (how) {
      case 0: mask = old | mask; break;
      case 1: mask = old & ~mask; break;
      case 2: break;
      default: return Errno::kEINVAL;
    }
    task.SetSignalMask(mask);
  }
  if (!old_set.is_null()) TRY(task.Write(old_set, old));
  return 0;
}

SyscallResult RtSigpending(Task& task, GuestAddr set, uint64_t size) {
  if (size > kSigsetSize) return Errno::kEINVAL;
  Set pending = task.PendingSignals() & task.signal_mask();
  TRY(task.CopyOutBytes(set, {reinterpret_cast<const char*>(&pending), size}));
  return 0;
}

SyscallResult RtSigsuspend(Task& task, GuestAddr set, uint64_t size) {
  task.SetTemporaryMask(TRY(ReadSigset(task, set, size)));
  for (;;) {
    Result<void> slept = task.Block(time::kNever);
    if (!slept.ok()) return Errno::kERESTARTNOHAND;
  }
}

SyscallResult RtSigreturn(Task& task) {
  Result<signal::Returned> r =
      signal::PopFrame(task.mm(), task.kernel().platform(), task.context(), task.general_regs());
  task.MarkRegistersReplaced();
  if (!r.ok()) {
    task.ForceSignal(signal::Info(signal::kSIGSEGV));
    return 0;
  }
  task.SetSignalMask(r->mask);
  // As restore_altstack(): a bad one is ignored.
  if ((r->alt.flags & signal::kSsDisable) != 0 || r->alt.size >= task.kernel().platform().min_signal_stack()) {
    bool in_use = task.alt_stack().Contains(task.regs().rsp) && task.alt_stack().flags == 0;
    if (!in_use) task.alt_stack() = r->alt;
    task.alt_stack().flags &= ~signal::kSsOnstack;
  }
  return 0;
}

SyscallResult Sigaltstack(Task& task, GuestAddr new_stack, GuestAddr old_stack) {
  signal::AltStack& alt = task.alt_stack();
  const uint64_t sp = task.general_regs().rsp;
  const bool on = (alt.flags & (signal::kSsDisable | signal::kSsAutodisarm)) == 0 && alt.size != 0 && alt.Contains(sp);
  signal::AltStack old = alt;
  if (alt.size == 0) old.flags = signal::kSsDisable;
  else if (on) old.flags |= signal::kSsOnstack;
  if (!new_stack.is_null()) {
    signal::AltStack wanted = TRY(task.Read<signal::AltStack>(new_stack));
    if (on) return Errno::kEPERM;
    int32_t mode = wanted.flags & ~signal::kSsAutodisarm;
    if (mode != 0 && mode != signal::kSsOnstack && mode != signal::kSsDisable) return Errno::kEINVAL;
    wanted.pad = 0;
    if (mode == signal::kSsDisable) {
      wanted.sp = wanted.size = 0;
    } else {
      constexpr uint64_t kMinsigstksz = 2048;
      if (wanted.size < kMinsigstksz) return Errno::kENOMEM;
      wanted.flags &= ~signal::kSsOnstack;
    }
    alt = wanted;
  }
  if (!old_stack.is_null()) TRY(task.Write(old_stack, old));
  return 0;
}

SyscallResult Kill(Task& task, int32_t pid, SignalNumber signal_number) {
  const int signo = signal_number.value;
  if (signo < 0 || signo > signal::kSignalCount) return Errno::kEINVAL;
  signal::Info info = UserInfo(task, signo, signal::kSiUser);
  if (pid > 0) {
    RefPtr<kernel::ThreadGroup> target = task.kernel().FindThreadGroup(task.pid_namespace(), pid);
    if (!target) {
      // A thread's id names its process too (Linux find_vpid(), then group).
      RefPtr<Task> thread = task.kernel().FindTask(task.pid_namespace(), pid);
      if (!thread) return Errno::kESRCH;
      target = thread->group_ref();
    }
    TRY(KillGroup(task, *target, info));
    return 0;
  }
  if (pid == -1) {
    std::vector<RefPtr<kernel::ThreadGroup>> targets;
    for (const auto& g : task.kernel().ThreadGroups()) {
      if (g.get() == &task.group() || g->pid().NumberIn(task.pid_namespace()) <= 1) continue;
      targets.push_back(g);
    }
    return KillAll(task, targets, info);
  }
  if (pid == 0) return KillAll(task, MembersOf(task, nullptr), info);
  if (pid == INT32_MIN) return Errno::kESRCH;
  RefPtr<kernel::Pid> id = task.pid_namespace().Find(-pid);
  if (!id) return Errno::kESRCH;
  return KillAll(task, MembersOf(task, id.get()), info);
}

static SyscallResult ToThread(Task& task, int32_t tgid, int32_t tid, signal::Info info) {
  if (tid <= 0 || info.signo < 0 || info.signo > signal::kSignalCount) return Errno::kEINVAL;
  RefPtr<Task> target = task.kernel().FindTask(task.pid_namespace(), tid);
  if (!target || (tgid > 0 && target->TgidIn(task.pid_namespace()) != tgid)) return Errno::kESRCH;
  TRY(MayKill(task, target->group(), info.signo));
  if (info.signo == 0) return 0;
  bool overflow = false;
  target->SendThreadSignal(Translate(task, *target, info), &overflow, &target->pid_namespace() != &task.pid_namespace());
  if (overflow && info.code != signal::kSiTkill) return Errno::kEAGAIN;
  if (overflow && signal::IsRealtime(info.signo)) return Errno::kEAGAIN;
  return 0;
}

SyscallResult Tgkill(Task& task, int32_t tgid, int32_t tid, SignalNumber signo) {
  if (tgid <= 0) return Errno::kEINVAL;
  return ToThread(task, tgid, tid, UserInfo(task, signo.value, signal::kSiTkill));
}
SyscallResult Tkill(Task& task, int32_t tid, SignalNumber signo) {
  return ToThread(task, 0, tid, UserInfo(task, signo.value, signal::kSiTkill));
}

static Result<signal::Info> ReadUserInfo(Task& task, GuestAddr address, int32_t signo, bool self) {
  signal::Info info = TRY(task.Read<signal::Info>(address));
  info.signo = signo;
  // Only the kernel may claim to be the kernel, or kill() (sigqueue(3)).
  if ((info.code >= 0 || info.code == signal::kSiTkill) && !self) return Errno::kEPERM;
  return info;
}

SyscallResult RtSigqueueinfo(Task& task, int32_t pid, SignalNumber signo, GuestAddr info_address) {
  if (signo.value < 0 || signo.value > signal::kSignalCount) return Errno::kEINVAL;
  signal::Info info = TRY(ReadUserInfo(task, info_address, signo.value, pid == task.TgidIn(task.pid_namespace())));
  RefPtr<kernel::ThreadGroup> target = task.kernel().FindThreadGroup(task.pid_namespace(), pid);
  if (!target) return Errno::kESRCH;
  RefPtr<Task> leader = TRY(MayKill(task, *target, info.signo));
  if (info.signo == 0) return 0;
  bool overflow = false;
  target->SendSignal(Translate(task, *leader, info), &overflow, &target->pid().ns() != &task.pid_namespace());
  if (overflow) return Errno::kEAGAIN;
  return 0;
}
SyscallResult RtTgsigqueueinfo(Task& task, int32_t tgid, int32_t tid, SignalNumber signo, GuestAddr info_address) {
  if (tgid <= 0 || tid <= 0) return Errno::kEINVAL;
  return ToThread(task, tgid, tid,
                  TRY(ReadUserInfo(task, info_address, signo.value, tid == task.TidIn(task.pid_namespace()))));
}

SyscallResult RtSigtimedwait(Task& task, GuestAddr set, GuestAddr info_out, GuestAddr timeout, uint64_t size) {
  Set wanted = TRY(ReadSigset(task, set, size)) & ~signal::kUnblockable;
  int64_t deadline = time::kNever;
  if (!timeout.is_null()) deadline = DeadlineAfter(TRY(ReadTimespec(task, timeout)));
  signal::Info info;
  auto attempt = [&]() -> Result<int64_t> {
    if (task.TakeSignal(wanted, &info)) return int64_t{info.signo};
    return Errno::kEAGAIN;
  };
  Result<int64_t> result = attempt();
  if (!result.ok() && deadline > time::MonotonicNow()) {
    // A waited-for signal that is blocked must wake this thread: its queue announces it.
    result = vfs::WaitUntil(task, task.signal_queue(), kReadable, deadline, attempt);
    if (!result.ok() && result.error() == Errno::kETIMEDOUT) return Errno::kEAGAIN;
    if (!result.ok() && result.error() == Errno::kERESTARTSYS) return Errno::kEINTR;
  }
  int64_t signo = TRY(result);
  if (!info_out.is_null()) TRY(task.Write(info_out, info));
  return signo;
}

SyscallResult Pause(Task& task) {
  for (;;) {
    if (!task.Block(time::kNever).ok()) return Errno::kERESTARTNOHAND;
  }
}

SyscallResult RestartSyscall(Task& task) {
  auto block = std::move(task.restart_block());
  task.restart_block() = nullptr;
  if (!block) return Errno::kEINTR;
  return block(task);
}

SyscallResult PidfdOpen(Task& task, int32_t pid, Flags flags) {
  if ((flags.value & ~vfs::kOpenNonblock) != 0 || pid <= 0) return Errno::kEINVAL;
  RefPtr<kernel::Pid> id = task.pid_namespace().Find(pid);
  if (!id) return Errno::kESRCH;
  RefPtr<kernel::ThreadGroup> group = task.kernel().FindThreadGroup(task.pid_namespace(), pid);
  if (!group) return Errno::kEINVAL;
  return TRY(task.fd_table().Install(
      kernel::NewPidfd(std::move(id), std::move(group), (flags.value & vfs::kOpenNonblock) != 0), 0,
      NofileLimit(task), true));
}

SyscallResult PidfdSendSignal(Task& task, Fd pidfd, SignalNumber signo, GuestAddr info_address, Flags flags) {
  if (flags.value != 0 || signo.value < 0 || signo.value > signal::kSignalCount) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(pidfd.value));
  Result<RefPtr<kernel::Pid>> id = kernel::PidOf(*file);
  if (!id.ok()) id = TRY(procfs::ProcessOfDirectory(*file));
  RefPtr<kernel::ThreadGroup> target;
  {
    MutexLock lock(task.kernel().tasks_mu());
    target = RefPtr<kernel::ThreadGroup>((*id)->group);
  }
  if (!target) return Errno::kESRCH;
  signal::Info info = UserInfo(task, signo.value, signal::kSiUser);
  if (!info_address.is_null())
    info = TRY(ReadUserInfo(task, info_address, signo.value, target.get() == &task.group()));
  TRY(KillGroup(task, *target, info));
  return 0;
}

SyscallResult PidfdGetfd(Task& task, Fd pidfd, Fd target_fd, Flags flags) {
  if (flags.value != 0) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(pidfd.value));
  RefPtr<kernel::Pid> id = TRY(kernel::PidOf(*file));
  RefPtr<Task> target;
  {
    MutexLock lock(task.kernel().tasks_mu());
    target = RefPtr<Task>(id->task);
  }
  if (!target) return Errno::kESRCH;
  TRY(MayAccessTask(task, *target));
  RefPtr<kernel::FdTable> table = target->fd_table_ref();
  if (!table) return Errno::kESRCH;
  return TRY(task.fd_table().Install(TRY(table->Get(target_fd.value)), 0, NofileLimit(task), true));
}

}  // namespace caisson::syscalls
