// A thread group: what users call a process (Linux signal_struct).
#ifndef CAISSON_SENTRY_KERNEL_THREAD_GROUP_H_
#define CAISSON_SENTRY_KERNEL_THREAD_GROUP_H_

#include <atomic>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "base/ref.h"
#include "base/wait_queue.h"
#include "platform/platform.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/rlimits.h"
#include "sentry/kernel/session.h"
#include "sentry/kernel/signal_actions.h"
#include "sentry/signal/signal.h"
#include "time/clock.h"

namespace caisson::vfs::tty {
class Tty;
}

namespace caisson::kernel {

class Kernel;
class ProcessTimers;
class Task;

struct CpuTimes {
  uint64_t user_ns = 0;
  uint64_t system_ns = 0;
  CpuTimes& operator+=(const CpuTimes& o) {
    user_ns += o.user_ns;
    system_ns += o.system_ns;
    return *this;
  }
};
// getrusage(2).
struct Usage {
  CpuTimes cpu;
  uint64_t max_rss_kb = 0, minor_faults = 0, major_faults = 0, in_blocks = 0, out_blocks = 0,
           voluntary_switches = 0, involuntary_switches = 0;
  void Add(const Usage& o);
  void AddMemory(const platform::AddressSpace::Usage& o);
};

// Locks: members under "tasks lock" are guarded by Kernel::tasks_mu(); those under "signal lock"
// by signal_mu, which is taken after it.
class ThreadGroup : public RefCounted<ThreadGroup> {
 public:
  ThreadGroup(Kernel& kernel, RefPtr<Pid> pid, RefPtr<SignalActions> actions, const Rlimits& limits);
  ~ThreadGroup();

  Kernel& kernel() const { return kernel_; }
  Pid& pid() const { return *pid_; }
  const RefPtr<Pid>& pid_ref() const { return pid_; }
  Rlimits& limits() { return limits_; }
  const Rlimits& limits() const { return limits_; }
  ProcessTimers& timers() { return *timers_; }
  int64_t start_time() const { return start_time_; }  // CLOCK_BOOTTIME, ns.
  // /proc/PID/oom_score_adj and coredump_filter, inherited by fork(2); loginuid.
  std::atomic<int> oom_score_adj{0};            // Relaxed.
  std::atomic<int> oom_score_adj_min{0};        // What an unprivileged task may go down to. Relaxed.
  std::atomic<uint32_t> coredump_filter{0x33};  // Relaxed.
  std::atomic<uint32_t> membarrier_registrations{0};  // membarrier(2) commands. Relaxed.
  std::atomic<uint32_t> login_uid{~0u};         // Kernel id, unset. Relaxed.

  // --- Tasks lock. ---
  Task* leader = nullptr;             // Kept (as a zombie) until the group is reaped.
  // Live ones, and the leader. Changed under the tasks lock and the signal lock together, so
  // either suffices to read them.
  std::vector<RefPtr<Task>> tasks;
  int live_tasks = 0;
  ThreadGroup* parent = nullptr;      // The parent holds its children; null for init.
  std::vector<RefPtr<ThreadGroup>> children;
  RefPtr<ProcessGroup> process_group;
  RefPtr<vfs::tty::Tty> controlling_tty;  // As Linux's signal->tty.
  int exit_signal = signal::kSIGCHLD;  // 0: none (clone).
  bool zombie = false;                // All tasks have ended, wait(2) has not come.
  bool reaped = false;
  bool is_subreaper = false;
  uint64_t forked_by = 0;             // Task::unique_id() of the thread that made it.
  bool did_exec = false;              // setpgid(2) by the parent gives EACCES.
  int32_t wait_status = 0;            // As wait(2) gives it, once zombie.
  int32_t stop_report = 0;            // Signal of a stop that wait(WUNTRACED) has not seen.
  bool continue_report = false;
  Usage dead_usage;                   // Of ended tasks.
  Usage children_usage;               // Of reaped children.
  int late_ends = 0;                  // Address spaces of both whose memory usage is not in them yet.
  RefPtr<ThreadGroup> charged_to;     // The parent that has reaped it, as long as there are any.
  WaitQueue child_events;             // Something wait(2) in this group may want (own locking).
  WaitQueue exit_queue;               // The group became a zombie (pidfd poll).
  WaitQueue exec_queue;               // A task ended (exec waits for the others).

  // --- Signal lock. ---
  mutable Mutex signal_mu;
  signal::Queue shared_pending ABSL_GUARDED_BY(signal_mu);
  bool group_exiting ABSL_GUARDED_BY(signal_mu) = false;
  int32_t group_exit_status ABSL_GUARDED_BY(signal_mu) = 0;  // Wait status.
  Task* exec_task ABSL_GUARDED_BY(signal_mu) = nullptr;  // The thread that kills the others in exec.
  int stop_signal ABSL_GUARDED_BY(signal_mu) = 0;    // A group stop is wanted or in force.
  int stopped_tasks ABSL_GUARDED_BY(signal_mu) = 0;
  bool stopped ABSL_GUARDED_BY(signal_mu) = false;   // All live tasks have stopped.
  bool continue_pending ABSL_GUARDED_BY(signal_mu) = false;  // The parent is yet to be told.
  // Init of a pid namespace: signals without a handler do nothing (SIGNAL_UNKILLABLE).
  bool unkillable ABSL_GUARDED_BY(signal_mu) = false;

  RefPtr<SignalActions> actions() const;
  void set_actions(RefPtr<SignalActions> actions);

  // Queues a signal for the group (kill(2)); the tasks lock may be held or not, the signal lock
  // not. `force`: the sender is outside the target's pid namespace, or the kernel. Returns false if it was dropped (ignored, or a duplicate). EAGAIN-type overflow of
  // sigqueue(2) sets *overflow.
  bool SendSignal(const signal::Info& info, bool* overflow = nullptr, bool force = false);
  // Tells the parent of a stop or of its end (SIGCHLD, wait(2)). They take the tasks lock.
  void NotifyStopped(int signo);
  void NotifyContinued();
  // Ends all tasks with this wait status (exit_group(2), fatal signals).
  void Kill(int32_t wait_status);
  bool IsExiting() const;
  // A child's or tracee's real uid as our user namespace has it; under the tasks lock.
  uint32_t UidSeenLocked(const Task& child) const;
  bool HasOtherThreads() const;  // More than one that lives.

  // Sums over live and dead tasks; takes the tasks lock.
  Usage GetUsage() const;
  // Of reaped children; waits for late ends.
  Usage GetChildrenUsage() const;
  std::string command() const;

 private:
  friend class Task;
  Kernel& kernel_;  // Outlives every thread group.
  const RefPtr<Pid> pid_;
  Rlimits limits_;
  const int64_t start_time_;
  mutable Mutex actions_mu_;
  RefPtr<SignalActions> actions_ ABSL_GUARDED_BY(actions_mu_);
  std::unique_ptr<ProcessTimers> timers_;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_THREAD_GROUP_H_
