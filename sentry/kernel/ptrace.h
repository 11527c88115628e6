// ptrace(2): who traces whom, and what a tracer does to a stopped tracee (Linux kernel/ptrace.c).
#ifndef CAISSON_SENTRY_KERNEL_PTRACE_H_
#define CAISSON_SENTRY_KERNEL_PTRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "auth/credentials.h"
#include "base/ref.h"
#include "base/result.h"
#include "platform/registers.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/signal/signal.h"

namespace caisson::kernel {

class Kernel;
class Pid;
class PidNamespace;
class Task;
class ThreadGroup;

// PTRACE_EVENT_*. For the first seven PTRACE_O_TRACE... is the bit of that number.
enum class PtraceEvent : int {
  kNone, kFork, kVfork, kClone, kExec, kVforkDone, kExit, kSeccomp, kStop = 128,
};
// PTRACE_O_*.
inline constexpr uint32_t kPtraceSysgood = 1, kPtraceExitKill = 1 << 20,
                          kPtraceOptions = 0xff | kPtraceExitKill;

// Task::trace_flags_. Zero: not traced.
inline constexpr uint32_t kTraced = 1, kTraceSyscalls = 2, kTraceEmulate = 4, kTraceStep = 8;

// A task's part in tracing, as tracee and as tracer.
struct PtraceState {
  // Changed under the tasks lock and the signal lock of the tracee's group together: either
  // suffices to read them. The tracer lets go of its tracees before it ends.
  Task* tracer = nullptr;
  bool seized = false;
  uint32_t options = 0;                             // PTRACE_O_*.
  RefPtr<const auth::Credentials> tracer_creds;     // When it became the tracer.

  // Tasks lock. Ended threads stay here until wait(2) has seen them.
  std::vector<RefPtr<Task>> tracees;
  bool exec_gains = false;    // An exec is under way that may give it privileges.
  uint32_t exec_count = 0;

  // Signal lock.
  bool stopped = false;       // In a ptrace stop: registers and `fp` are the tracer's.
  bool listening = false;     // PTRACE_LISTEN.
  bool at_end = false;        // `stopped` at PTRACE_EVENT_EXIT: the task may have been killed already.
  bool trap_pending = false;    // JOBCTL_TRAP_STOP: PTRACE_INTERRUPT; any stop is one.
  bool trapping = false;        // JOBCTL_TRAPPING: who attaches waits for a stop, or for word that there is none.
  bool notify_pending = false;  // JOBCTL_TRAP_NOTIFY: a seized tracee's group goes on.
  int wait_code = 0;          // What wait(2) has not seen: a signal, and an event << 8.
  bool has_info = false;
  signal::Info info;          // Of the stop.
  uint64_t message = 0;       // PTRACE_GETEVENTMSG.
  int resume_signal = 0;
  std::string fp;             // The extended state; empty if there is none.
  bool fp_changed = false, registers_changed = false;
};

// What a stop is about.
struct PtraceStopArgs {
  int code = 0;                        // A signal, and an event << 8.
  int why = signal::kCldTrapped;       // Of the tracer's SIGCHLD.
  const signal::Info* info = nullptr;  // Null: a group stop of one that was not seized.
  uint64_t message = 0;
  Pid* message_pid = nullptr;          // Instead: this, as the tracer sees it.
  bool killable = true;                // False for the stop before the end.
  int otherwise = 0;                   // The result if there is no tracer any more.
};

// The tracer's side. All take the locks themselves but those that are named ...Locked, which need the
// tasks lock. Requests give ESRCH for a task that is not the caller's stopped tracee.
class Ptrace {
 public:
  // What may not be dropped under a lock.
  struct Grave {
    std::vector<RefPtr<Task>> tasks;
    std::vector<RefPtr<const auth::Credentials>> creds;
  };
  enum class Resumption : uint8_t { kContinue, kSyscall, kStep, kEmulate, kEmulateStep };

  // Whether `who` may look into `target`, another process: PTRACE_MODE_REALCREDS or PTRACE_MODE_FSCREDS of ptrace(2).
  enum class Ids : uint8_t { kReal, kFs };
  static bool MayAccess(const auth::Credentials& who, Ids ids, Task& target);
  // PTRACE_MODE_ATTACH_REALCREDS. Errors: EPERM.
  static Result<void> MayAttach(Task& caller, Task& target);
  static Result<void> TraceMe(Task& self);
  static Result<void> Attach(Task& tracer, Task& target, bool seize, uint32_t options);
  static Result<void> Detach(Task& tracer, Task& target, int signo);
  static Result<void> Resume(Task& tracer, Task& target, Resumption how, int signo);
  static Result<void> Interrupt(Task& tracer, Task& target);
  static Result<void> Listen(Task& tracer, Task& target);
  static Result<void> Kill(Task& tracer, Task& target);
  static Result<void> SetOptions(Task& tracer, Task& target, uint32_t options);

  // Errors besides ESRCH: EIO where there is no such state, EINVAL for one that the CPU refuses.
  static Result<platform::Registers> GetRegisters(Task& tracer, Task& target);
  // Errors: EIO for a selector or base that is not a user's, as of Linux's putreg().
  static Result<void> SetRegisters(Task& tracer, Task& target, const platform::Registers& regs);
  static Result<std::string> GetFp(Task& tracer, Task& target);
  static Result<void> SetFp(Task& tracer, Task& target, std::string fp);
  static Result<signal::Info> GetInfo(Task& tracer, Task& target);
  static Result<void> SetInfo(Task& tracer, Task& target, const signal::Info& info);
  static Result<uint64_t> GetMessage(Task& tracer, Task& target);
  static Result<signal::Set> GetMask(Task& tracer, Task& target);
  static Result<void> SetMask(Task& tracer, Task& target, signal::Set mask);
  // The `count` signals from `first` on that are queued for it, or with `shared` for its group.
  static Result<std::vector<signal::Info>> PeekSignals(Task& tracer, Task& target, bool shared,
                                                       uint64_t first, size_t count);
  // A stop at a system call, for PTRACE_GET_SYSCALL_INFO.
  struct CallStop {
    uint8_t op = 0;  // PTRACE_SYSCALL_INFO_*.
    platform::Registers regs{};
    uint64_t message = 0;
  };
  static Result<CallStop> GetCallStop(Task& tracer, Task& target);
  // Whether `target` is a stopped tracee.
  static Result<void> CheckStopped(Task& tracer, Task& target);
  // Its memory. Errors besides ESRCH: EIO if the tracer may not look at what it has executed.
  static Result<RefPtr<mm::MemoryManager>> MemoryOf(Task& tracer, Task& target);

  // TracerPid of /proc; 0 if there is none.
  static int32_t TracerTid(Task& target, const PidNamespace& ns);

  // By a tracee that was to stop for who attaches and does not.
  static void EndTrapping(Task& tracee);

  // For clone(2), before the child runs: makes it a tracee like its parent where that is asked for.
  // The signal lock of the child's group is held too. Returns the event to report.
  static PtraceEvent InheritLocked(Task& parent, Task& child, uint64_t clone_flags, int exit_signal);
  static void UnlinkLocked(Task& tracee, Grave* grave);
  // In a stop of its tracer's, who may ask and resume. Under the signal lock.
  static bool IsHeldLocked(const Task& tracee);
  // SIGKILL ends also the stop before the end. Under the signal lock of the group.
  static void EndLastStopsLocked(ThreadGroup& group);
  // SIGCHLD to the tracer, and a wake-up of its wait(2).
  static void NotifyLocked(Task& tracee, int why, int status);
  // `tracer` ends: its tracees go on or, with PTRACE_O_EXITKILL, end. Returns the groups whose end
  // their parents may be told of now.
  static std::vector<ThreadGroup*> ReleaseTraceesLocked(Task& tracer, Grave* grave);
  // Whether somebody of `group` traces the task.
  static bool IsTracedByLocked(const Task& task, const ThreadGroup& group);

 private:
  static Result<void> TraceMeInner(Task& self);
  static void Expose(Task& tracee);
  static void AwaitStop(Task& tracer, Task& target);
  template <typename F>
  static auto WithStopped(Task& tracer, Task& target, F f) -> decltype(f());
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_PTRACE_H_
