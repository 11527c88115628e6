// A guest task's host thread, run by the task's own thread.
#ifndef CAISSON_PLATFORM_TRAP_TRAP_CONTEXT_H_
#define CAISSON_PLATFORM_TRAP_TRAP_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "platform/platform.h"
#include "platform/stub/thread_clock.h"
#include "platform/trap/copies.h"
#include "platform/trap/spinner.h"
#include "platform/trap/trap_address_space.h"
#include "platform/trap/watchdog.h"

namespace caisson::platform::trap {

// What a platform's contexts share; it lives longer than they.
struct Shared {
  explicit Shared(bool spin) : spin_group(spin) {}

  ThreadEnvironment environment;
  stub::ProcView* proc = nullptr;
  stub::CpuClock clock;
  mutable Watchdog watchdog;
  mutable SpinGroup spin_group;
  // How calls came, for Platform::Counters(). Contexts add what they have counted now and then.
  struct Counts {
    uint64_t notifications = 0, traps = 0, spins = 0, bells = 0, host_calls = 0, bulk_copies = 0;
  };
  mutable std::atomic<uint64_t> notifications{0}, traps{0}, spins{0}, bells{0}, host_calls{0},
      bulk_copies{0}, in_stub{0};
};

// Used by one thread; Prepare(), Interrupt() and GuestCpuTime() by any.
//
// After each event the host thread is stopped, in a notification or at a trap. Of a thread in a
// notification only number, arguments and rip are known. It is answered there unless the caller has
// changed more than rax; else, or if it wants all registers, the thread is brought to a trap, where
// the call shows as not made, and the frame gets what the caller wants.
class TrapContext final : public Context {
 public:
  explicit TrapContext(const Shared& shared);
  ~TrapContext() override;

  Result<void> Prepare(AddressSpace& space) override;
  Event Switch(AddressSpace& space, Registers& regs) override;
  void FullRegisters(Registers& regs) override;
  void GeneralRegisters(Registers& regs) override;
  void Interrupt() override;
  void Detach() override;
  bool IsHeld() const override;
  void DetachLast(AddressSpace& space) override;
  Result<void> GetFpState(absl::Span<char> out) override;
  Result<void> SetFpState(absl::Span<const char> in) override;
  void ResetFpState() override;
  uint64_t GuestCpuTime() override { return cpu_time_.Time(); }
  void SetAnswers(const Answers& answers) override ABSL_LOCKS_EXCLUDED(mu_);
  void ClearAnswers() override ABSL_LOCKS_EXCLUDED(mu_);
  size_t CopiedIn(GuestAddr from, absl::Span<char> to) override { return copies_.In(from, to); }
  bool CopyOutLater(GuestAddr to, absl::Span<const char> from) override;
  void FlushCopies(AddressSpace& space) override;

  // The calling thread's, if it is in a call of a patched site in `space`; else null.
  static HostThread* ThreadForCopies(const TrapAddressSpace& space);
  // The calling thread's, if it is stopped in `space` and can make `requests` there; else null.
  static HostThread* ThreadForHostCalls(const TrapAddressSpace& space,
                                        absl::Span<const stub::Request> requests);

 private:
  // The context whose event the calling thread handles; null: none.
  static TrapContext* stopped();
  Result<void> Enter(TrapAddressSpace& space);
  void DropPrepared() ABSL_LOCKS_EXCLUDED(mu_);
  void Leave();
  // Lets the stopped thread run with `regs`. False if it is gone.
  bool Run(Registers& regs);
  bool AnswerNotification(Registers& regs);
  // From a notification to a trap, with `known_` from the frame. False if the thread is gone.
  bool BringToTrap();
  void Complete(Registers& regs);
  // One stop of the thread. False if that is nothing the sentry wants to know.
  bool HandleStop(HostThread::Stop stop, Registers& regs, Event& event);
  bool HandleTrap(Registers& regs, Event& event);
  bool LeaveTrampoline(Registers& regs, uint64_t* escape);
  bool HandleCopyFault();
  bool GoesOn();
  void DescribeSignal(const Registers& regs, Event& event);
  void SetKilled(Event& event);
  void TakeHostThread() ABSL_LOCKS_EXCLUDED(mu_);
  void ForgetHostThread() ABSL_LOCKS_EXCLUDED(mu_);
  void SignalThread() ABSL_LOCKS_EXCLUDED(mu_);
  void Count(HostThread::Stop stop);
  void FlushCounts();
  void StopRunning() ABSL_LOCKS_EXCLUDED(mu_);

  const Shared& shared_;
  // The task's thread alone.
  TrapAddressSpace* space_ = nullptr;
  std::unique_ptr<HostThread> thread_;
  Spinner spinner_;
  Shared::Counts counts_;
  bool killed_ = false;
  int unseen_ = 0;          // Stops since the last event that came to none.
  bool full_ = true;        // The caller has had all registers of the last event.
  Registers shown_{};       // What the caller has been told, if not full.
  bool in_call_ = false;    // It was a call of a patched site.
  Copies copies_;
  bool copy_failed_ = false;  // What CopyOutLater() took could not be stored.
  // In a patched call: its extended state, once asked for, until it goes on; and what was handed to the
  // trampoline, until the next stop. Empty: neither.
  std::vector<char> fp_;
  bool fp_changed_ = false;  // The thread must get it.
  std::vector<char> fp_handed_;
  bool vsyscall_ = false;   // The notification is of a call of the vsyscall page.
  std::vector<char> pending_fp_;  // For the next host thread; empty: the initial state.

  // As in PtraceContext: each of two flags is set before the other is looked at.
  std::atomic<bool> interrupt_{false};
  std::atomic<bool> running_{false};

  Mutex mu_;  // Before Watchdog::mu_.
  HostThread* signal_thread_ ABSL_GUARDED_BY(mu_) = nullptr;  // thread_, for other threads.
  // Set under mu_ while guest code may run, read when it does not: an interrupt was sent that we have not
  // seen arrive.
  std::atomic<bool> signalled_{false};
  bool watched_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<Answers> answers_ ABSL_GUARDED_BY(mu_);  // In the page of signal_thread_.
  TrapAddressSpace* prepared_space_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::unique_ptr<HostThread> prepared_thread_ ABSL_GUARDED_BY(mu_);
  stub::ThreadClock cpu_time_;
};

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_TRAP_CONTEXT_H_
