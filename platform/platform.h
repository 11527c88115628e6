// The platform interface: how guest code runs until something happens, and how guest mappings are
// made real. It knows nothing of files, signals or system calls (docs/design.md section 3).
#ifndef CAISSON_PLATFORM_PLATFORM_H_
#define CAISSON_PLATFORM_PLATFORM_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/guest_addr.h"
#include "base/result.h"
#include "platform/registers.h"

namespace caisson::platform {

// PROT_* bits of mmap(2), but never PROT_GROWSDOWN.
using Protection = uint32_t;
inline constexpr Protection kProtNone = 0;
inline constexpr Protection kProtRead = 1;
inline constexpr Protection kProtWrite = 2;
inline constexpr Protection kProtExec = 4;

// One step of address-space work. Addresses and lengths are page-aligned, non-empty and inside
// AddressSpace::guest_range(): the mm has checked them; the platform checks again and refuses
// with EINVAL. Every mapping is at a fixed address and replaces what was there.
struct MapOp {
  enum class Kind : uint8_t {
    kMapAnonymous,  // Private zero pages.
    kMapFile,       // `host_fd` (borrowed for the call) at `offset`; private unless `shared`.
    kUnmap,
    kProtect,
    kRemap,   // Moves or resizes [addr, old_length) to [new_addr, length); mremap(2) FIXED|MAYMOVE.
    kAdvise,  // madvise(2) with `advice`.
    kPopulate,  // Faults pages in, for writing where the protection allows (MADV_POPULATE_*).
  };
  Kind kind;
  Protection protection = kProtNone;
  bool shared = false;
  bool follows_file = false;  // Shows what is written to the file, also as code: no copy may stand in for it.
  bool dont_unmap = false;  // kRemap: MREMAP_DONTUNMAP.
  // It ends a mapping that others may rely on being gone (F_SEAL_WRITE counts the shared writable ones): that it
  // is done must not be the guest's word.
  bool proven = false;
  bool no_reserve = false;  // MAP_NORESERVE.
  int advice = 0;
  int host_fd = -1;
  GuestAddr addr;
  uint64_t length = 0;
  uint64_t offset = 0;      // kMapFile, bytes.
  GuestAddr new_addr;       // kRemap.
  uint64_t old_length = 0;  // kRemap.
};

// AddressSpace::PageStates().
inline constexpr uint8_t kPageResident = 1;
inline constexpr uint8_t kPageSwapped = 2;
inline constexpr uint8_t kPageOfFile = 4;     // Of a file or shared memory; else private, written.
inline constexpr uint8_t kPageExclusive = 8;  // Mapped here only.

enum class Access : uint8_t { kRead, kWrite, kExecute };

// Why Switch() returned.
struct Event {
  enum class Kind : uint8_t {
    kSyscall,      // Registers: rax holds the number (orig_rax too), rip is after the instruction;
                   // those that are not arguments only after FullRegisters().
    kFault,        // A memory access that the host could not serve: SIGSEGV or SIGBUS.
    kException,    // SIGILL, SIGFPE, SIGTRAP, or a non-address SIGSEGV (general protection).
    kInterrupted,  // Interrupt() was called. May come spuriously.
    kKilled,       // The host ended the stub (its OOM killer): the guest process gets SIGKILL.
  };
  Kind kind = Kind::kInterrupted;
  // kFault and kException: the host's siginfo, to be checked against the VMAs and passed on.
  int signo = 0;
  int code = 0;               // si_code.
  uint64_t address = 0;       // si_addr.
  uint64_t trap_number = 0;   // Vector, 14 for page faults; 0 if the platform cannot tell.
  uint64_t error_code = 0;    // x86 page-fault error code bits; valid if has_error_code.
  bool has_error_code = false;
  // kFault: best knowledge of the access.
  Access access = Access::kRead;
  // kSyscall: entered by `int 0x80` or from 32-bit code: registers and numbers are those of the
  // i386 ABI (ENOSYS or SIGSEGV, as Linux without 32-bit emulation). x32 calls are not marked;
  // their numbers have bit 30 set.
  bool compat32 = false;
};

// An address space of the guest. Thread-safe. Its owner (the mm) serializes mapping changes with
// its own lock, and destroys it after the last Context has left it.
class AddressSpace {
 public:
  virtual ~AddressSpace() = default;

  // Carries out `ops` in order. On failure those before the failing one stay done and *done (may
  // be null) says how many. Errors: what mmap(2) and its like return: ENOMEM, EINVAL, EACCES,
  // ENODEV, EPERM, EFAULT, EAGAIN; EIO if the stub is gone.
  virtual Result<void> Apply(absl::Span<const MapOp> ops, size_t* done = nullptr) = 0;

  // A copy-on-write clone, without any guest thread. Errors: EAGAIN, ENOMEM.
  virtual Result<std::unique_ptr<AddressSpace>> Fork() = 0;

  // Copies between guest and sentry memory. Returns the bytes copied, less than asked where the
  // guest's pages end or forbid it; 0 with no error if the first byte faults. They never change
  // mappings: growing a stack and faults the VMAs can repair are the mm's (CopyIn of mm).
  virtual size_t CopyIn(GuestAddr from, absl::Span<char> to) = 0;
  // `from` may be a mapping whose pages vanish: the copy ends there.
  virtual size_t CopyOut(GuestAddr to, absl::Span<const char> from) = 0;
  // As CopyOut, even where the protection forbids writing (ptrace POKETEXT, /proc/PID/mem);
  // private mappings only.
  virtual size_t CopyOutForced(GuestAddr to, absl::Span<const char> from) = 0;

  // Somebody watches the guest's instructions: from now on none is another than its mappings say.
  virtual void KeepCode() {}

  // Atomics on naturally aligned guest words. Errors: EFAULT.
  virtual Result<uint32_t> Load32(GuestAddr addr) = 0;
  // Stores `desired` if the word is `expected`; returns the word before.
  virtual Result<uint32_t> CompareExchange32(GuestAddr addr, uint32_t expected,
                                             uint32_t desired) = 0;
  virtual Result<uint64_t> Load64(GuestAddr addr) = 0;

  // A waiter for the futex word at `addr` comes, before it looks at the word, or goes (`delta` -1). Where
  // nobody waits a platform may answer FUTEX_WAKE of a private word itself, while Context::SetAnswers() holds.
  // From any thread.
  virtual void CountWaiter(GuestAddr addr, int delta) { static_cast<void>(addr), static_cast<void>(delta); }

  // mincore(2): one byte a page, bit 0 set if resident.
  virtual Result<void> Residency(GuestAddr addr, uint64_t length, absl::Span<uint8_t> out) = 0;
  // What the page tables say of each page: kPage... bits (/proc/PID/pagemap). Residency() tells of
  // the page cache. Errors: ENOSYS if the platform cannot see that.
  virtual Result<void> PageStates(GuestAddr addr, absl::Span<uint8_t> out) {
    static_cast<void>(addr);
    static_cast<void>(out);
    return Errno::kENOSYS;
  }
  // Resident memory in bytes, by kind, and page faults so far; what /proc/PID/statm shows.
  struct Usage {
    uint64_t resident = 0;
    uint64_t shared = 0;
    uint64_t peak = 0;
    uint64_t minor_faults = 0;
    uint64_t major_faults = 0;
  };
  virtual Usage GetUsage() = 0;
  // Where the destructor leaves peak and faults, for accounting: who drops what may be the last
  // reference takes this first and looks afterwards.
  class FinalUsage {
   public:
    // True for one caller, once the address space is gone.
    bool Claim(Usage* out) {
      if (!known_.exchange(false, std::memory_order_acquire)) return false;
      *out = usage_;
      return true;
    }

   private:
    friend class AddressSpace;
    Usage usage_;  // Written before known_ is set.
    std::atomic<bool> known_{false};
  };
  const std::shared_ptr<FinalUsage>& final_usage() const { return final_usage_; }

  // execve(2) of the only process here, by its only thread and to no more privileges: true if the
  // new program may have this address space. Then what the platform knew of the old one is
  // forgotten, and the next Apply() unmaps the whole guest range first. The thread's Context stays.
  virtual bool BeginProgram() { return false; }

  // The host process, for `docker top` and pidfds; -1 if there is none.
  virtual int host_pid() const { return -1; }
  // What the host's ps shows for it: the guest's comm, cut to 15 bytes.
  virtual void SetName(absl::string_view name) { static_cast<void>(name); }

 protected:
  // Once, by the destructor of an implementation.
  void SetFinalUsage(const Usage& usage) {
    final_usage_->usage_ = usage;
    final_usage_->known_.store(true, std::memory_order_release);
  }

 private:
  const std::shared_ptr<FinalUsage> final_usage_ = std::make_shared<FinalUsage>();
};

// What guest code runs on: the platform's side of one task. Used by one thread (its task's) but
// for Interrupt().
class Context {
 public:
  virtual ~Context() = default;

  // Makes the host thread that the first Switch(space) will use, so that clone(2) can fail before
  // the new task exists. From any thread, before the context's own first uses it; Detach() gives it up.
  // Not needed.
  // Errors: EAGAIN.
  virtual Result<void> Prepare(AddressSpace& space) {
    static_cast<void>(space);
    return OkResult();
  }

  // Runs guest code in `space` from `regs` until an event, and updates `regs`. The first call in
  // an address space, and the first after another one, makes what is needed there.
  virtual Event Switch(AddressSpace& space, Registers& regs) = 0;

  // Completes the registers of the last event. With kSyscall a platform may know only the number,
  // the arguments, rip and rcx; the other fields of `regs` are then as they were before. Those that
  // the caller has changed since the event are kept. Who only sets registers needs no call.
  virtual void FullRegisters(Registers& regs) { static_cast<void>(regs); }

  // As FullRegisters(), but fs and gs base may stay unknown: enough for a signal frame.
  virtual void GeneralRegisters(Registers& regs) { FullRegisters(regs); }

  // From any thread: makes a current or the next Switch() return kInterrupted soon.
  virtual void Interrupt() = 0;

  // Leaves the address space: no host thread of this context exists there afterwards. Called by
  // the task's thread before it drops its mm (exec, exit).
  virtual void Detach() = 0;
  // After an event: the thread is stopped in the host's kernel, which only this object can have it leave: nothing
  // that the guest can write to decides it, and there never was another thread in the address space. So once this
  // has left it (Detach()), no guest code runs there any more, whenever it is destroyed.
  virtual bool IsHeld() const { return false; }
  // As Detach(), and nobody else runs in `space`, which is about to be destroyed: it may end already.
  virtual void DetachLast(AddressSpace& space) {
    static_cast<void>(space);
    Detach();
  }

  // The extended state in XSAVE layout (as in a signal frame), Platform::fp_state_size() bytes.
  // Set before the first Switch it becomes the initial state.
  virtual Result<void> GetFpState(absl::Span<char> out) = 0;
  // Unsupported or reserved bits are refused with EINVAL and nothing is changed.
  virtual Result<void> SetFpState(absl::Span<const char> in) = 0;
  // Back to the state after exec.
  virtual void ResetFpState() = 0;

  // CPU time spent in guest code, ns. From any thread.
  virtual uint64_t GuestCpuTime() = 0;

  // What a platform may answer itself to getpid(2) and its like, without an event; FUTEX_WAKE too
  // (AddressSpace::CountWaiter()).
  struct Answers {
    uint32_t pid = 0, tid = 0, uid = 0, euid = 0, gid = 0, egid = 0;
  };
  // Between events, by the task's thread: from now on, in every address space. By default calls are
  // events as before.
  virtual void SetAnswers(const Answers& answers) { static_cast<void>(answers); }
  // From any thread: calls made from now on are events again.
  virtual void ClearAnswers() {}

  // What a platform can move along with its hand-offs, so that small arguments and results cost no
  // call of the host. By default nothing is.
  //
  // Guest memory that came with the last event, as the guest's thread read it when it stopped.
  // Returns how many bytes it has from `from` on, and copies them; 0: ask the AddressSpace.
  virtual size_t CopiedIn(GuestAddr from, absl::Span<char> to) {
    static_cast<void>(from), static_cast<void>(to);
    return 0;
  }
  // True: `from` will be stored at `to`, in the order of these calls, before guest code goes on.
  // The caller knows that the guest may write there. Where the host cannot provide the page all the
  // same, the call that the guest is in returns EFAULT.
  virtual bool CopyOutLater(GuestAddr to, absl::Span<const char> from) {
    static_cast<void>(to), static_cast<void>(from);
    return false;
  }
  // Stores now what CopyOutLater() has taken.
  virtual void FlushCopies(AddressSpace& space) { static_cast<void>(space); }
};

class Platform {
 public:
  virtual ~Platform() = default;
  virtual absl::string_view name() const = 0;
  // Where guest mappings may be: [mmap_min, TASK_SIZE of the guest).
  virtual AddrRange guest_range() const = 0;
  // Called once when this process has confined itself, before guests run: from here on the
  // platform may keep processes ready. Those it cloned earlier could miss a change of the root
  // that happens meanwhile (the host walks a list of processes that a new one is not on yet).
  virtual void OnConfined() {}
  // The calling thread has nothing urgent to do: what the next program needs may be made now.
  virtual void OnIdle() {}
  virtual Result<std::unique_ptr<AddressSpace>> NewAddressSpace() = 0;
  virtual std::unique_ptr<Context> NewContext() = 0;
  // Where the code of the host's vDSO can be called in every address space; outside guest_range().
  // Empty if nowhere.
  virtual AddrRange vdso_range() const { return {}; }
  // Size of the XSAVE area, and the feature bits (XCR0) that it covers.
  virtual size_t fp_state_size() const = 0;
  virtual uint64_t fp_features() const = 0;
  // How guest code came to the sentry, by kind, since the start: names are [a-z_]+.
  struct Counter {
    absl::string_view name;
    uint64_t value;
  };
  virtual std::vector<Counter> Counters() const { return {}; }
  // AT_MINSIGSTKSZ of the guest, bytes.
  virtual uint64_t min_signal_stack() const = 0;
};

}  // namespace caisson::platform

#endif  // CAISSON_PLATFORM_PLATFORM_H_
