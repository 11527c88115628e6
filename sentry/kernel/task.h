// A guest thread (Linux task_struct), with a host thread of its own in the sentry.
#ifndef CAISSON_SENTRY_KERNEL_TASK_H_
#define CAISSON_SENTRY_KERNEL_TASK_H_

#include <time.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "auth/credentials.h"
#include "base/mutex.h"
#include "base/parker.h"
#include "base/ref.h"
#include "base/result.h"
#include "platform/platform.h"
#include "sentry/kernel/fd_table.h"
#include "sentry/kernel/host_threads.h"
#include "sentry/kernel/fs_context.h"
#include "sentry/kernel/late_ends.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/task_charge.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/kernel/task_memory.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/signal/signal.h"
#include "vfs/call_context.h"
#include "vfs/mount.h"

namespace caisson::ipc {
class IpcNamespace;
class SemUndoList;
}
namespace caisson::netstack {
class NetNamespace;
}

namespace caisson::loader {
struct PreparedImage;
}
namespace caisson::kernel {

class Kernel;
class Container;

using SyscallResult = Result<int64_t>;

// One vfork(2) parent waiting for its child to exec or exit.
class VforkGate : public RefCounted<VforkGate> {
 public:
  void Open() {
    open_.store(true, std::memory_order_release);  // Pairs with is_open() after the wake-up.
    queue_.Notify(kEventIn);
  }
  bool is_open() const { return open_.load(std::memory_order_acquire); }
  WaitQueue& queue() { return queue_; }

 private:
  std::atomic<bool> open_{false};
  WaitQueue queue_;
};

// The namespaces of a task but for user (in the credentials) and pid (in its Pid). A set is
// immutable and shared; a change makes a new one (Linux nsproxy).
struct NamespaceSet : public RefCounted<NamespaceSet> {
  NamespaceSet();
  NamespaceSet(const NamespaceSet& o);
  ~NamespaceSet();
  RefPtr<vfs::MountNamespace> mount;
  RefPtr<UtsNamespace> uts;
  RefPtr<ipc::IpcNamespace> ipc;
  RefPtr<netstack::NetNamespace> net;
  RefPtr<PidNamespace> pid_for_children;
  RefPtr<CgroupNamespace> cgroup;
  RefPtr<TimeNamespace> time, time_for_children;
  // Who owns the two that do not know it.
  RefPtr<auth::UserNamespace> mount_owner, net_owner;
};

// `set`, or one that is in the time namespace for children, as a process with memory of its own is
// from its start (timens_on_fork()).
RefPtr<NamespaceSet> EnterTime(RefPtr<NamespaceSet> set);

// What clone(2) and clone3(2) ask for.
struct CloneArgs {
  uint64_t flags = 0;  // CLONE_*, without the signal.
  int exit_signal = 0;
  GuestAddr stack;     // Null: the parent's stack pointer.
  GuestAddr tls;
  GuestAddr parent_tid, child_tid;
  GuestAddr pidfd;     // Where the descriptor is stored, if CLONE_PIDFD.
  std::vector<int32_t> set_tid;
};

struct ExecArgs {
  vfs::VfsPath start;
  std::string path;
  std::vector<std::string> argv, envp;
  bool empty_path = false;     // AT_EMPTY_PATH: `start` itself.
  bool no_follow = false;
  bool close_on_exec_file = false;  // The descriptor would be closed: scripts give ENOENT.
};

// Used by its own host thread, but for what is documented as callable from any.
class Task : public RefCounted<Task>, public vfs::CallContext {
 public:
  struct Init {
    Kernel* kernel = nullptr;
    RefPtr<ThreadGroup> group;
    RefPtr<Pid> pid;
    RefPtr<mm::MemoryManager> mm;
    RefPtr<FdTable> fd_table;
    RefPtr<FsContext> fs;
    RefPtr<const auth::Credentials> creds;
    RefPtr<NamespaceSet> namespaces;
    RefPtr<Container> container;
    std::unique_ptr<platform::Context> context;
    platform::Registers regs{};
    std::string comm;
    TaskCharge charge;
  };
  explicit Task(Init init);
  ~Task() override;

  // Finds a host thread, which waits for Launch() or Abandon(), one of which must follow: so
  // clone(2) can fail before the task can be seen. Errors: EAGAIN.
  Result<void> Prepare();
  void Launch();
  void Abandon();
  // Both at once, for a task that is in its group already: on failure it ends as if killed.
  // Errors: EAGAIN.
  Result<void> Start();

  Kernel& kernel() const { return kernel_; }
  ThreadGroup& group() const { return *group_; }
  const RefPtr<ThreadGroup>& group_ref() const { return group_; }
  Pid& pid() const;
  RefPtr<Pid> pid_ref() const;
  PidNamespace& pid_namespace() const;
  Container& container() const { return *container_; }
  const RefPtr<Container>& container_ref() const { return container_; }

  // --- Own thread only, no lock. ---
  // After a system call only the number, the arguments and rip hold, unless all are asked for
  // (platform::Context::FullRegisters()). To set registers no more than these is needed.
  platform::Registers& regs() { return regs_; }
  platform::Registers& full_regs() {
    context_->FullRegisters(regs_);
    return regs_;
  }
  // As full_regs(), without fs and gs base.
  platform::Registers& general_regs() {
    context_->GeneralRegisters(regs_);
    return regs_;
  }
  platform::Context& context() { return *context_; }
  mm::MemoryManager& mm() { return *mm_; }
  // For system calls of this task: as mm()'s copies, and cheaper. Own thread.
  TaskMemory& memory() { return memory_; }
  FdTable& fd_table() { return *fd_table_; }
  FsContext& fs() { return *fs_; }
  const NamespaceSet& namespaces() { return *namespaces_; }
  // A system call that has set all registers (rt_sigreturn, execve): no result is stored.
  void MarkRegistersReplaced() { registers_replaced_ = true; }
  // What the platform may answer by itself has changed, or may be answered so again. Any thread.
  void RenewAnswers() { answers_stale_.store(true, std::memory_order_relaxed); }
  // Every call is to reach the sentry from now on. Any thread.
  void StopAnswers() { context_->ClearAnswers(); }
  // What the end of this process undoes of its semop(2) calls; made when first asked for.
  ipc::SemUndoList& sem_undo();
  void DropSemUndo();  // Undoes them now: it leaves the IPC namespace.
  // For restart_syscall(2): what an interrupted call left (sleep, poll, futex).
  std::function<SyscallResult(Task&)>& restart_block() { return restart_block_; }

  // --- From any thread: references taken under mu_; null once the task has dropped them. ---
  RefPtr<mm::MemoryManager> mm_ref() const ABSL_LOCKS_EXCLUDED(mu_);
  RefPtr<FdTable> fd_table_ref() const ABSL_LOCKS_EXCLUDED(mu_);
  RefPtr<FsContext> fs_ref() const ABSL_LOCKS_EXCLUDED(mu_);
  RefPtr<const auth::Credentials> creds_ref() const ABSL_LOCKS_EXCLUDED(mu_);
  RefPtr<NamespaceSet> namespaces_ref() const ABSL_LOCKS_EXCLUDED(mu_);
  // Of the real uid. Never null.
  RefPtr<auth::UserCounts> user_ref() const ABSL_LOCKS_EXCLUDED(mu_);
  std::string comm() const ABSL_LOCKS_EXCLUDED(mu_);
  void set_comm(absl::string_view name) ABSL_LOCKS_EXCLUDED(mu_);  // Cut to 15 bytes.
  // Of a moment: R, S, D, T, Z, X as in /proc/PID/stat.
  char StateCode() const;
  CpuTimes GetCpuTimes() const ABSL_LOCKS_EXCLUDED(cpu_mu_);
  // The call it is in, or -1, and its arguments, for /proc/PID/syscall and debugging.
  int current_syscall() const { return current_syscall_.load(std::memory_order_relaxed); }

  // --- Changes by the own thread, seen by others. ---
  void set_creds(RefPtr<const auth::Credentials> creds) ABSL_LOCKS_EXCLUDED(mu_);
  // And what that does to the process (commit_creds()).
  void CommitCreds(RefPtr<const auth::Credentials> creds) ABSL_LOCKS_EXCLUDED(mu_);
  // Files that only this task had are closed as by close(2).
  void set_fd_table(RefPtr<FdTable> table) ABSL_LOCKS_EXCLUDED(mu_);
  void set_fs(RefPtr<FsContext> fs) ABSL_LOCKS_EXCLUDED(mu_);
  void set_namespaces(RefPtr<NamespaceSet> set) ABSL_LOCKS_EXCLUDED(mu_);
  // `mm`, which is as this task's, gets the clocks of time namespace `to`. By the task itself.
  // Errors: ENOMEM, EMFILE.
  Result<void> ReplaceVdso(mm::MemoryManager& mm, TimeNamespace& to);

  // Never used again in this sandbox; not 0.
  uint64_t unique_id() const { return unique_id_; }
  // --- Identifiers, as the caller's pid namespace shows them. ---
  int32_t TidIn(const PidNamespace& ns) const;
  int32_t TgidIn(const PidNamespace& ns) const;
  int32_t ParentTgidIn(const PidNamespace& ns) const ABSL_LOCKS_EXCLUDED(mu_);

  // --- vfs::CallContext. ---
  const auth::Credentials& creds() const override { return *creds_; }
  vfs::VfsPath root() const override { return fs_->root(); }
  vfs::VfsPath cwd() const override { return fs_->cwd(); }
  vfs::MountNamespace& mount_namespace() const override { return *namespaces_->mount; }
  vfs::FileMode umask() const override { return fs_->umask(); }
  uint64_t file_size_limit() const override { return group_->limits().soft(kRlimitFsize); }
  uint64_t open_file_limit() const override { return group_->limits().soft(kRlimitNofile); }
  RefPtr<auth::UserCounts> user_counts() const override { return user_ref(); }
  int32_t tgid() const override;
  vfs::ProcessId process_id() const override;
  int32_t Shown(const vfs::ProcessId& id) const override;
  int32_t tid() const override;
  Result<void> Block(int64_t deadline) override;
  bool IsEnding() const override { return IsKilled(); }
  void Wake() override { parker_.Unpark(); }
  const void* MarkWoken() override { return parker_.Mark(); }
  void SendSignal(int signo, bool to_group = false) override;
  Result<void> CopyInBytes(GuestAddr from, absl::Span<char> to) override {
    return memory_.CopyIn(from, to);
  }
  Result<void> CopyOutBytes(GuestAddr to, absl::Span<const char> from) override {
    return memory_.CopyOut(to, from);
  }
  void* owner() const override { return const_cast<Task*>(this); }
  // As Block(), but only a fatal signal interrupts (vfork, exec).
  Result<void> BlockKillable(int64_t deadline);

  // --- Guest memory. ---
  template <typename T>
  Result<T> Read(GuestAddr from) {
    return CopyInObject<T>(from);
  }
  template <typename T>
  Result<void> Write(GuestAddr to, const T& value) {
    return CopyOutObject(to, value);
  }
  // Errors: EFAULT, ENAMETOOLONG (PATH_MAX), and ENOENT for "" unless allowed.
  Result<std::string> ReadPath(GuestAddr from, bool allow_empty = false);

  // --- Signals (signal_delivery.cc). ---
  signal::Set signal_mask() const { return blocked_.load(std::memory_order_relaxed); }
  void SetSignalMask(signal::Set mask);
  // sigsuspend, ppoll, pselect, epoll_pwait: `mask` holds until a handler ran or the call ends.
  void SetTemporaryMask(signal::Set mask);
  // Ends the temporary mask without a signal having come.
  void RestoreMask();
  // Queues a signal for this thread (tgkill(2)); any thread.
  bool SendThreadSignal(const signal::Info& info, bool* overflow = nullptr, bool force = false);
  // A signal that cannot be blocked or ignored: a fault of its own instruction.
  void ForceSignal(const signal::Info& info);
  // Takes a pending signal of `wanted` (sigtimedwait, signalfd). False: none.
  bool TakeSignal(signal::Set wanted, signal::Info* out);
  signal::Set PendingSignals() const;
  // Of this thread only (SigPnd of /proc/PID/status).
  signal::Set PendingThreadSignals() const;
  // Forgets pending signals of the thread and its group (a disposition that ignores them).
  void DropPending(signal::Set signals);
  bool HasInterrupt() const { return interrupt_.load(std::memory_order_acquire); }
  bool IsKilled() const { return killed_.load(std::memory_order_acquire); }
  signal::AltStack& alt_stack() { return alt_stack_; }
  // Announces signals for signalfd and sigtimedwait waiters of this task and its group.
  WaitQueue& signal_queue() { return signal_queue_; }

  // --- Life (task_clone.cc, task_exec.cc, task_exit.cc). ---
  // Returns the child's tid in the caller's pid namespace.
  SyscallResult Clone(const CloneArgs& args);
  SyscallResult Exec(const ExecArgs& args);
  // exit(2): this thread ends after the current call.
  void PrepareExit(int32_t wait_status);
  // exit_group(2).
  void PrepareGroupExit(int32_t wait_status);
  SyscallResult Unshare(uint64_t flags);

  // prctl state, own thread (read by /proc without a lock where noted).
  std::atomic<bool> no_new_privs{false};   // Relaxed.
  std::atomic<int> pdeath_signal{0};       // Relaxed; read by the dying parent.
  std::atomic<uint64_t> timer_slack{50'000};
  std::atomic<int> nice{0};
  std::atomic<int> io_priority{0};
  std::atomic<uint32_t> personality{0};
  std::atomic<uint64_t> cpu_affinity{~uint64_t{0}};
  std::atomic<int> sched_policy{0};
  std::atomic<int> sched_priority{0};
  GuestAddr clear_child_tid;
  GuestAddr robust_list;

  // --- seccomp(2) (task_seccomp.cc). ---
  // Own thread; kept until the next call of it. Takes over what another thread's TSYNC gave.
  const SeccompFilter* seccomp_filter();
  RefPtr<SeccompFilter> seccomp_ref() const ABSL_LOCKS_EXCLUDED(seccomp_mu_);  // Any thread.
  int seccomp_mode() const { return seccomp_mode_.load(std::memory_order_relaxed); }
  // SECCOMP_MODE_STRICT. Errors: EINVAL where filters are in force.
  Result<void> SetSeccompStrict() ABSL_LOCKS_EXCLUDED(seccomp_mu_);
  // Adds a filter; with `sync` (SECCOMP_FILTER_FLAG_TSYNC) for every thread of the group. Returns
  // 0, or the tid of a thread whose filters differ. Errors: EINVAL, ENOMEM.
  SyscallResult AddSeccompFilter(std::vector<bpf::Instruction> program, bool log, bool sync);
  // Before the task runs.
  void SetInitialSeccomp(RefPtr<SeccompFilter> filter, int mode) ABSL_LOCKS_EXCLUDED(seccomp_mu_);

  // --- ptrace(2), as a tracee; own thread (ptrace_stop.cc). ---
  // SECCOMP_RET_TRACE. False: nobody wants to know.
  bool PtraceSeccomp(uint32_t data);

  // Runs until the task ends; the body of the host thread.
  void Run();

 private:
  friend class Kernel;
  friend class Ptrace;
  friend class ThreadGroup;
  static void ThreadMain(void* self);

  // Run loop (run_loop.cc).
  void HandleSyscall();
  void HandleTracedSyscall();
  void HandleFault(const platform::Event& event);
  bool EmulateVsyscall(const platform::Event& event);
  // Delivers signals, stops and exits; false once the task must end.
  bool HandlePendingWork();
  void ApplySyscallResult(const SyscallResult& result);
  void UpdateAnswers();
  bool MayAnswer() const;
  // signal_delivery.cc
  void RecalcInterruptLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(group_->signal_mu);
  void SignalWake(bool killed);
  bool DeliverOne();
  void DeliverToHandler(const signal::Info& info, const signal::Action& action);
  void RestartSyscallIfNeeded(const signal::Action* handler);
  void StopIfRequested();
  // One more has come to the group's stop. True if it was the last.
  bool CountStoppedLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(group_->signal_mu);
  bool QueueSignal(const signal::Info& info, bool to_group, bool force, bool* overflow);
  // ptrace_stop.cc
  int PtraceStop(const PtraceStopArgs& args);
  void PtraceReport(int code, uint64_t message, Pid* message_pid, bool killable);
  bool ReportPtraceEvent(PtraceEvent event, uint64_t message, Pid* message_pid);
  void ReportPtraceExec(Pid* old_pid);
  void PtraceCallStop(bool entry);
  bool PtraceSignal(signal::Info* info);
  bool PtraceTrap();
  bool EndOfStep(int signo, int code);
  void HideStep();
  void AdoptRestart();
  // task_clone.cc
  Result<void> Publish(const CloneArgs& args, Task& child, PidNamespace& pid_ns, PtraceEvent* event);
  // task_exit.cc
  static Usage DropMm(RefPtr<mm::MemoryManager> mm);
  // Whether the parent may hear of the end of the process before the host has ended the address space.
  bool MayEndLate() const;
  void EndLate(std::unique_ptr<platform::AddressSpace> space, LateEnds::Ticket ticket);
  void ExitTask();
  void CloseTable(RefPtr<FdTable> table);
  void DropCharge();
  CpuTimes FreezeCpuTimes() ABSL_LOCKS_EXCLUDED(cpu_mu_);
  void ReleaseMemory(bool* late);
  void ReleaseTracees();
  // The same, and the host thread stays.
  void LeaveMemory();
  // task_exec.cc
  Result<void> KillOtherThreads();
  bool MayExecInPlace(const auth::Credentials& next, vfs::FileDescription& file);
  Result<void> ReplaceMemory(RefPtr<mm::MemoryManager> mm, const loader::PreparedImage& image,
                             int dumpable);
  Result<RefPtr<auth::Credentials>> ExecCredentials(vfs::FileDescription& file, bool* secure);
  bool BeginExecCredentials();
  void EndExecCredentials(bool committed);

  Kernel& kernel_;  // Outlives every task.
  const uint64_t unique_id_;
  const RefPtr<ThreadGroup> group_;
  const RefPtr<Container> container_;
  mutable Mutex mu_;  // Below the tasks and signal locks. Guards the pointers for other threads.
  RefPtr<Pid> pid_;   // Under mu_ for others; exec of a non-leader takes the leader's.
  RefPtr<Pid> retired_pid_;  // The one before that (once at most): pid() has lent it out.
  RefPtr<mm::MemoryManager> mm_;
  RefPtr<FdTable> fd_table_;
  RefPtr<FsContext> fs_;
  bool fs_in_exec_ = false;  // FsContext::BeginExec() is ours. Own thread.
  RefPtr<const auth::Credentials> creds_;
  RefPtr<NamespaceSet> namespaces_;
  RefPtr<auth::UserCounts> user_;
  TaskCharge charge_ ABSL_GUARDED_BY(mu_);
  std::string comm_ ABSL_GUARDED_BY(mu_);

  std::unique_ptr<platform::Context> context_;
  TaskMemory memory_{*this};
  std::atomic<bool> answers_stale_{true};  // Relaxed: what StopAnswers() is for does not wait for it.
  platform::Registers regs_;
  bool registers_replaced_ = false;
  bool in_syscall_ = false;          // A result that may have to be restarted is in rax.
  Errno restart_code_ = Errno{0};    // kERESTART* of the last call, or 0.
  std::function<SyscallResult(Task&)> restart_block_;

  // Signals. pending_ under the group's signal lock; blocked_ is written by the own thread under
  // it and read anywhere.
  signal::Queue pending_;
  std::atomic<signal::Set> blocked_{0};
  signal::Set saved_mask_ = 0;
  bool has_saved_mask_ = false;
  signal::AltStack alt_stack_{.sp = 0, .flags = signal::kSsDisable};
  WaitQueue signal_queue_;
  uint64_t fault_trap_ = 0, fault_error_ = 0, fault_cr2_ = 0;  // For the next frame.
  // Linux's TIF_SIGPENDING: something waits for HandlePendingWork(). Set after the cause is
  // visible under the signal lock, cleared under it.
  std::atomic<bool> interrupt_{false};
  std::atomic<bool> killed_{false};  // The whole group ends, or exec of another thread.

  // Blocking.
  Parker parker_;
  enum class Phase : uint8_t { kKernel, kGuest, kBlocked, kStopped, kTraced, kDead };
  std::atomic<Phase> phase_{Phase::kKernel};  // Sequentially consistent against interrupt_.
  std::atomic<int> current_syscall_{-1};
  std::atomic<uint64_t> switches_{0};  // Ends of Switch(). Sequentially consistent with phase_.

  mutable Mutex seccomp_mu_;
  RefPtr<SeccompFilter> seccomp_ ABSL_GUARDED_BY(seccomp_mu_);
  std::atomic<bool> seccomp_changed_{false};  // Set under seccomp_mu_ after the change.
  RefPtr<SeccompFilter> seccomp_in_use_;      // Own thread.
  std::atomic<int> seccomp_mode_{0};          // SECCOMP_MODE_*, changed under seccomp_mu_.
  bool exiting_ = false;
  int32_t exit_status_ = 0;
  // Tracing: kTraced ...; changed under the signal lock, read anywhere. What an untraced task pays.
  std::atomic<uint32_t> trace_flags_{0};
  PtraceState trace_;
  bool forced_step_ = false;   // The trap flag in regs_ is the tracer's. Own thread.
  bool stop_counted_ = false;  // Has come to the group's stop. Signal lock.
  bool exited_ = false;  // Changed under the tasks and the signal lock: no longer live.
  RefPtr<ipc::SemUndoList> sem_undo_;  // Shared with CLONE_SYSVSEM.
  RefPtr<VforkGate> vfork_gate_;
  HostThreads::Thread* host_thread_ = nullptr;  // From Prepare() to Launch() or Abandon().
  // The host thread's CPU clock while it lives; the final times after.
  mutable Mutex cpu_mu_;
  bool has_clock_ ABSL_GUARDED_BY(cpu_mu_) = false;
  bool frozen_ ABSL_GUARDED_BY(cpu_mu_) = false;
  clockid_t cpu_clock_ ABSL_GUARDED_BY(cpu_mu_) = 0;
  uint64_t cpu_clock_start_ ABSL_GUARDED_BY(cpu_mu_) = 0;  // ns on it when this task began.
  CpuTimes final_times_ ABSL_GUARDED_BY(cpu_mu_);
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_TASK_H_
