// A guest task's host thread, traced by the task's own thread.
#ifndef CAISSON_PLATFORM_PTRACE_PTRACE_CONTEXT_H_
#define CAISSON_PLATFORM_PTRACE_PTRACE_CONTEXT_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "platform/platform.h"
#include "platform/ptrace/host_ptrace.h"
#include "platform/ptrace/placement.h"
#include "platform/stub/address_space.h"
#include "platform/stub/thread_clock.h"

namespace caisson::platform::ptrace {

// What a platform's contexts share; it lives longer than they.
struct Shared {
  uint64_t exit_thread = 0;  // Addresses of the blob's code that ends a thread,
  uint64_t park = 0;         // and where it waits.
  stub::ProcView* proc = nullptr;
  stub::CpuClock clock;
  mutable Placement placement;
};

// Used by one thread, which is the tracer; Prepare(), Interrupt() and GuestCpuTime() by any.
// Destroyed by that thread, or after Detach().
class PtraceContext final : public Context {
 public:
  explicit PtraceContext(const Shared& shared);
  ~PtraceContext() override;

  Result<void> Prepare(AddressSpace& space) override;
  Event Switch(AddressSpace& space, Registers& regs) override;
  void Interrupt() override;
  void Detach() override;
  void DetachLast(AddressSpace& space) override;
  Result<void> GetFpState(absl::Span<char> out) override;
  Result<void> SetFpState(absl::Span<const char> in) override;
  void ResetFpState() override;
  uint64_t GuestCpuTime() override { return cpu_time_.Time(); }

 private:
  // Makes a host thread in `space` and seizes it.
  Result<void> Enter(stub::StubAddressSpace& space);
  void Leave();
  // Lets go of the stopped host thread, for whoever needs one here next. False: it is as before.
  bool ParkHostThread(const Registers& regs);
  bool WriteRegisters(const Registers& regs);
  // One run until the guest stops. Returns false if that is nothing the sentry wants to know.
  bool RunOnce(Registers& regs, Event& event);
  bool HandleSignal(const Stop& stop, Registers& regs, Event& event);
  void DescribeSignal(const SignalInfo& info, Registers& regs, Event& event);
  void SetKilled(Event& event);
  void ForgetHostThread() ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<char>& fp_buffer();

  const Shared& shared_;
  // The tracer's alone.
  stub::StubAddressSpace* space_ = nullptr;
  pid_t pid_ = 0;
  pid_t tid_ = 0;            // 0: no host thread.
  bool killed_ = false;      // It ended by itself.
  bool must_write_ = true;   // The host thread's registers are not `host_regs_`.
  Registers host_regs_{};
  std::vector<char> pending_fp_;  // For the next host thread; empty: the initial state.
  std::vector<char> fp_buffer_;
  Pair pair_;

  // `running_` is set before `interrupt_` is looked at, and `interrupt_` is set before `running_`
  // is looked at (both sequentially consistent): one of the two sees the other.
  std::atomic<bool> interrupt_{false};
  std::atomic<bool> running_{false};

  stub::ThreadClock cpu_time_;

  Mutex mu_;  // Innermost.
  pid_t signal_tid_ ABSL_GUARDED_BY(mu_) = 0;  // tid_, for other threads.
  pid_t signal_pid_ ABSL_GUARDED_BY(mu_) = 0;
  stub::StubAddressSpace* prepared_space_ ABSL_GUARDED_BY(mu_) = nullptr;
  pid_t prepared_tid_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace caisson::platform::ptrace

#endif  // CAISSON_PLATFORM_PTRACE_PTRACE_CONTEXT_H_
