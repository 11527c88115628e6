// The end of a task and of a thread group (Linux kernel/exit.c).
#include <algorithm>
#include <iterator>

#include "base/log.h"
#include "netstack/sockets/sockets.h"
#include "sentry/ipc/namespace.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/task.h"
#include "vfs/file_lock.h"
#include "vfs/tty/tty.h"

namespace caisson::kernel {
namespace {

// The host has so much back before anybody could miss it; less where there is a limit.
constexpr uint64_t kMaxLateMemory = uint64_t{32} << 20, kMaxLateLimitedMemory = uint64_t{8} << 20;

// What an address space had used, if it is gone now; once.
Usage ClaimUsage(platform::AddressSpace::FinalUsage& end) {
  platform::AddressSpace::Usage memory;
  Usage usage;
  if (end.Claim(&memory)) usage.AddMemory(memory);
  return usage;
}

}  // namespace

void Task::PrepareExit(int32_t wait_status) {
  exiting_ = true;
  exit_status_ = wait_status;
}

void Task::PrepareGroupExit(int32_t wait_status) {
  group_->Kill(wait_status);
  exiting_ = true;
  MutexLock lock(group_->signal_mu);
  exit_status_ = group_->group_exit_status;
}

bool Task::MayEndLate() const {
  if (!mm_ || mm_->ref_count() != 1 || !context_->IsHeld()) return false;
  // Its end, or its tracer, has more to wait for.
  if (group_->pid().ns().init == group_.get() || trace_flags_.load(std::memory_order_relaxed) != 0) return false;
  // All that is private: what cannot be written now may have been before.
  const mm::MemoryManager::Totals totals = mm_->totals();
  const uint64_t bytes = totals.virtual_bytes - totals.shared_virtual;
  MemoryHeadroom* headroom = kernel_.shared_memory().headroom();
  if (headroom == nullptr || !headroom->limited()) return bytes <= kMaxLateMemory;
  return bytes <= kMaxLateLimitedMemory && !headroom->IsShort(0);
}

// After the parent has been told. Whoever has been charged with the process's usage by now gets the rest.
void Task::EndLate(std::unique_ptr<platform::AddressSpace> space, LateEnds::Ticket ticket) {
  std::shared_ptr<platform::AddressSpace::FinalUsage> end = space->final_usage();
  space.reset();
  const Usage usage = ClaimUsage(*end);
  std::vector<RefPtr<ThreadGroup>> charged;  // Destroyed after the lock is dropped.
  {
    MutexLock lock(kernel_.tasks_mu());
    group_->dead_usage.Add(usage);
    for (ThreadGroup* group = group_.get();; group = charged.back().get()) {
      --group->late_ends;
      if (!group->charged_to) break;
      charged.push_back(group->charged_to);
      if (group->late_ends == 0) group->charged_to.reset();
      charged.back()->children_usage.Add(usage);
    }
  }
  kernel_.late_ends().Finish(ticket);
}

// What leaves the address space: robust futexes, clear_child_tid, the guest's host thread (Linux mm_release()).
void Task::ReleaseMemory(bool* late) {
  if (!mm_) return;
  LeaveMemory();
  *late = MayEndLate();
  if (mm_->ref_count() == 1 && !*late) {
    context_->DetachLast(mm_->address_space());
  } else {
    context_->Detach();
  }
}

void Task::LeaveMemory() {
  kernel_.futexes().ExitPi(futex::PiTask{.tid = pid().local(), .id = unique_id_, .id_of = nullptr});
  if (!robust_list.is_null()) {
    kernel_.futexes().ExitRobustList(*mm_, robust_list, pid().local());
    robust_list = GuestAddr();
  }
  if (!clear_child_tid.is_null()) {
    // Only for others to see: the last user of an address space has nobody to wake (mm_release()).
    if (mm_->ref_count() > 1) kernel_.futexes().ClearChildTid(*mm_, clear_child_tid);
    clear_child_tid = GuestAddr();
  }
}

// If it was the last reference to the address space: what that had used.
Usage Task::DropMm(RefPtr<mm::MemoryManager> mm) {
  if (!mm) return {};
  std::shared_ptr<platform::AddressSpace::FinalUsage> end = mm->address_space().final_usage();
  mm.reset();
  return ClaimUsage(*end);
}

// The task has left `table`: if nobody else uses it, its files are closed as by close(2).
void Task::CloseTable(RefPtr<FdTable> table) {
  if (!table || !table->DropUser()) return;
  for (RefPtr<vfs::FileDescription>& f : table->RemoveAll()) {
    (void)f->OnClose(*this);
    if (vfs::Inode* inode = f->inode(); inode != nullptr && inode->locks_if_any() != nullptr)
      inode->locks().ReleaseRecords(table.get());
  }
}

void Task::DropCharge() {
  TaskCharge charge;
  MutexLock lock(mu_);
  charge = std::move(charge_);
}

void Task::ReleaseTracees() {
  Kernel::Released released;
  Ptrace::Grave grave;
  MutexLock lock(kernel_.tasks_mu());
  for (ThreadGroup* g : Ptrace::ReleaseTraceesLocked(*this, &grave))
    kernel_.NotifyParentOfExitLocked(*g, released);
}

void Task::ExitTask() {
  // Who is killed waits for nobody who waits for it, and so two that trace each other end.
  if (IsKilled()) ReleaseTracees();
  if (trace_flags_.load(std::memory_order_relaxed) != 0 && mm_)
    ReportPtraceEvent(PtraceEvent::kExit, static_cast<uint32_t>(exit_status_), nullptr);
  bool late = false;
  ReleaseMemory(&late);
  // Pointers that others may take go first, then what their ends do, without locks.
  RefPtr<mm::MemoryManager> mm;
  RefPtr<FdTable> fds;
  RefPtr<FsContext> fs;
  {
    MutexLock lock(mu_);
    mm = std::move(mm_);
    fds = std::move(fd_table_);
  }
  sem_undo_.reset();
  Usage memory;
  if (vfork_gate_) {
    memory = DropMm(std::move(mm));
    vfork_gate_->Open();
    vfork_gate_.reset();
  }
  CloseTable(std::move(fds));
  // Nobody can take a reference any more; somebody may have.
  std::unique_ptr<platform::AddressSpace> space;
  LateEnds::Ticket ticket = 0;
  if (late && mm->ref_count() == 1) {
    space = std::move(*mm).TakeSpace();
    mm.reset();
    ticket = kernel_.late_ends().Begin();
  }
  // Else its host process has ended before the parent's wait returns. It has had some time for that by now.
  if (mm) memory = DropMm(std::move(mm));
  const CpuTimes times = FreezeCpuTimes();
  phase_.store(Phase::kDead, std::memory_order_seq_cst);

  bool stop_complete = false;
  int stop_signal = 0;
  RefPtr<vfs::tty::Tty> tty;
  int32_t led_session = 0;
  Kernel::Released released;  // Destroyed after the locks are dropped.
  RefPtr<Task> self_reference;
  bool last = false;
  Ptrace::Grave grave;
  std::vector<std::function<void(int32_t)>> callbacks;
  {
    MutexLock lock(kernel_.tasks_mu());
    // Before anybody hears of the end: who has waited for the last other user is alone (exit_fs()).
    fs_->DropUser();
    {
      MutexLock self_lock(mu_);
      fs = std::move(fs_);
    }
    std::vector<ThreadGroup*> ended = Ptrace::ReleaseTraceesLocked(*this, &grave);
    {
      MutexLock signal_lock(group_->signal_mu);
      exited_ = true;
      if (std::exchange(stop_counted_, false)) --group_->stopped_tasks;
      --group_->live_tasks;
      last = group_->live_tasks == 0;
      group_->dead_usage.cpu += times;
      group_->dead_usage.Add(memory);
      group_->late_ends += space != nullptr ? 1 : 0;
      if (group_->leader != this) {
        auto& tasks = group_->tasks;
        auto it = std::find_if(tasks.begin(), tasks.end(), [&](const auto& t) { return t.get() == this; });
        if (it != tasks.end()) {
          self_reference = std::move(*it);
          tasks.erase(it);
        }
        pid_->task = nullptr;
        DropCharge();
        pending_.Remove(~signal::Set{0});
      }
      if (!last && group_->stop_signal != 0 && !group_->stopped &&
          group_->stopped_tasks >= group_->live_tasks) {
        group_->stopped = stop_complete = true;
        stop_signal = group_->stop_signal;
      }
      if (last && !group_->group_exiting) {
        group_->group_exiting = true;
        group_->group_exit_status = exit_status_;
      }
    }
    // A thread that is no leader is a zombie to its tracer alone.
    if (group_->leader != this && trace_.tracer != nullptr)
      Ptrace::NotifyLocked(*this, (exit_status_ & 0x7f) == 0 ? signal::kCldExited : signal::kCldKilled,
                           (exit_status_ & 0x7f) == 0 ? (exit_status_ >> 8) & 0xff : exit_status_ & 0x7f);
    for (ThreadGroup* g : ended) kernel_.NotifyParentOfExitLocked(*g, released);
    if (last) {
      tty = std::move(group_->controlling_tty);
      Session& session = *group_->process_group->session();
      if (session.leader == group_.get()) led_session = session.id().global();
      kernel_.ExitGroupLocked(*group_, released);
      auto node = kernel_.exit_callbacks_.extract(group_.get());
      if (!node.empty()) callbacks = std::move(node.mapped());
    }
  }
  group_->exec_queue.Notify(kEventIn);
  if (tty && led_session != 0) tty->OnSessionLeaderExit(led_session);
  if (stop_complete) group_->NotifyStopped(stop_signal);
  if (last) {
    group_->timers().Stop();
    group_->exit_queue.Notify(kReadable);
    for (auto& callback : callbacks) callback(group_->wait_status);
  }
  if (space) EndLate(std::move(space), ticket);
  kernel_.platform().OnIdle();
}

// --- The end of a group; under the tasks lock ---

// The closest ancestor that adopts orphans, else the init of the namespace.
static ThreadGroup* FindReaper(ThreadGroup& dead) {
  for (ThreadGroup* g = dead.parent; g != nullptr; g = g->parent) {
    if (&g->pid().ns() != &dead.pid().ns() && g->pid().NumberIn(dead.pid().ns()) == 0) break;
    if (g->is_subreaper && g->live_tasks > 0) return g;
  }
  ThreadGroup* init = dead.pid().ns().init;
  // An init that has ended adopts nobody: it may be gone before they are.
  return init != &dead && init != nullptr && init->live_tasks > 0 ? init : nullptr;
}

void Kernel::NotifyParentOfExitLocked(ThreadGroup& group, Released& released) {
  ThreadGroup* parent = group.parent;
  const bool traced = group.leader != nullptr && group.leader->trace_.tracer != nullptr;
  if (traced && (parent == nullptr || !Ptrace::IsTracedByLocked(*group.leader, *parent))) {
    // The tracer first; the parent when that has seen it.
    const int status = group.wait_status;
    Ptrace::NotifyLocked(*group.leader, (status & 0x7f) == 0 ? signal::kCldExited : signal::kCldKilled,
                         (status & 0x7f) == 0 ? (status >> 8) & 0xff : status & 0x7f);
    return;
  }
  bool autoreap = parent == nullptr;
  if (parent != nullptr && group.exit_signal != 0) {
    signal::Info info(group.exit_signal);
    int status = group.wait_status;
    info.code = (status & 0x7f) == 0 ? signal::kCldExited : signal::kCldKilled;
    info.child.pid = group.pid().NumberIn(parent->pid().ns());
    info.child.uid = parent->UidSeenLocked(*group.leader);
    info.child.status = (status & 0x7f) == 0 ? (status >> 8) & 0xff : status & 0x7f;
    Usage usage = group.dead_usage;
    constexpr uint64_t kTick = 10'000'000;
    info.child.utime = static_cast<int64_t>(usage.cpu.user_ns / kTick);
    info.child.stime = static_cast<int64_t>(usage.cpu.system_ns / kTick);
    signal::Action action = parent->actions()->Get(signal::kSIGCHLD);
    if (!traced && group.exit_signal == signal::kSIGCHLD &&
        (action.handler == signal::kHandlerIgnore || (action.flags & signal::kSaNocldwait) != 0))
      autoreap = true;
    if (!(group.exit_signal == signal::kSIGCHLD && action.handler == signal::kHandlerIgnore))
      parent->SendSignal(info, nullptr, true);
  }
  if (autoreap) ReapLocked(group, released, /*waited_for=*/false);
  if (parent != nullptr) parent->child_events.Notify(kReadable);
}

void Kernel::ExitGroupLocked(ThreadGroup& group, Released& released) {
  {
    MutexLock signal_lock(group.signal_mu);
    group.wait_status = group.group_exit_status;
  }
  PidNamespace& ns = group.pid().ns();
  if (ns.init == &group) {
    // The namespace ends with its init: everybody in it is killed (pid_namespaces(7)).
    ns.dead = true;
    for (const RefPtr<Pid>& p : ns.All())
      if (p->group != nullptr && p->group != &group) p->group->Kill(signal::kSIGKILL);
  }
  // Process groups that lose their last link to the session and have stopped members are hung up.
  auto check_orphan = [&](ProcessGroup* pg, const ThreadGroup* ignored) {
    if (pg == nullptr || !IsOrphanedLocked(*pg, ignored)) return;
    bool any_stopped = false;
    for (ThreadGroup* member : pg->members) {
      MutexLock signal_lock(member->signal_mu);
      any_stopped |= member->stopped;
    }
    if (!any_stopped) return;
    for (ThreadGroup* member : pg->members) {
      member->SendSignal(signal::Info(signal::kSIGHUP));
      member->SendSignal(signal::Info(signal::kSIGCONT));
    }
  };
  ThreadGroup* reaper = FindReaper(group);
  std::vector<RefPtr<ThreadGroup>> children = std::move(group.children);
  group.children.clear();
  for (RefPtr<ThreadGroup>& child : children) {
    int death_signal = child->leader->pdeath_signal.load(std::memory_order_relaxed);
    child->parent = reaper;
    bool zombie = child->zombie;
    ThreadGroup* c = child.get();
    if (reaper != nullptr) {
      c->exit_signal = c->exit_signal == 0 ? 0 : signal::kSIGCHLD;
      reaper->children.push_back(child);
    }
    if (death_signal != 0) c->SendSignal(signal::Info(death_signal));
    if (zombie) NotifyParentOfExitLocked(*c, released);
    else if (c->process_group && c->process_group->session() == group.process_group->session().get() &&
             c->process_group.get() != group.process_group.get())
      check_orphan(c->process_group.get(), nullptr);
    released.groups.push_back(std::move(child));
  }
  group.zombie = true;
  if (RefPtr<ProcessGroup> pg = group.process_group) {
    if (Session* session = pg->session().get(); session->leader == &group) {
      session->leader = nullptr;
    }
    // Only if this was a link between the group and the rest of its session (kill_orphaned_pgrp()).
    ThreadGroup* parent = group.parent;
    if (parent != nullptr && parent->process_group && parent->process_group != pg &&
        parent->process_group->session() == pg->session())
      check_orphan(pg.get(), &group);
  }
  NotifyParentOfExitLocked(group, released);
}

void Kernel::ReapLocked(ThreadGroup& group, Released& released, bool waited_for) {
  CHECK(group.zombie && !group.reaped);
  group.reaped = true;
  Ptrace::Grave grave;  // Not the last references: the group has the task, the caller the group.
  if (group.leader != nullptr) {
    Ptrace::UnlinkLocked(*group.leader, &grave);
    // Now, not when the last reference goes: others may hold some for a while.
    group.leader->DropCharge();
    MutexLock signal_lock(group.signal_mu);
    group.leader->pending_.Remove(~signal::Set{0});
    group.shared_pending.Remove(~signal::Set{0});
    // Group and leader have kept each other.
    group.leader = nullptr;
    std::move(group.tasks.begin(), group.tasks.end(), std::back_inserter(released.tasks));
    group.tasks.clear();
  }
  released.groups.emplace_back(&group);
  if (ThreadGroup* parent = group.parent) {
    if (waited_for) {
      Usage total = group.dead_usage;
      total.Add(group.children_usage);
      parent->children_usage.Add(total);
      if (group.late_ends != 0) {
        parent->late_ends += group.late_ends;
        group.charged_to = RefPtr<ThreadGroup>(parent);
      }
    }
    auto& siblings = parent->children;
    auto it = std::find_if(siblings.begin(), siblings.end(), [&](const auto& c) { return c.get() == &group; });
    if (it != siblings.end()) siblings.erase(it);
    group.parent = nullptr;
  }
  if (group.process_group) {
    auto& members = group.process_group->members;
    members.erase(std::remove(members.begin(), members.end(), &group), members.end());
    // Now, not when the group object goes: the end of a process group changes its id's pointer,
    // which the tasks lock guards.
    group.process_group = nullptr;
  }
  group.pid().group = nullptr;
  group.pid().task = nullptr;
  if (group.pid().ns().init == &group) group.pid().ns().init = nullptr;
}

}  // namespace caisson::kernel
