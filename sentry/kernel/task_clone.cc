// clone(2), clone3(2), fork(2), vfork(2), unshare(2) (Linux kernel/fork.c, copy_process()).
#include "absl/cleanup/cleanup.h"
#include "netstack/sockets/sockets.h"
#include "sentry/ipc/namespace.h"
#include "sentry/kernel/clone_flags.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/task.h"
#include "vfs/tty/tty.h"

namespace caisson::kernel {
namespace {

Result<void> CheckCloneFlags(const CloneArgs& args) {
  uint64_t f = args.flags;
  if ((f & (kCloneNewns | kCloneFs)) == (kCloneNewns | kCloneFs)) return Errno::kEINVAL;
  if ((f & (kCloneNewuser | kCloneFs)) == (kCloneNewuser | kCloneFs)) return Errno::kEINVAL;
  if ((f & kCloneThread) != 0 && (f & kCloneSighand) == 0) return Errno::kEINVAL;
  if ((f & kCloneSighand) != 0 && (f & kCloneVm) == 0) return Errno::kEINVAL;
  if ((f & kCloneClearSighand) != 0 && (f & kCloneSighand) != 0) return Errno::kEINVAL;
  if ((f & kCloneThread) != 0 && (f & (kCloneNewuser | kCloneNewpid)) != 0) return Errno::kEINVAL;
  if ((f & kClonePidfd) != 0 && (f & kCloneDetached) != 0) return Errno::kEINVAL;
  return {};
}

// The set after CLONE_NEW* flags. `fs` is what moves into a new mount namespace.
Result<RefPtr<NamespaceSet>> CopyNamespaces(Task& task, const RefPtr<NamespaceSet>& old,
                                            uint64_t flags, const auth::Credentials& creds,
                                            FsContext& fs) {
  constexpr uint64_t kAny = kCloneNewns | kCloneNewuts | kCloneNewipc | kCloneNewnet |
                            kCloneNewpid | kCloneNewcgroup | kCloneNewtime;
  if ((flags & kAny) == 0) return old;
  if (!creds.HasCapability(auth::Capability::kSysAdmin)) return Errno::kEPERM;
  auto set = MakeRef<NamespaceSet>(*old);
  if ((flags & kCloneNewns) != 0) {
    vfs::VfsPath root = fs.root(), cwd = fs.cwd();
    const bool initial = creds.user_ns == task.kernel().root_user_ns();
    set->mount = old->mount->Clone({&root, &cwd}, initial ? nullptr : creds.user_ns);
    fs.set_root(root);
    fs.set_cwd(cwd);
    set->mount_owner = creds.user_ns;
  }
  if ((flags & kCloneNewuts) != 0) set->uts = old->uts->Clone(creds.user_ns);
  if ((flags & kCloneNewipc) != 0)
    set->ipc = MakeRef<ipc::IpcNamespace>(creds.user_ns, &task.kernel().shared_memory(), NextNamespaceInode());
  if ((flags & kCloneNewnet) != 0) {
    set->net = MakeRef<netstack::NetNamespace>(old->net->flight(), old->net->fs(), NextNamespaceInode());
    set->net_owner = creds.user_ns;
  }
  if ((flags & kCloneNewpid) != 0) {
    constexpr int kMaxLevel = 32;  // MAX_PID_NS_LEVEL.
    if (old->pid_for_children->level() >= kMaxLevel) return Errno::kENOSPC;
    set->pid_for_children = MakeRef<PidNamespace>(old->pid_for_children, creds.user_ns);
  }
  if ((flags & kCloneNewcgroup) != 0) set->cgroup = MakeRef<CgroupNamespace>(creds.user_ns);
  if ((flags & kCloneNewtime) != 0)
    set->time_for_children = MakeRef<TimeNamespace>(creds.user_ns, old->time_for_children->offsets());
  return set;
}

// CLONE_NEWUSER: a namespace owned by the caller, who has all capabilities in it
// (user_namespaces(7)).
Result<RefPtr<const auth::Credentials>> CopyCredentials(Task& task, uint64_t flags) {
  const RefPtr<const auth::Credentials> old = task.creds_ref();
  if ((flags & kCloneNewuser) == 0) return old;
  constexpr int kMaxLevel = 32;
  if (old->user_ns->level() > kMaxLevel) return Errno::kENOSPC;
  // A root directory may be all that keeps the caller from files (current_chrooted()).
  if (task.root() != task.mount_namespace().root()) return Errno::kEPERM;
  // The caller's ids must be mapped in its own namespace.
  if (!old->user_ns->MapsUid(old->euid) || !old->user_ns->MapsGid(old->egid)) return Errno::kEPERM;
  auto creds = MakeRef<auth::Credentials>(*old);
  creds->user_ns = MakeRef<auth::UserNamespace>(old->user_ns, old->euid, old->egid,
                                                (old->effective & auth::CapBit(auth::Capability::kSetfcap)) != 0);
  creds->permitted = creds->effective = creds->bounding = auth::kAllCapabilities;
  creds->inheritable = creds->ambient = 0;
  creds->securebits = 0;
  return RefPtr<const auth::Credentials>(creds);
}

}  // namespace

// The last step of clone(2): the child joins the tree, or there is an error and it never was.
Result<void> Task::Publish(const CloneArgs& args, Task& child, PidNamespace& pid_ns, PtraceEvent* event) {
  ThreadGroup& group = child.group();
  const bool thread = &group == group_.get();
  MutexLock lock(kernel_.tasks_mu());
  MutexLock signal_lock(group.signal_mu);
  // Lost against a kill of this group: the child must not outlive it unseen.
  if (IsKilled()) return Errno::kERESTARTNOINTR;
  // Its init may have ended since it was looked at, and has killed those it saw.
  if (pid_ns.dead) return Errno::kENOMEM;
  if (thread) {
    if (group.group_exiting || group.exec_task != nullptr) return Errno::kERESTARTNOINTR;
  } else {
    group.leader = &child;
    child.pid().group = &group;
    ThreadGroup* parent = group_.get();
    if ((args.flags & kCloneParent) != 0) {
      parent = group_->parent != nullptr ? group_->parent : group_.get();
      group.exit_signal = group_->exit_signal;
    }
    if (pid_ns.init == nullptr) {
      pid_ns.init = &group;
      group.unkillable = true;
    }
    group.parent = parent;
    group.forked_by = parent == group_.get() ? unique_id() : group_->forked_by;
    parent->children.push_back(child.group_ref());
    group.controlling_tty = group_->controlling_tty;
    group.process_group = group_->process_group;
    if (group.process_group) group.process_group->members.push_back(&group);
  }
  // copy_fs(): another thread's exec has seen who shares it.
  if ((args.flags & kCloneFs) != 0 && fs_->in_exec()) return Errno::kEAGAIN;
  // Here, so that another thread's TSYNC finds either the child or the filter that it copies.
  child.SetInitialSeccomp(seccomp_ref(), seccomp_mode());
  if (no_new_privs.load(std::memory_order_relaxed)) child.no_new_privs.store(true, std::memory_order_relaxed);
  child.pid().task = &child;
  group.tasks.emplace_back(&child);
  child.fs_->AddUser();
  ++group.live_tasks;
  // A stop or a pause that is under way holds the newcomer too.
  child.interrupt_.store(group.stop_signal != 0, std::memory_order_relaxed);
  if (trace_.tracer != nullptr) *event = Ptrace::InheritLocked(*this, child, args.flags, args.exit_signal);
  return {};
}

Result<void> Task::ReplaceVdso(mm::MemoryManager& mm, TimeNamespace& to) {
  const vdso::Files from = TRY(namespaces_->time->Vdso(kernel_.vdso()));
  return mm.ReplaceFile(*this, *from.data, TRY(to.Vdso(kernel_.vdso())).data);
}

SyscallResult Task::Clone(const CloneArgs& args) {
  TRY(CheckCloneFlags(args));
  const uint64_t flags = args.flags;
  const bool thread = (flags & kCloneThread) != 0;

  TaskCharge charge = TRY(kernel_.ChargeTask(container_, *creds_, this));

  RefPtr<const auth::Credentials> creds = TRY(CopyCredentials(*this, flags));
  RefPtr<FsContext> fs = (flags & kCloneFs) != 0 ? fs_ : fs_->Clone();
  RefPtr<NamespaceSet> namespaces = TRY(CopyNamespaces(*this, namespaces_, flags, *creds, *fs));
  if ((flags & kCloneVm) == 0) namespaces = EnterTime(std::move(namespaces));
  RefPtr<FdTable> fds = (flags & kCloneFiles) != 0 ? fd_table_ : fd_table_->Clone();
  RefPtr<mm::MemoryManager> mm = (flags & kCloneVm) != 0 ? mm_ : TRY(kernel_.late_ends().Retry([&] { return mm_->Fork(); }));
  if (namespaces->time != namespaces_->time) TRY(ReplaceVdso(*mm, *namespaces->time));
  RefPtr<PidNamespace> pid_ns =
      thread ? RefPtr<PidNamespace>(&pid_namespace()) : namespaces->pid_for_children;
  {
    MutexLock lock(kernel_.tasks_mu());
    if (pid_ns->dead) return Errno::kENOMEM;
  }
  RefPtr<Pid> pid = TRY(Pid::New(pid_ns, args.set_tid));

  std::unique_ptr<platform::Context> context = kernel_.platform().NewContext();
  {
    std::string fp(kernel_.platform().fp_state_size(), '\0');
    TRY(context_->GetFpState(absl::Span<char>(fp.data(), fp.size())));
    TRY(context->SetFpState(fp));
  }

  RefPtr<ThreadGroup> group;
  if (thread) {
    group = group_;
  } else {
    RefPtr<SignalActions> actions = group_->actions();
    if ((flags & kCloneSighand) == 0) actions = actions->Clone();
    if ((flags & kCloneClearSighand) != 0) actions->ResetHandlers();
    group = MakeRef<ThreadGroup>(kernel_, pid, std::move(actions), group_->limits());
    group->exit_signal = args.exit_signal;
    group->oom_score_adj = group_->oom_score_adj.load(std::memory_order_relaxed);
    group->oom_score_adj_min = group_->oom_score_adj_min.load(std::memory_order_relaxed);
    group->coredump_filter = group_->coredump_filter.load(std::memory_order_relaxed);
    group->membarrier_registrations = group_->membarrier_registrations.load(std::memory_order_relaxed);
    group->login_uid = group_->login_uid.load(std::memory_order_relaxed);
  }

  platform::Registers regs = full_regs();
  regs.rax = 0;
  regs.orig_rax = ~uint64_t{0};
  regs.rcx = regs.rip;
  regs.r11 = regs.eflags;
  if (!args.stack.is_null()) regs.rsp = args.stack.value;
  if ((flags & kCloneSettls) != 0) {
    if (args.tls.value >> 47 != 0) return Errno::kEPERM;
    regs.fs_base = args.tls.value;
  }

  auto child = MakeRef<Task>(Init{.kernel = &kernel_, .group = group, .pid = pid, .mm = mm,
                                  .fd_table = std::move(fds), .fs = std::move(fs),
                                  .creds = std::move(creds), .namespaces = std::move(namespaces),
                                  .container = container_, .context = std::move(context),
                                  .regs = regs, .comm = comm(), .charge = std::move(charge)});
  child->no_new_privs = no_new_privs.load();
  child->timer_slack = timer_slack.load();
  child->nice = nice.load();
  child->io_priority = io_priority.load();
  child->personality = personality.load();
  child->cpu_affinity = cpu_affinity.load();
  child->sched_policy = sched_policy.load();
  child->sched_priority = sched_priority.load();
  child->blocked_.store(signal_mask(), std::memory_order_relaxed);
  // A sharing child that is no vfork child starts without an alternate stack (sigaltstack(2)).
  if ((flags & (kCloneVm | kCloneVfork)) != kCloneVm) child->alt_stack_ = alt_stack_;
  if ((flags & kCloneChildCleartid) != 0) child->clear_child_tid = args.child_tid;
  RefPtr<VforkGate> gate;
  if ((flags & kCloneVfork) != 0) child->vfork_gate_ = gate = MakeRef<VforkGate>();

  // Everything that can fail comes before the child can be seen; what fails leaves no trace.
  int32_t pidfd = -1;
  absl::Cleanup release_fd = [&] {
    if (pidfd >= 0) fd_table_->Release(pidfd);
  };
  if ((flags & kClonePidfd) != 0) {
    pidfd = TRY(fd_table_->Reserve(group_->limits().soft(kRlimitNofile)));
    TRY(Write(args.pidfd, pidfd));
  }
  if ((flags & kCloneSysvsem) != 0) {
    (void)sem_undo();  // Shared from now on, whoever uses it first.
    child->sem_undo_ = sem_undo_;
  }
  // A process comes with a thread of its address space. One more is asked for now: later it is too late to refuse.
  if ((flags & kCloneVm) != 0)
    TRY(kernel_.late_ends().Retry([&] { return child->context().Prepare(mm->address_space()); }));
  TRY(child->Prepare());
  absl::Cleanup abandon = [&] { child->Abandon(); };
  PtraceEvent event = PtraceEvent::kNone;
  TRY(Publish(args, *child, *pid_ns, &event));
  std::move(abandon).Cancel();
  std::move(release_fd).Cancel();
  kernel_.total_forks_.fetch_add(1, std::memory_order_relaxed);
  if (!thread) group->timers().WatchCpuLimit();
  const int32_t visible_tid = pid->NumberIn(pid_namespace());
  if (pidfd >= 0) fd_table_->Fill(pidfd, NewPidfd(pid, group, false), true);
  // As Linux: failure to store here is the guest's loss, not the call's.
  if ((flags & kCloneParentSettid) != 0) (void)Write(args.parent_tid, visible_tid);
  if ((flags & kCloneChildSettid) != 0)
    (void)mm->CopyOut(args.child_tid, {reinterpret_cast<const char*>(&visible_tid), 4});
  mm.reset();  // Of what is the child's alone it is the only user from its first instruction on.
  child->Launch();
  if (event != PtraceEvent::kNone) ReportPtraceEvent(event, 0, pid.get());
  if (gate) {
    vfs::ContextWaiter waiter(*this);
    gate->queue().Add(waiter, kEventIn);
    while (!gate->is_open() && BlockKillable(time::kNever).ok()) {
    }
    gate->queue().Remove(waiter);
    ReportPtraceEvent(PtraceEvent::kVforkDone, 0, pid.get());
  }
  return visible_tid;
}

SyscallResult Task::Unshare(uint64_t flags) {
  constexpr uint64_t kKnown = kCloneFs | kCloneFiles | kCloneNewns | kCloneNewuts | kCloneNewipc |
                              kCloneNewnet | kCloneNewpid | kCloneNewuser | kCloneNewcgroup |
                              kCloneNewtime | kCloneSysvsem | kCloneThread | kCloneSighand | kCloneVm;
  if ((flags & ~kKnown) != 0) return Errno::kEINVAL;
  if ((flags & kCloneNewuser) != 0) flags |= kCloneThread | kCloneFs;
  if ((flags & kCloneNewns) != 0) flags |= kCloneFs;
  if ((flags & (kCloneThread | kCloneSighand | kCloneVm)) != 0) {
    MutexLock lock(kernel_.tasks_mu());
    if (group_->live_tasks > 1) return Errno::kEINVAL;
  }
  RefPtr<const auth::Credentials> creds = TRY(CopyCredentials(*this, flags));
  RefPtr<FsContext> fs = (flags & kCloneFs) != 0 ? fs_->Clone() : fs_;
  RefPtr<NamespaceSet> namespaces = TRY(CopyNamespaces(*this, namespaces_, flags, *creds, *fs));
  if ((flags & (kCloneSysvsem | kCloneNewipc)) != 0) sem_undo_.reset();
  if ((flags & kCloneFiles) != 0 && fd_table_->shared()) set_fd_table(fd_table_->Clone());
  set_fs(std::move(fs));
  set_namespaces(std::move(namespaces));
  CommitCreds(std::move(creds));
  return 0;
}

}  // namespace caisson::kernel
