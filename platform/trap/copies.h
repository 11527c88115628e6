// Arguments and results that go along with the hand-off of a patched call, so that they cost no call of
// the host. The trampoline copies small arguments into the slot before it hands over, and stores
// results from it before the guest goes on.
#ifndef CAISSON_PLATFORM_TRAP_COPIES_H_
#define CAISSON_PLATFORM_TRAP_COPIES_H_

#include <errno.h>
#include <sys/syscall.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "base/guest_addr.h"
#include "platform/platform.h"
#include "platform/trap/slot.h"
#include "platform/trap/trampoline.h"

namespace caisson::platform::trap {

// Which memory comes along with a call.
struct CopyRule {
  uint8_t address = 0;  // Offset in CallRegisters of the register that points there; 0: nothing does.
  uint8_t length = 0;   // Offset of the register that says how long it is; 0: `size`.
  uint8_t size = 0;
  bool string = false;
};

inline constexpr std::array<CopyRule, 512> kCopyRules = [] {
  constexpr uint8_t kRdi = offsetof(CallRegisters, rdi), kRsi = offsetof(CallRegisters, rsi),
                    kRdx = offsetof(CallRegisters, rdx), kR10 = offsetof(CallRegisters, r10),
                    kR8 = offsetof(CallRegisters, r8);
  std::array<CopyRule, 512> rules{};
  for (int number : {SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_chdir, SYS_mkdir, SYS_rmdir,
                     SYS_creat, SYS_unlink, SYS_readlink, SYS_chmod, SYS_chown, SYS_lchown,
                     SYS_statfs, SYS_truncate})
    rules[static_cast<size_t>(number)] = {.address = kRdi, .string = true};
  for (int number : {SYS_openat, SYS_mkdirat, SYS_newfstatat, SYS_unlinkat, SYS_readlinkat,
                     SYS_fchmodat, SYS_fchownat, SYS_faccessat, SYS_statx, SYS_openat2,
                     SYS_faccessat2, SYS_utimensat, SYS_inotify_add_watch})
    rules[static_cast<size_t>(number)] = {.address = kRsi, .string = true};
  for (int number : {SYS_write, SYS_pwrite64, SYS_sendto, SYS_connect, SYS_bind})
    rules[static_cast<size_t>(number)] = {.address = kRsi, .length = kRdx};
  rules[SYS_setsockopt] = {.address = kR10, .length = kR8};
  rules[SYS_rt_sigaction] = {.address = kRsi, .size = 32};
  rules[SYS_rt_sigprocmask] = {.address = kRsi, .size = 8};
  rules[SYS_nanosleep] = {.address = kRdi, .size = 16};
  rules[SYS_clock_nanosleep] = {.address = kRdx, .size = 16};
  rules[SYS_epoll_ctl] = {.address = kR10, .size = 12};
  return rules;
}();

// The result of a call whose results could not be stored.
inline constexpr uint64_t kCopyFailed = static_cast<uint64_t>(-int64_t{EFAULT});

// The sentry's side, of one thread. Nothing that the guest writes into the slot is believed but the
// bytes themselves, which are its own arguments and results.
class Copies {
 public:
  // A call has come, with the arguments that `slot` has: copies them. `patches` puts the file's bytes
  // over patches.
  template <typename Overlay>
  void TakeCall(const Slot& slot, const Registers& regs, const Overlay& overlay) {
    Forget();
    if (TakeArguments(slot, regs)) overlay(from_, absl::MakeSpan(in_, size_));
  }
  // Any other event.
  void Forget() {
    size_ = 0;
    count_ = used_ = 0;
  }

  size_t In(GuestAddr from, absl::Span<char> to) const;

  // False: no room.
  bool Later(Slot& slot, GuestAddr to, absl::Span<const char> from);
  bool waiting() const { return count_ != 0 && !published_; }
  // For the trampoline, which is about to go on.
  void Publish(Slot& slot);
  // Stores all that has not been published. False if memory was not there.
  bool Flush(const Slot& slot, AddressSpace& space);
  // Stores what the trampoline, found with `here`, has not stored any more.
  bool Finish(const Slot& slot, AddressSpace& space, const Trampoline& t, const Registers& here);

 private:
  bool TakeArguments(const Slot& slot, const Registers& regs);
  bool Store(const Slot& slot, AddressSpace& space, size_t first, size_t skip);

  uint64_t from_ = 0;
  size_t size_ = 0;
  CopyOutRecord out_[kMaxCopiesOut];
  size_t count_ = 0;
  size_t used_ = 0;
  bool published_ = false;
  char in_[kMaxCopyIn];
};

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_COPIES_H_
