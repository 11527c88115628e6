// A host thread of a stub that runs guest code, seen from the sentry.
#ifndef CAISSON_PLATFORM_TRAP_HOST_THREAD_H_
#define CAISSON_PLATFORM_TRAP_HOST_THREAD_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/platform.h"
#include "platform/stub/stub_process.h"
#include "platform/trap/patch_image.h"
#include "platform/trap/slot.h"

struct seccomp_notif;

namespace caisson::platform::trap {

// What a platform's threads share.
struct ThreadEnvironment {
  bool notify = false;
  uint64_t exit_thread = 0;         // Addresses in the blob.
  std::vector<uint64_t> doorbells, host_calls;
  PatchCache* patches = nullptr;    // Lives as long.
};

// The host signal that brings a guest thread to a trap. Standard, so that it does not queue.
extern const int kInterruptSignal;
// All that guest code does not block.
extern const uint64_t kGuestSignalMask;

// Fills thread page `index` before its thread starts.
void InitThreadPage(const stub::Slots& slots, size_t index);

// Used by one thread at a time; Signal() by any.
//
// A guest thread of the stub can write to the slot at any time, and block its signals by a forged
// sigreturn. So values of the slot are copied once and checked, and who waits for more than the guest's
// own pleasure has a limit. What cannot be kills the stub.
class HostThread {
 public:
  enum class Stop : uint8_t {
    kNotification,  // A call; notification() has it.
    kCall,          // A call of a patched site; call_registers() has the registers.
    kTrap,          // A signal; registers and FP state are in the frame.
    kSlow,          // It runs on; said once for each wait that was to be short (SetSpin()).
    kDead,          // The thread is gone, and with it the stub; or it did not stop in time.
  };
  struct Notification {
    uint64_t id = 0;
    uint64_t ip = 0;
    uint64_t args[6] = {};
    uint32_t number = 0, arch = 0;
  };
  // Of the signal that made the trap.
  struct SignalInfo {
    int signo = 0, code = 0;
    uint64_t address = 0;  // si_addr, or si_call_addr of SIGSYS.
    uint32_t syscall = 0, arch = 0;  // Of SIGSYS.
    uint64_t error_code = 0, trap_number = 0;
  };

  // A round of a limited wait, and how many there are: 30 s of our own running time. By rounds, so
  // that a machine or sandbox that was suspended does not count.
  static constexpr int kRoundMs = 100, kRounds = 300;

  // A new thread at `slot`. Errors: EAGAIN, EIO.
  static Result<std::unique_ptr<HostThread>> Start(stub::StubProcess& stub, size_t slot,
                                                   const ThreadEnvironment& environment);
  // The one a stub was started with, at slot 0; null if there is none.
  static std::unique_ptr<HostThread> TakeReady(stub::StubProcess& stub,
                                               const ThreadEnvironment& environment);

  pid_t tid() const { return tid_; }
  pid_t pid() const { return stub_.pid(); }
  stub::StubProcess& stub() { return stub_; }
  Stop at() const { return at_; }
  Slot& slot() { return *slot_; }
  const Notification& notification() const { return notification_; }
  const SignalInfo& signal_info() const { return info_; }

  // Waits until the running thread stops, as long as it takes.
  Stop Wait() { return WaitFor(0); }
  // From now on both sides wait awake for `cycles` of the time stamp counter before they sleep; 0:
  // not at all. A wait in which `lost` cycles pass unseen has lost its CPU.
  void SetSpin(uint32_t cycles, uint64_t lost);
  // How the waits of both sides were since the last time it was asked.
  struct SpinTally {
    uint32_t quick = 0;  // The other side was there in time.
    uint32_t slow = 0;   // Awake in vain.
    uint64_t lost = 0;   // Cycles that passed unseen.
  };
  // Whether the last wait ended before this side slept.
  bool awake() const { return awake_; }
  // How many calls the thread has answered itself since it was last asked.
  uint64_t TakeAnswered();
  // A trap came between such an answer and its count: what is made of it counts one more, or one less.
  void CorrectAnswered(int by) { counted_answers_ -= static_cast<uint64_t>(by); }
  SpinTally TakeSpinTally() { return std::exchange(tally_, {}); }

  // Answers the notification and lets the thread run. False if the call has been withdrawn: then
  // Wait() says what the thread does now.
  bool Answer(uint64_t rax);
  // Answers the call of a patched site: the thread goes on with these registers. If rcx and r11 are not what
  // a call leaves there, no copies may wait to be stored.
  void AnswerCall(const Registers& regs);
  static bool IsAfterCall(const Registers& r) { return r.rcx == r.rip && r.r11 == r.eflags; }
  // What the last answer was, for a thread that has not got it yet: with the two registers.
  void AddAnswered(Registers& regs) const;
  // With rax the number and rip behind the call; fs and gs base are not known.
  Registers call_registers() const;
  uint64_t call_result() const { return call_.rax; }
  const CallRegisters& call() const { return call_; }
  // In the call of a patched site: the extended state, as for ReadFpState(). False if the thread is not in
  // the call any more: then at() says where it is.
  bool SaveFpState(absl::Span<char> out);
  // It came along with the call and is still in the slot's last page: SaveFpState() asks nobody.
  bool fp_saved() const { return fp_saved_; }
  // In the call of a patched site: the thread copies `n` bytes in its stub. Returns how many; if not all, it is
  // not in the call any more: then at() says where it is.
  size_t Copy(uint64_t to, uint64_t from, size_t n);
  // It goes on with this one, by the next AnswerCall(). No copies may wait to be stored.
  void LoadFpState(absl::Span<const char> in);
  // From a notification, or a thread's start, to a trap.
  Stop BringToTrap();
  // Whether the trap took the place of a notification of this thread.
  bool SameCall(const Notification& other) const;

  // At a trap. The gs base of a thread whose guest has none is its slot.
  Registers ReadRegisters() const;
  // What `state` was when the trap came.
  uint32_t interrupted_state() const { return interrupted_state_; }
  // CallRegisters as they are now, for a trap inside the trampoline.
  void ReloadCall();
  void WriteRegisters(const Registers& regs);
  // HostXstate().size bytes. False if the guest has broken the frame.
  bool ReadFpState(absl::Span<char> out) const;
  bool WriteFpState(absl::Span<const char> in);
  // Lets the thread run from the frame.
  void Resume();

  // Has the stopped thread make host calls and waits for the end, as StubProcess::Run() does with the
  // worker; `fd` is kHostCallFd in the stub meanwhile, -1: none: one vector of a stub at a time.
  // Only if CanRunHostCalls(). Errors: EIO, and the stub is killed.
  struct HostOutcome {
    size_t executed = 0;
    int host_errno = 0;  // Of the one that failed.
  };
  Result<HostOutcome> RunHostCalls(absl::Span<const stub::Request> requests, int fd);
  // With `requests` that a thread may be asked for, and one that is stopped in the blob. `quiet`: it
  // will take no notification.
  bool CanRunHostCalls(absl::Span<const stub::Request> requests, bool* quiet) const;

  void Signal();

  // Null: none. While the thread is stopped; the null by any thread.
  void SetAnswers(const Context::Answers* answers);

 private:
  HostThread(stub::StubProcess& stub, const ThreadEnvironment& environment, size_t slot, pid_t tid);
  bool Adopt();
  Stop WaitFor(int rounds);
  Stop WaitShortly();
  Stop WaitForNotification(int rounds);
  Stop WaitForState(int rounds);
  Stop TakeTrap();
  Stop TakeCall();
  bool IsDoorbell(uint64_t ip) const;
  bool SpinForState(Stop* stop);
  Stop TakeState(uint32_t state);
  Stop Broken(const char* why);
  Stop Dead();
  char* InStack(uint64_t address, size_t size) const;
  char* FpArea() const;
  bool Send(uint64_t id, uint64_t value, int error = 0);
  void Release(uint32_t state);
  bool SpinForHostCalls();
  bool Receive(seccomp_notif* n, int* rounds);
  bool Continue(uint64_t id);
  enum class Added { kYes, kNo, kWithdrawn };
  Added AddDescriptor(uint64_t id, int fd, bool answer);

  stub::StubProcess& stub_;
  const ThreadEnvironment& environment_;
  const pid_t tid_;
  const uint64_t slot_address_;
  char* const slot_memory_;
  Slot* const slot_;
  ThreadPage* const page_;
  UniqueFd listener_;
  bool starting_ = true;  // Has not come to its first trap.
  Stop at_ = Stop::kDead;
  Notification notification_;
  uint64_t doorbell_id_ = 0;  // The notification that a trap or call waits in; 0: none that we know.
  CallRegisters call_{};      // Our copy.
  bool fp_saved_ = false;     // The extended state came with the call (SavesExtendedState()).
  uint32_t copies_ = 0;       // For the next answer: what the trampoline does besides.
  bool answered_all_ = false;  // The last one had kAllRegisters, with these.
  uint64_t answered_rcx_ = 0, answered_r11_ = 0;
  uint32_t interrupted_state_ = 0;
  // Spinning.
  uint32_t spin_ = 0;
  uint64_t lost_ = 0;
  SpinTally tally_;
  uint64_t counted_answers_ = 0;
  bool awake_ = false;
  bool parked_ = false;    // We have set kParked, and nobody has rung.
  bool sleeping_ = false;  // The thread sleeps in a notification that we have not received.
  bool woken_ = false;     // We have, since the last wait.
  bool said_slow_ = false;
  SignalInfo info_;
  char* context_ = nullptr;  // Of the trap: the ucontext, in slot_memory_.
  char fp_trailer_[48] = {}; // What the kernel wrote into the first frame's FP area about its size.
  bool have_trailer_ = false;
};

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_HOST_THREAD_H_
