// futex(2), robust lists and futex_waitv(2) (uapi linux/futex.h).
#ifndef CAISSON_ABI_FUTEX_H_
#define CAISSON_ABI_FUTEX_H_

#include <cstddef>
#include <cstdint>

namespace caisson::abi {

inline constexpr int kFutexWait = 0;
inline constexpr int kFutexWake = 1;
inline constexpr int kFutexRequeue = 3;
inline constexpr int kFutexCmpRequeue = 4;
inline constexpr int kFutexWakeOp = 5;
inline constexpr int kFutexLockPi = 6;
inline constexpr int kFutexUnlockPi = 7;
inline constexpr int kFutexTrylockPi = 8;
inline constexpr int kFutexWaitBitset = 9;
inline constexpr int kFutexWakeBitset = 10;
inline constexpr int kFutexWaitRequeuePi = 11;
inline constexpr int kFutexCmpRequeuePi = 12;
inline constexpr int kFutexLockPi2 = 13;
inline constexpr int kFutexPrivateFlag = 128;
inline constexpr int kFutexClockRealtime = 256;
inline constexpr int kFutexCmdMask = ~(kFutexPrivateFlag | kFutexClockRealtime);

inline constexpr uint32_t kFutexBitsetMatchAny = 0xffffffff;

// The word of a priority-inheriting or robust futex.
inline constexpr uint32_t kFutexWaiters = 0x80000000;
inline constexpr uint32_t kFutexOwnerDied = 0x40000000;
inline constexpr uint32_t kFutexTidMask = 0x3fffffff;

// FUTEX_WAKE_OP's encoded argument.
inline constexpr uint32_t kFutexOpSet = 0;
inline constexpr uint32_t kFutexOpAdd = 1;
inline constexpr uint32_t kFutexOpOr = 2;
inline constexpr uint32_t kFutexOpAndn = 3;
inline constexpr uint32_t kFutexOpXor = 4;
inline constexpr uint32_t kFutexOpOpargShift = 8;
inline constexpr uint32_t kFutexOpCmpEq = 0;
inline constexpr uint32_t kFutexOpCmpNe = 1;
inline constexpr uint32_t kFutexOpCmpLt = 2;
inline constexpr uint32_t kFutexOpCmpLe = 3;
inline constexpr uint32_t kFutexOpCmpGt = 4;
inline constexpr uint32_t kFutexOpCmpGe = 5;

struct RobustListHead {
  uint64_t next;  // struct robust_list*; bit 0 of an entry's address: a PI futex.
  int64_t futex_offset;
  uint64_t list_op_pending;
};
static_assert(sizeof(RobustListHead) == 24);
inline constexpr int kRobustListLimit = 2048;

struct FutexWaitv {
  uint64_t value;
  uint64_t address;
  uint32_t flags;
  uint32_t reserved;
};
static_assert(sizeof(FutexWaitv) == 24);
static_assert(offsetof(FutexWaitv, flags) == 16);
inline constexpr int kFutexWaitvMax = 128;
inline constexpr uint32_t kFutex2Size32 = 2;
inline constexpr uint32_t kFutex2Private = 128;

}  // namespace caisson::abi

#endif  // CAISSON_ABI_FUTEX_H_
