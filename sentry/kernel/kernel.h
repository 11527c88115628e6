// The kernel of one sandbox: everything hangs off this object.
#ifndef CAISSON_SENTRY_KERNEL_KERNEL_H_
#define CAISSON_SENTRY_KERNEL_KERNEL_H_

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "auth/user_namespace.h"
#include "base/mutex.h"
#include "platform/platform.h"
#include "sentry/futex/futex.h"
#include "sentry/kernel/filesystems.h"
#include "sentry/kernel/host_threads.h"
#include "sentry/kernel/job_control.h"
#include "sentry/kernel/late_ends.h"
#include "sentry/kernel/load_average.h"
#include "sentry/kernel/namespace_file.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "time/clock.h"
#include "vfs/device.h"
#include "vfs/file_description.h"
#include "vfs/pipe/pipe_file.h"
#include "vfs/tmpfs/memfd.h"

namespace caisson::kernel {

class Container;

// Answers system calls; implemented by syscalls/, handed to the run loop.
class SyscallDispatcher {
 public:
  virtual ~SyscallDispatcher() = default;
  virtual SyscallResult Dispatch(Task& task, int number) = 0;
  // The task is about to act on a signal: for who watches.
  virtual void NoteSignal(Task&, const signal::Info&) {}
};

struct KernelConfig {
  uint32_t cpu_count = 1;          // CPUs that the guest sees.
  uint64_t total_memory = 0;       // Bytes.
  uint64_t hwcap = 0, hwcap2 = 0;
  uint64_t max_tasks = 8192;       // Of the sandbox, zombies included: each is a thread of the host's.
  // Of the cgroup that the sandbox is in; null if nobody can tell.
  std::shared_ptr<MemoryHeadroom> headroom;
};

// Thread-safe. Lock order: tasks lock, then a thread group's signal lock, then Task::mu_.
class Kernel {
 public:
  Kernel(std::unique_ptr<platform::Platform> platform, SyscallDispatcher& dispatcher,
         KernelConfig config);
  // After every task has ended.
  ~Kernel();

  platform::Platform& platform() { return *platform_; }
  time::TimerService& timers() { return timers_; }
  futex::FutexManager& futexes() { return futexes_; }
  SyscallDispatcher& dispatcher() { return dispatcher_; }
  const KernelConfig& config() const { return config_; }
  const vdso::Vdso& vdso() const { return vdso_; }
  const RefPtr<auth::UserNamespace>& root_user_ns() const { return root_user_ns_; }
  const RefPtr<PidNamespace>& root_pid_ns() const { return root_pid_ns_; }
  // The inode of epoll, eventfd, timerfd, signalfd and their like.
  const RefPtr<vfs::Inode>& anon_inode() const { return anon_inode_; }
  // Registered at boot, before the first task.
  FileSystemTypes& file_system_types() { return file_system_types_; }
  KernelJobControl& job_control() { return job_control_; }
  vfs::DeviceRegistry& devices() { return devices_; }
  vfs::PipeFactory& pipes() { return pipes_; }
  const NamespaceFiles& namespace_files() const { return namespace_files_; }
  mm::SharedMemoryFactory& shared_memory() { return shared_memory_; }
  // What all files in memory are charged to.
  const RefPtr<vfs::tmpfs::MemoryAccount>& file_memory() const { return file_memory_; }
  // The container's memory limit is this from now on (bytes; 0: none).
  void SetMemoryLimit(Container& container, uint64_t bytes);
  vfs::tmpfs::AnonymousFiles& anonymous_files() { return anonymous_files_; }
  int64_t boot_time() const { return boot_time_; }            // CLOCK_BOOTTIME at start, ns.
  int64_t boot_realtime() const { return boot_realtime_; }  // CLOCK_REALTIME at start, ns.

  // Guards the tree of thread groups, sessions, process groups and exit states.
  Mutex& tasks_mu() ABSL_LOCK_RETURNED(tasks_mu_) { return tasks_mu_; }

  // A new process without a parent: the first of a container, or one that `exec` starts.
  struct ProcessArgs {
    RefPtr<Container> container;
    RefPtr<const auth::Credentials> creds;
    RefPtr<FdTable> fd_table;
    RefPtr<FsContext> fs;
    RefPtr<NamespaceSet> namespaces;
    RefPtr<PidNamespace> pid_ns;
    Rlimits limits;
    std::string path;
    std::vector<std::string> argv, envp;
    uint32_t personality = 0;
    bool no_new_privs = false;
    RefPtr<SeccompFilter> seccomp;
    int nice = 0;
    int oom_score_adj = 0;
    bool leads_session = true;
  };
  // The task does not run before Start(). Errors: execve(2)'s.
  Result<RefPtr<Task>> NewProcess(ProcessArgs args);

  // All thread groups alive or zombie, by global pid order.
  std::vector<RefPtr<ThreadGroup>> ThreadGroups();
  uint64_t task_count() const { return task_count_.load(std::memory_order_relaxed); }
  // Of all tasks there are and of reaped children. Takes the tasks lock.
  CpuTimes TotalCpu();
  std::array<double, 3> GetLoadAverages();
  // Random, the same for the kernel's life (/proc/sys/kernel/random/boot_id).
  const std::array<uint8_t, 16>& boot_id() const { return boot_id_; }
  uint64_t total_forks() const { return total_forks_.load(std::memory_order_relaxed); }

  // kill(2) to groups of processes. Permission is the caller's to check with `allowed`.
  RefPtr<ThreadGroup> FindThreadGroup(const PidNamespace& ns, int32_t tgid);
  RefPtr<Task> FindTask(const PidNamespace& ns, int32_t tid);

  // Whether no member of the group has a parent in its session but outside the group (POSIX):
  // nobody could continue it after a stop. Takes the tasks lock.
  bool IsOrphanedProcessGroup(ThreadGroup& member);
  bool IsOrphanedLocked(const ProcessGroup& group, const ThreadGroup* without) const;

  // What has left the tree under the tasks lock; destroyed after it is dropped.
  struct Released {
    std::vector<RefPtr<ThreadGroup>> groups;
    std::vector<RefPtr<Task>> tasks;
  };
  // Takes a zombie out of the tree: its number is free again. Its parent is charged with its usage if it has
  // `waited_for` it (getrusage(2), RUSAGE_CHILDREN).
  void ReapLocked(ThreadGroup& group, Released& released, bool waited_for)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(tasks_mu_);
  auth::UserTable& users() { return users_; }
  // Counts one more task of the container and the user in. `task`: whose RLIMIT_NPROC holds; null
  // for a process that nobody has forked. Errors: EAGAIN.
  Result<TaskCharge> ChargeTask(RefPtr<Container> container, const auth::Credentials& creds, Task* task);

  // Sessions and process groups (setsid(2), setpgid(2)).
  Result<int32_t> Setsid(Task& task);
  Result<void> Setpgid(Task& task, int32_t pid, int32_t pgid);
  // wait4(2), waitid(2).
  struct WaitArgs {
    enum class Who { kAny, kPid, kProcessGroup } who = Who::kAny;
    RefPtr<Pid> pid;        // kPid, kProcessGroup (null: no such process).
    uint32_t options = 0;   // W*.
    bool wants_usage = false;
  };
  struct WaitResult {
    int32_t pid = 0;        // In the waiter's namespace; 0 with WNOHANG.
    uint32_t uid = 0;       // Kernel id.
    int code = 0;           // CLD_*.
    int32_t status = 0;     // As wait(2).
    Usage usage;
  };
  // Errors: ECHILD; EAGAIN where nothing has happened yet (or WaitResult.pid 0 with WNOHANG).
  Result<WaitResult> TryWait(Task& task, const WaitArgs& args);
  LateEnds& late_ends() { return late_ends_; }

  // Runs once when the group ends (any thread; at once if it has): the control server's wait.
  void OnExit(ThreadGroup& group, std::function<void(int32_t wait_status)> callback);

  // membarrier(2): when it returns, every other thread of the caller's address space (or of the
  // sandbox) has been through a full barrier.
  void MemoryBarrier(Task& self, bool everyone);

  // Holds all tasks before they return to the guest, and lets them go again. When Pause() returns, none is
  // in guest code or being answered (but one that could not be interrupted within a second). At `until`
  // (ns, CLOCK_MONOTONIC) they go by themselves: who paused may not be able to say Resume().
  // Who paused again meanwhile has moved that end.
  void Pause(int64_t until) ABSL_LOCKS_EXCLUDED(tasks_mu_, pause_mu_);
  void Resume() ABSL_LOCKS_EXCLUDED(pause_mu_);
  void WaitWhilePaused(Task& task);
  // Whether platforms may answer calls that the sentry then does not see.
  void AllowAnswers(bool allow) ABSL_LOCKS_EXCLUDED(tasks_mu_);
  // Not beyond `until`, whether a task has come to see it or all sleep in calls.
  bool paused() const;

  // What syslog(2) and dmesg show.
  std::string KernelLog() const;
  // Memory as /proc/meminfo and sysinfo(2) show it to a container, bytes.
  struct MemoryInfo {
    uint64_t total = 0, free = 0, available = 0, used = 0, shared = 0, cached = 0;
  };
  MemoryInfo GetMemoryInfo(const Container& container);
  // What the container sees as all memory, bytes.
  uint64_t TotalMemory(const Container& container) const;

  // An unsupported call, option or ioctl: logged once, counted.
  void NoteUnsupported(const std::string& what);
  std::map<std::string, uint64_t> Unsupported() const;

 private:
  friend class Task;
  friend class ThreadGroup;
  // Has every task in guest code come out of it once: all, or those of one address space.
  void PassThroughKernel(const mm::MemoryManager* of, const Task* except,
                         absl::FunctionRef<bool()> tired) ABSL_LOCKS_EXCLUDED(tasks_mu_);
  void ExitGroupLocked(ThreadGroup& group, Released& released)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(tasks_mu_);
  // What wait(2) takes out of the tree.
  struct WaitGrave {
    Released released;
    Ptrace::Grave trace;
  };
  // *late: a child has ended, but not its address space, whose usage is wanted.
  Result<WaitResult> TryWaitOnce(Task& task, const WaitArgs& args, bool* late);
  std::optional<WaitResult> TryWaitTracee(Task& tracer, Task& tracee, const WaitArgs& args,
                                          WaitGrave* grave) ABSL_EXCLUSIVE_LOCKS_REQUIRED(tasks_mu_);
  void NotifyParentOfExitLocked(ThreadGroup& group, Released& released)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(tasks_mu_);
  auth::UserTable users_;       // First: all below may count in it.
  TaskCharge::Limit task_limit_;
  std::unique_ptr<platform::Platform> platform_;
  LateEnds late_ends_;
  const vdso::Vdso vdso_;
  SyscallDispatcher& dispatcher_;
  const KernelConfig config_;
  const int64_t boot_time_;
  const int64_t boot_realtime_;
  const std::array<uint8_t, 16> boot_id_;
  LoadAverage load_average_;
  time::TimerService timers_;
  futex::FutexManager futexes_;
  RefPtr<auth::UserNamespace> root_user_ns_;
  RefPtr<PidNamespace> root_pid_ns_;
  FileSystemTypes file_system_types_;
  KernelJobControl job_control_{*this};
  vfs::DeviceRegistry devices_;
  vfs::PipeFactory pipes_;
  const NamespaceFiles namespace_files_;
  const RefPtr<vfs::tmpfs::MemoryAccount> file_memory_;
  vfs::tmpfs::AnonymousFiles anonymous_files_{file_memory_};
  class SharedMemory final : public mm::SharedMemoryFactory {
   public:
    SharedMemory(vfs::tmpfs::AnonymousFiles& files, MemoryHeadroom* headroom)
        : files_(files), headroom_(headroom) {}
    Result<RefPtr<vfs::FileDescription>> NewSharedAnonymous(vfs::CallContext& ctx, uint64_t length) override {
      return files_.NewSharedAnonymous(ctx, length);
    }
    Result<RefPtr<vfs::FileDescription>> NewSegment(vfs::CallContext& ctx, absl::string_view name, uint64_t length) override {
      return files_.NewFile(ctx, name, length, 0600, 0);
    }
    MemoryHeadroom* headroom() override { return headroom_; }

   private:
    vfs::tmpfs::AnonymousFiles& files_;
    MemoryHeadroom* const headroom_;
  } shared_memory_{anonymous_files_, config_.headroom.get()};
  const RefPtr<vfs::Inode> anon_inode_;
  Mutex tasks_mu_;
  std::map<const ThreadGroup*, std::vector<std::function<void(int32_t)>>> exit_callbacks_
      ABSL_GUARDED_BY(tasks_mu_);
  std::atomic<uint64_t> task_count_{0};   // Tasks with a host thread.
  std::atomic<uint64_t> total_forks_{0};
  Mutex pause_mu_;  // Of changes of the next two.
  std::atomic<bool> paused_{false};
  std::atomic<int64_t> paused_until_{0};
  std::atomic<bool> answers_allowed_{true};
  WaitQueue resume_queue_;
  mutable Mutex unsupported_mu_;
  std::map<std::string, uint64_t> unsupported_ ABSL_GUARDED_BY(unsupported_mu_);
  HostThreads host_threads_;  // The last: its end waits for threads that may still look at the rest.
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_KERNEL_H_
