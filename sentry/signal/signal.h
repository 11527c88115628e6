// Signals: numbers, sets, siginfo and queues (signal(7)). Knows no task.
#ifndef CAISSON_SENTRY_SIGNAL_SIGNAL_H_
#define CAISSON_SENTRY_SIGNAL_SIGNAL_H_

#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <vector>

#include "absl/strings/string_view.h"
#include "auth/user_counts.h"
#include "base/guest_addr.h"

namespace caisson::signal {

inline constexpr int kSignalCount = 64;
inline constexpr int kFirstRealtime = 32;
enum Number : int {
  kSIGHUP = 1, kSIGINT, kSIGQUIT, kSIGILL, kSIGTRAP, kSIGABRT, kSIGBUS, kSIGFPE, kSIGKILL, kSIGUSR1,
  kSIGSEGV, kSIGUSR2, kSIGPIPE, kSIGALRM, kSIGTERM, kSIGSTKFLT, kSIGCHLD, kSIGCONT, kSIGSTOP,
  kSIGTSTP, kSIGTTIN, kSIGTTOU, kSIGURG, kSIGXCPU, kSIGXFSZ, kSIGVTALRM, kSIGPROF, kSIGWINCH,
  kSIGIO, kSIGPWR, kSIGSYS,
};
constexpr bool IsValid(int signo) { return signo >= 1 && signo <= kSignalCount; }
constexpr bool IsRealtime(int signo) { return signo >= kFirstRealtime; }

// Bit n-1 is signal n, as the guest's sigset_t.
using Set = uint64_t;
constexpr Set Bit(int signo) { return Set{1} << (signo - 1); }
inline constexpr Set kUnblockable = Bit(kSIGKILL) | Bit(kSIGSTOP);
inline constexpr Set kStopSignals = Bit(kSIGSTOP) | Bit(kSIGTSTP) | Bit(kSIGTTIN) | Bit(kSIGTTOU);
// Caused by the thread's own instruction: delivered first (Linux SYNCHRONOUS_MASK).
inline constexpr Set kSynchronous = Bit(kSIGSEGV) | Bit(kSIGBUS) | Bit(kSIGILL) | Bit(kSIGTRAP) |
                                    Bit(kSIGFPE) | Bit(kSIGSYS);

enum class DefaultAction : uint8_t { kTerminate, kCore, kIgnore, kStop, kContinue };
DefaultAction DefaultOf(int signo);
// "SIGHUP", "SIGRT_3".
const char* Name(int signo);

// si_code values.
inline constexpr int kSiUser = 0, kSiKernel = 0x80, kSiQueue = -1, kSiTimer = -2, kSiMesgq = -3,
                     kSiTkill = -6;
inline constexpr int kCldExited = 1, kCldKilled = 2, kCldDumped = 3, kCldTrapped = 4,
                     kCldStopped = 5, kCldContinued = 6;
inline constexpr int kSegvMaperr = 1, kSegvAccerr = 2, kBusAdrerr = 2, kSysSeccomp = 1;

// siginfo_t as the guest sees it: 128 bytes (Linux include/uapi/asm-generic/siginfo.h).
struct Info {
  int32_t signo = 0;
  int32_t errno_value = 0;
  int32_t code = 0;
  int32_t pad = 0;
  union {
    char bytes[112];
    struct { int32_t pid; uint32_t uid; uint64_t value; } rt;              // kill, sigqueue.
    struct { int32_t timer_id; int32_t overrun; uint64_t value; int32_t private_id; } timer;
    struct { int32_t pid; uint32_t uid; int32_t status; int32_t pad; int64_t utime, stime; } child;
    struct { uint64_t address; int16_t address_lsb; } fault;
    struct { int64_t band; int32_t fd; } poll;
    struct { uint64_t call_address; int32_t number; uint32_t arch; } syscall;
  };
  Info() { memset(bytes, 0, sizeof(bytes)); }
  explicit Info(int s, int c = kSiKernel) : Info() { signo = s; code = c; }
};
static_assert(sizeof(Info) == 128);

// sigaction as the system call passes it.
struct Action {
  uint64_t handler = 0;  // 0: SIG_DFL, 1: SIG_IGN.
  uint64_t flags = 0;
  uint64_t restorer = 0;
  Set mask = 0;
};
static_assert(sizeof(Action) == 32);
inline constexpr uint64_t kHandlerDefault = 0, kHandlerIgnore = 1;
inline constexpr uint64_t kSaNocldstop = 1, kSaNocldwait = 2, kSaSiginfo = 4,
                          kSaExposeTagbits = 0x800, kSaRestorer = 0x04000000,
                          kSaOnstack = 0x08000000, kSaRestart = 0x10000000,
                          kSaNodefer = 0x40000000, kSaResethand = 0x80000000;

// stack_t.
struct AltStack {
  uint64_t sp = 0;
  int32_t flags = 0;
  int32_t pad = 0;
  uint64_t size = 0;
  bool Contains(uint64_t address) const { return address > sp && address - sp <= size; }
};
static_assert(sizeof(AltStack) == 24);
inline constexpr int32_t kSsOnstack = 1, kSsDisable = 2;
inline constexpr int32_t kSsAutodisarm = INT32_MIN;  // 1 << 31.

// Pending signals of a task or a thread group. Standard signals are kept once, real-time ones
// are queued in order (signal(7)). Not thread-safe: guarded by the thread group's signal lock.
class Queue {
 public:
  Set pending() const { return pending_; }
  // Counts the entry against `user`, whose RLIMIT_SIGPENDING is `limit`. Past the limit: signals of
  // the kernel, of kill(2) and of timers are queued if they are standard ones; a real-time signal
  // of kill(2) becomes pending without its siginfo; one of sigqueue(2) is refused and *overflow set
  // (Linux __send_signal_locked()). False if nothing became pending: refused, a standard signal
  // that is pending already, or a timer's that is queued already.
  bool Add(const Info& info, const RefPtr<auth::UserCounts>& user, uint64_t limit, bool* overflow);
  // Takes the signal that is delivered next among `wanted`: synchronous ones first, then the
  // lowest number. False if there is none.
  bool Take(Set wanted, Info* out);
  void Remove(Set signals);
  // The `count` entries from the `first` on, by number (PTRACE_PEEKSIGINFO).
  std::vector<Info> Peek(uint64_t first, size_t count) const;
  bool Contains(int signo) const { return (pending_ & Bit(signo)) != 0; }

 private:
  struct Entry {
    Info info;
    auth::UserCharge charge;
  };
  Set pending_ = 0;
  std::map<int, std::list<Entry>> queued_;  // By signal, so that a long queue delays no other.
};

}  // namespace caisson::signal

#endif  // CAISSON_SENTRY_SIGNAL_SIGNAL_H_
