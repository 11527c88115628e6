// A terminal: a pair of ends with the line discipline between them (pty(7)).
#ifndef CAISSON_VFS_TTY_TTY_H_
#define CAISSON_VFS_TTY_TTY_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "base/wait_queue.h"
#include "vfs/call_context.h"
#include "vfs/file_description.h"
#include "vfs/tty/job_control.h"
#include "vfs/tty/line_discipline.h"
#include "vfs/tty/termios.h"

namespace caisson::vfs::tty {

inline constexpr uint32_t kSlaveMajor = 136;  // Of /dev/pts/N.

// One terminal. The slave end is what programs use; the master end belongs to a terminal emulator
// in the guest (PtyMaster) or to the host (HostTerminal). Thread-safe. mu_ is below every lock but
// those of wait queues; events and signals leave after it is released, and guest memory is reached
// without it.
class Tty final : public RefCounted<Tty>, private TerminalSide {
 public:
  Tty(JobControl& jobs, uint32_t index);
  ~Tty();

  uint32_t index() const { return index_; }
  DeviceNumber device() const { return {kSlaveMajor, index_}; }
  JobControl& jobs() { return jobs_; }

  // --- For the kernel. ---
  // Session and foreground group (tpgid of /proc/PID/stat); 0 if none.
  int32_t session() const;
  int32_t foreground_group() const;
  // The leader of `session`, whose terminal this is, has exited (disassociate_ctty(1)): hangs up,
  // SIGHUP to the foreground group.
  void OnSessionLeaderExit(int32_t session);

  // --- Slave end. `generation` is what OpenSlave() returned: files opened before a hang-up are
  // dead. ---
  // Errors: EIO (locked, or the master is closed), EBUSY (TIOCEXCL without CAP_SYS_ADMIN).
  Result<uint64_t> OpenSlave(CallContext& ctx);
  void CloseSlave();
  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint64_t generation, bool nonblock,
                      bool timed_out);
  Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint64_t generation);
  EventMask SlaveReadiness(uint64_t generation) const;
  WaitQueue& slave_queue() { return slave_queue_; }
  int64_t ReadDeadline(int64_t since, uint64_t generation) const;
  // open(2) without O_NOCTTY: it becomes the controlling terminal of a session leader that has
  // none, if the terminal has no session and was opened for reading.
  void MaybeBecomeControlling(CallContext& ctx, bool readable);

  // --- Master end. ---
  void CloseMaster();
  Result<size_t> ReadMaster(IoBuffer& to);
  Result<size_t> WriteMaster(IoBuffer& from);
  EventMask MasterReadiness() const;
  WaitQueue& master_queue() { return master_queue_; }
  // The same for the host's side, in sentry memory. Input(): how many were taken.
  size_t Input(absl::Span<const char> bytes);
  size_t TakeOutput(absl::Span<char> to);
  void SetWindowSize(const WindowSize& size);  // SIGWINCH to the foreground group on a change.
  WindowSize window_size() const;
  void Unlock();  // unlockpt(3).

  // --- Both ends (tty_ioctl.cc). ---
  Result<int64_t> Ioctl(CallContext& ctx, uint32_t request, uint64_t arg, bool master,
                        uint64_t generation, bool readable);

 private:
  // Holds mu_ and lets events and signals out when it has released it.
  class ABSL_SCOPED_LOCKABLE Change {
   public:
    explicit Change(Tty& tty) ABSL_EXCLUSIVE_LOCK_FUNCTION(tty.mu_);
    ~Change() ABSL_UNLOCK_FUNCTION();

   private:
    Tty& tty_;
  };
  struct PendingSignal {
    int32_t session, group;  // group 0: the session's leader.
    int signo;
  };
  static constexpr size_t kQueueLimit = 8192;  // Each direction, as Linux's pty ports.

  // TerminalSide; all under mu_.
  size_t OutputRoom() const override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void Output(absl::Span<const char> bytes) override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void FlushOutput() override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void InputFlushed() override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void SignalForeground(int signo) override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void StopOutput() override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void StartOutput() override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  bool output_stopped() const override ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopped_; }
  bool stopped_by_ioctl() const override ABSL_NO_THREAD_SAFETY_ANALYSIS { return tco_stopped_; }
  void InputReady() override ABSL_NO_THREAD_SAFETY_ANALYSIS;

  bool DeadLocked(uint64_t generation) const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return generation != generation_ || master_closed_;
  }
  size_t InputLocked(absl::Span<const char> bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FeedLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PacketLocked(uint8_t set, uint8_t clear) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void HangupLocked(bool session_exits) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetGroupLocked(int32_t group, RefPtr<ProcessHold> hold) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    group_ = group;
    group_hold_ = std::move(hold);
  }
  bool MasterHasInputLocked() const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  // tty_check_change(): may the caller, perhaps in the background, do this? ERESTARTSYS after
  // SIGTTIN or SIGTTOU was sent; EIO.
  Result<void> CheckJob(CallContext& ctx, int signo) ABSL_LOCKS_EXCLUDED(mu_);

  Result<int64_t> SetTermios(CallContext& ctx, uint32_t request, uint64_t arg, bool master);
  Result<int64_t> GetTermios(CallContext& ctx, uint32_t request, uint64_t arg);
  void ApplyTermiosLocked(Termios next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<int64_t> Flush(CallContext& ctx, uint64_t which, bool master);
  Result<int64_t> FlowControl(CallContext& ctx, uint64_t action);
  Result<int64_t> SessionIoctl(CallContext& ctx, uint32_t request, uint64_t arg, bool master,
                               bool readable);
  Result<int64_t> MasterIoctl(CallContext& ctx, uint32_t request, uint64_t arg);
  Result<void> BecomeControlling(CallContext& ctx, bool steal, bool readable);
  void Disassociate(CallContext& ctx, const JobControl::Caller& caller);

  JobControl& jobs_;
  const uint32_t index_;

  mutable Mutex mu_;
  Termios termios_ ABSL_GUARDED_BY(mu_);
  WindowSize window_ ABSL_GUARDED_BY(mu_);
  LineDiscipline line_ ABSL_GUARDED_BY(mu_);
  std::string to_master_ ABSL_GUARDED_BY(mu_);  // Output from to_master_at_ on.
  size_t to_master_at_ ABSL_GUARDED_BY(mu_) = 0;
  std::string raw_input_ ABSL_GUARDED_BY(mu_);  // Input that the discipline has no room for.
  int64_t last_input_ ABSL_GUARDED_BY(mu_) = 0;
  int32_t session_ ABSL_GUARDED_BY(mu_) = 0;
  int32_t group_ ABSL_GUARDED_BY(mu_) = 0;
  RefPtr<ProcessHold> group_hold_ ABSL_GUARDED_BY(mu_);  // The group may be gone, and tcgetpgrp(3) still names it.
  uint64_t generation_ ABSL_GUARDED_BY(mu_) = 1;
  int slaves_ ABSL_GUARDED_BY(mu_) = 0;
  bool slave_gone_ ABSL_GUARDED_BY(mu_) = false;  // Was open and is not.
  bool master_closed_ ABSL_GUARDED_BY(mu_) = false;
  bool locked_ ABSL_GUARDED_BY(mu_) = true;
  bool exclusive_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  bool tco_stopped_ ABSL_GUARDED_BY(mu_) = false;
  bool packet_mode_ ABSL_GUARDED_BY(mu_) = false;
  uint8_t packet_status_ ABSL_GUARDED_BY(mu_) = 0;
  // What Change lets out.
  EventMask slave_events_ ABSL_GUARDED_BY(mu_) = 0;
  EventMask master_events_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<PendingSignal> signals_ ABSL_GUARDED_BY(mu_);
  int32_t clear_session_ ABSL_GUARDED_BY(mu_) = 0;  // Its processes lose this terminal.
  WaitQueue slave_queue_, master_queue_;
};

}  // namespace caisson::vfs::tty

#endif  // CAISSON_VFS_TTY_TTY_H_
