#include "sentry/kernel/task.h"

#include <algorithm>

#include "netstack/sockets/sockets.h"
#include "sentry/ipc/namespace.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/kernel.h"

namespace caisson::kernel {

NamespaceSet::NamespaceSet() = default;
NamespaceSet::NamespaceSet(const NamespaceSet& o)
    : RefCounted<NamespaceSet>(), mount(o.mount), uts(o.uts), ipc(o.ipc), net(o.net),
      pid_for_children(o.pid_for_children), cgroup(o.cgroup), time(o.time),
      time_for_children(o.time_for_children), mount_owner(o.mount_owner), net_owner(o.net_owner) {}
NamespaceSet::~NamespaceSet() = default;

RefPtr<NamespaceSet> EnterTime(RefPtr<NamespaceSet> set) {
  if (set->time == set->time_for_children) return set;
  auto entered = MakeRef<NamespaceSet>(*set);
  entered->time = entered->time_for_children;
  entered->time->Freeze();
  return entered;
}

static uint64_t NextUniqueId() {
  static std::atomic<uint64_t> next{1};  // Relaxed: only uniqueness counts.
  return next.fetch_add(1, std::memory_order_relaxed);
}

Task::Task(Init init)
    : kernel_(*init.kernel),
      unique_id_(NextUniqueId()),
      group_(std::move(init.group)),
      container_(std::move(init.container)),
      pid_(std::move(init.pid)),
      mm_(std::move(init.mm)),
      fd_table_(std::move(init.fd_table)),
      fs_(std::move(init.fs)),
      creds_(std::move(init.creds)),
      namespaces_(std::move(init.namespaces)),
      user_(kernel_.users().Get(creds_->ruid)),
      charge_(std::move(init.charge)),
      comm_(std::move(init.comm)),
      context_(std::move(init.context)),
      regs_(init.regs) {
  if (fd_table_) fd_table_->AddUser();
}

Task::~Task() {
  // A task that never ran; one that did has closed its table in ExitTask().
  if (fd_table_) (void)fd_table_->DropUser();
}

Pid& Task::pid() const {
  MutexLock lock(mu_);
  return *pid_;  // Replaced only by the task itself, which keeps the old one until it has exited.
}
RefPtr<Pid> Task::pid_ref() const {
  MutexLock lock(mu_);
  return pid_;
}
PidNamespace& Task::pid_namespace() const { return pid().ns(); }

RefPtr<mm::MemoryManager> Task::mm_ref() const {
  MutexLock lock(mu_);
  return mm_;
}
RefPtr<FdTable> Task::fd_table_ref() const {
  MutexLock lock(mu_);
  return fd_table_;
}
RefPtr<FsContext> Task::fs_ref() const {
  MutexLock lock(mu_);
  return fs_;
}
RefPtr<const auth::Credentials> Task::creds_ref() const {
  MutexLock lock(mu_);
  return creds_;
}
RefPtr<NamespaceSet> Task::namespaces_ref() const {
  MutexLock lock(mu_);
  return namespaces_;
}
std::string Task::comm() const {
  MutexLock lock(mu_);
  return comm_;
}
void Task::set_comm(absl::string_view name) {
  MutexLock lock(mu_);
  comm_ = std::string(name.substr(0, 15));
}
RefPtr<auth::UserCounts> Task::user_ref() const {
  MutexLock lock(mu_);
  return user_;
}
void Task::set_creds(RefPtr<const auth::Credentials> creds) {
  RefPtr<auth::UserCounts> user;
  if (creds->ruid != creds_->ruid) user = kernel_.users().Get(creds->ruid);
  MutexLock lock(mu_);
  std::swap(creds_, creds);
  RenewAnswers();
  if (!user) return;
  charge_.MoveTo(user);
  std::swap(user_, user);
}
void Task::CommitCreds(RefPtr<const auth::Credentials> creds) {
  if (auth::EndsDumpability(*creds_, *creds)) {
    mm_->set_dumpable(0);
    pdeath_signal.store(0, std::memory_order_relaxed);
  }
  set_creds(std::move(creds));
}
void Task::set_fd_table(RefPtr<FdTable> table) {
  table->AddUser();
  {
    MutexLock lock(mu_);
    std::swap(fd_table_, table);
  }
  CloseTable(std::move(table));
}
void Task::set_fs(RefPtr<FsContext> fs) {
  if (fs == fs_) return;
  MutexLock tasks_lock(kernel_.tasks_mu());
  fs->AddUser();
  fs_->DropUser();
  MutexLock lock(mu_);
  std::swap(fs_, fs);
}
void Task::set_namespaces(RefPtr<NamespaceSet> set) {
  MutexLock lock(mu_);
  std::swap(namespaces_, set);
}

int32_t Task::TidIn(const PidNamespace& ns) const { return pid_ref()->NumberIn(ns); }
int32_t Task::TgidIn(const PidNamespace& ns) const { return group_->pid().NumberIn(ns); }
int32_t Task::ParentTgidIn(const PidNamespace& ns) const {
  MutexLock lock(kernel_.tasks_mu());
  return group_->parent != nullptr ? group_->parent->pid().NumberIn(ns) : 0;
}
int32_t Task::tgid() const { return group_->pid().global(); }
vfs::ProcessId Task::process_id() const { return {tgid(), group_->pid_ref()}; }
int32_t Task::Shown(const vfs::ProcessId& id) const {
  return id.hold ? static_cast<const Pid&>(*id.hold).NumberIn(pid_namespace()) : 0;
}
int32_t Task::tid() const { return pid().global(); }

char Task::StateCode() const {
  switch (phase_.load(std::memory_order_relaxed)) {
    case Phase::kBlocked: return 'S';
    case Phase::kStopped: return 'T';
    case Phase::kTraced: return 't';
    case Phase::kDead: return 'Z';
    default: return 'R';
  }
}

CpuTimes Task::GetCpuTimes() const {
  MutexLock lock(cpu_mu_);
  if (frozen_) return final_times_;
  CpuTimes times;
  times.user_ns = context_->GuestCpuTime();
  timespec ts{};
  // The thread cannot end meanwhile: it takes the lock in FreezeCpuTimes() before.
  if (has_clock_ && clock_gettime(cpu_clock_, &ts) == 0)
    times.system_ns = static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000 + ts.tv_nsec - cpu_clock_start_;
  return times;
}

CpuTimes Task::FreezeCpuTimes() {
  CpuTimes times = GetCpuTimes();
  MutexLock lock(cpu_mu_);
  frozen_ = true;
  final_times_ = times;
  return times;
}

void Task::DropSemUndo() { sem_undo_.reset(); }

ipc::SemUndoList& Task::sem_undo() {
  if (!sem_undo_) sem_undo_ = MakeRef<ipc::SemUndoList>();
  sem_undo_->set_process(process_id());
  return *sem_undo_;
}

Result<std::string> Task::ReadPath(GuestAddr from, bool allow_empty) {
  std::string path = TRY(memory_.CopyInString(from, vfs::kPathMax - 1));
  if (path.empty() && !allow_empty) return Errno::kENOENT;
  return path;
}

void Task::SendSignal(int signo, bool to_group) {
  signal::Info info(signo);
  if (!to_group) {
    SendThreadSignal(info);
    return;
  }
  MutexLock lock(kernel_.tasks_mu());
  if (!group_->process_group) return;
  for (ThreadGroup* member : group_->process_group->members) member->SendSignal(info);
}

// --- Blocking ---

Result<void> Task::Block(int64_t deadline) {
  memory_.Settle();
  phase_.store(Phase::kBlocked, std::memory_order_seq_cst);
  const Parker::Outcome outcome =
      parker_.Park(deadline, [this] { return interrupt_.load(std::memory_order_seq_cst); });
  phase_.store(Phase::kKernel, std::memory_order_seq_cst);
  switch (outcome) {
    case Parker::Outcome::kUnparked: return {};
    case Parker::Outcome::kStopped: return Errno::kERESTARTSYS;
    case Parker::Outcome::kTimedOut: break;
  }
  return Errno::kETIMEDOUT;
}

Result<void> Task::BlockKillable(int64_t deadline) {
  memory_.Settle();
  phase_.store(Phase::kBlocked, std::memory_order_seq_cst);
  const Parker::Outcome outcome =
      parker_.Park(deadline, [this] { return killed_.load(std::memory_order_seq_cst); });
  phase_.store(Phase::kKernel, std::memory_order_seq_cst);
  switch (outcome) {
    case Parker::Outcome::kUnparked: return {};
    case Parker::Outcome::kStopped: return Errno::kEINTR;
    case Parker::Outcome::kTimedOut: break;
  }
  return Errno::kETIMEDOUT;
}

}  // namespace caisson::kernel
