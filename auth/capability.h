// Capabilities as in capabilities(7); numbers are Linux's.
#ifndef CAISSON_AUTH_CAPABILITY_H_
#define CAISSON_AUTH_CAPABILITY_H_

#include <cstdint>

namespace caisson::auth {

enum class Capability : uint8_t {
  kChown = 0, kDacOverride, kDacReadSearch, kFowner, kFsetid, kKill, kSetgid, kSetuid, kSetpcap,
  kLinuxImmutable, kNetBindService, kNetBroadcast, kNetAdmin, kNetRaw, kIpcLock, kIpcOwner,
  kSysModule, kSysRawio, kSysChroot, kSysPtrace, kSysPacct, kSysAdmin, kSysBoot, kSysNice,
  kSysResource, kSysTime, kSysTtyConfig, kMknod, kLease, kAuditWrite, kAuditControl, kSetfcap,
  kMacOverride, kMacAdmin, kSyslog, kWakeAlarm, kBlockSuspend, kAuditRead, kPerfmon, kBpf,
  kCheckpointRestore,
};
inline constexpr int kLastCapability = 40;

// A set of capabilities; bit n is capability n.
using CapSet = uint64_t;
inline constexpr CapSet kAllCapabilities = (CapSet{1} << (kLastCapability + 1)) - 1;
constexpr CapSet CapBit(Capability c) { return CapSet{1} << static_cast<int>(c); }

}  // namespace caisson::auth

#endif  // CAISSON_AUTH_CAPABILITY_H_
