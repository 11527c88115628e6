// Constants of mmap(2) and its family (uapi asm-generic/mman*.h). MAP_* flags are in
// sentry/mm/memory_manager.h, part of its interface.
#ifndef CAISSON_ABI_MMAN_H_
#define CAISSON_ABI_MMAN_H_

#include <cstdint>

namespace caisson::abi {

inline constexpr uint32_t kProtRead = 1;
inline constexpr uint32_t kProtWrite = 2;
inline constexpr uint32_t kProtExec = 4;
inline constexpr uint32_t kProtSem = 8;
inline constexpr uint32_t kProtGrowsDown = 0x01000000;
inline constexpr uint32_t kProtGrowsUp = 0x02000000;

inline constexpr uint32_t kMapHugeShift = 26;
inline constexpr uint32_t kMapHugeMask = 0x3f;

inline constexpr uint32_t kMremapMaymove = 1;
inline constexpr uint32_t kMremapFixed = 2;
inline constexpr uint32_t kMremapDontunmap = 4;

inline constexpr int kMadvNormal = 0;
inline constexpr int kMadvRandom = 1;
inline constexpr int kMadvSequential = 2;
inline constexpr int kMadvWillneed = 3;
inline constexpr int kMadvDontneed = 4;
inline constexpr int kMadvFree = 8;
inline constexpr int kMadvRemove = 9;
inline constexpr int kMadvDontfork = 10;
inline constexpr int kMadvDofork = 11;
inline constexpr int kMadvMergeable = 12;
inline constexpr int kMadvUnmergeable = 13;
inline constexpr int kMadvHugepage = 14;
inline constexpr int kMadvNohugepage = 15;
inline constexpr int kMadvDontdump = 16;
inline constexpr int kMadvDodump = 17;
inline constexpr int kMadvWipeonfork = 18;
inline constexpr int kMadvKeeponfork = 19;
inline constexpr int kMadvCold = 20;
inline constexpr int kMadvPageout = 21;
inline constexpr int kMadvPopulateRead = 22;
inline constexpr int kMadvPopulateWrite = 23;
inline constexpr int kMadvDontneedLocked = 24;
inline constexpr int kMadvCollapse = 25;
inline constexpr int kMadvHwpoison = 100;
inline constexpr int kMadvSoftOffline = 101;

inline constexpr int kMsAsync = 1;
inline constexpr int kMsInvalidate = 2;
inline constexpr int kMsSync = 4;

inline constexpr int kMclCurrent = 1;
inline constexpr int kMclFuture = 2;
inline constexpr int kMclOnfault = 4;

// siginfo codes of memory faults (sigaction(2)).
inline constexpr int kSigbus = 7;
inline constexpr int kSigsegv = 11;
inline constexpr int kSegvMaperr = 1;
inline constexpr int kSegvAccerr = 2;
inline constexpr int kBusAdrerr = 2;

// Page-fault error code bits (Intel SDM, Page-Fault Exceptions).
inline constexpr uint64_t kFaultProtection = 1;
inline constexpr uint64_t kFaultWrite = 2;
inline constexpr uint64_t kFaultInstruction = 16;

}  // namespace caisson::abi

#endif  // CAISSON_ABI_MMAN_H_
