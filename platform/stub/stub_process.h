// A stub: the host process that is one guest address space, with its worker.
#ifndef CAISSON_PLATFORM_STUB_STUB_PROCESS_H_
#define CAISSON_PLATFORM_STUB_STUB_PROCESS_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/guest_addr.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/stub/layout.h"
#include "platform/stub/slots.h"

namespace caisson::platform::stub {

// Thread-safe. A stub is a child of the sentry; nobody but the destructor reaps it, so its pid
// cannot come to mean another process while this object lives (docs/platform.md 18).
//
// The bell and the answer are messages on a socket of the stub's own: descriptors travel with the
// bell, the stub's death is an end of file at once, and a stub ends when the sentry is gone. Guest
// code can make neither message, so it cannot make us believe that a vector is done.
class StubProcess {
 public:
  // Fills what a guest thread reads, before a stub starts.
  using PrepareSlots = void (*)(const Slots&);

  // What all stubs of a platform have in common.
  struct Common {
    PrepareSlots prepare = nullptr;
    std::shared_ptr<SlotCache> slots;
  };

  // Waits for the first message of a new stub, which tells its pid by the kernel's word.
  // Errors: EAGAIN if the process ended before, EMFILE.
  static Result<std::unique_ptr<StubProcess>> Greet(Slots slots, const Common& common);
  // Kills and reaps. No guest thread may be traced any more.
  ~StubProcess();

  pid_t pid() const { return pid_; }
  // Ends the process; what is running in it ends with it.
  void Kill();
  // A message was missing or impossible, or the process ended.
  bool dead() const { return dead_.load(std::memory_order_relaxed); }
  // Whether it has ended, whoever brought that about, or is about to. It stays to be reaped.
  bool HasEnded() const;

  // Runs `requests` (at most kMaxRequests, kinds kSyscall and kCompareExchange) in order until one
  // fails. For mmap(2) in them `fds` (at most kMaxDescriptors) are descriptors 1, 2, ...
  struct Outcome {
    size_t executed = 0;  // How many succeeded.
    int host_errno = 0;   // Of the one that failed.
    int64_t results[kMaxRequests] = {};
  };
  // Errors: EIO if the stub is gone.
  Result<void> Run(absl::Span<const Request> requests, absl::Span<const int> fds,
                   Outcome* outcome) ABSL_LOCKS_EXCLUDED(mu_);
  // mincore(2) of at most kPageSize pages.
  Result<void> Residency(uint64_t address, absl::Span<uint8_t> pages) ABSL_LOCKS_EXCLUDED(mu_);

  // Kills and reaps now, and tells the usage at the end. Nothing else is called afterwards.
  struct FinalUsage {
    uint64_t peak = 0;  // Bytes.
    uint64_t minor_faults = 0;
    uint64_t major_faults = 0;
  };
  FinalUsage End();

  // prctl(PR_SET_NAME) of the worker. Best effort.
  void SetName(absl::string_view name) ABSL_LOCKS_EXCLUDED(mu_);

  // A new guest thread, with all signals blocked and these values in its registers: parked in the
  // blob, or where ThreadCode::start says. Errors: EAGAIN, EIO.
  //
  // `started`, if there is one, waits for the thread's start and returns the number of a descriptor
  // that it made, or -1; that is taken out of the stub and put into `made`. Meanwhile no vector runs.
  struct ThreadStart {
    uint64_t r8 = 0, r9 = 0;
    std::function<Result<int>()> started;
    UniqueFd made;
  };
  Result<pid_t> CloneThread(ThreadStart* start = nullptr) ABSL_LOCKS_EXCLUDED(mu_);
  // The same of the ready thread, before there is any other.
  Result<UniqueFd> TakeDescriptor(int stub_fd) ABSL_LOCKS_EXCLUDED(mu_);
  // A thread that is ready: the one that the stub was started with, or one that was put back; -1 if
  // there is none. The caller owns it then.
  pid_t TakeReadyThread() ABSL_LOCKS_EXCLUDED(ready_mu_);
  // Puts back a thread that is in the state of one that CloneThread() has made, but for its extended
  // state and the CPU time it has used.
  void PutBackThread(pid_t tid) ABSL_LOCKS_EXCLUDED(ready_mu_);
  // False: enough are ready, or it is the end.
  bool WantsReadyThreads() ABSL_LOCKS_EXCLUDED(ready_mu_);

  // A copy of this process with no guest thread but a parked one. Errors: EAGAIN, ENOMEM.
  Result<std::unique_ptr<StubProcess>> Clone() ABSL_LOCKS_EXCLUDED(mu_);
  // The same in two steps, so that nobody waits: between them the lock is not held but no other
  // work may be asked for (the zygote has one user, its pool).
  Result<Slots> StartClone() ABSL_LOCKS_EXCLUDED(mu_);
  Result<std::unique_ptr<StubProcess>> FinishClone(Slots slots) ABSL_LOCKS_EXCLUDED(mu_);

  // The pages shared with it; they stay where they are.
  const Slots& slots() const { return slots_; }

  // Guards the scratch stack at kFaultStackTop. Innermost.
  Mutex& fault_mutex() ABSL_LOCK_RETURNED(fault_mu_) { return fault_mu_; }

  // Writes even where the protection forbids it, by way of ptrace(2) of the worker, on private
  // mappings only (Linux mm/gup.c, FOLL_FORCE). Returns the bytes written.
  size_t Poke(uint64_t address, absl::Span<const char> from) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  StubProcess(Slots slots, pid_t pid, UniqueFd pidfd, const Common& common);
  Result<void> RingLocked(absl::Span<const int> fds, bool may_close = true)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<UniqueFd> TakeDescriptorLocked(int stub_fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> AwaitLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> CollectLocked(size_t count, Outcome* outcome) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<Slots> StartCloneLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<std::unique_ptr<StubProcess>> FinishCloneLocked(Slots slots)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  size_t PokeWords(uint64_t address, absl::Span<const char> from);
  Errno Broken(const char* why);

  const pid_t pid_;
  const UniqueFd pidfd_;
  const Common common_;
  Mutex mu_;  // One vector at a time: guards the control page and the socket.
  Slots slots_;  // Changes only in End().
  size_t leftover_ ABSL_GUARDED_BY(mu_) = 0;  // Descriptors besides the socket: 1 to leftover_.
  Mutex fault_mu_;
  bool reaped_ = false;  // The destroying thread's.
  std::atomic<bool> dead_{false};
  Mutex ready_mu_;  // Innermost.
  std::vector<pid_t> ready_threads_ ABSL_GUARDED_BY(ready_mu_);
};

// Whether `tid` is a thread of process `pid` other than its first.
bool IsThreadOf(pid_t pid, pid_t tid);

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_STUB_PROCESS_H_
