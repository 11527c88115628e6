// CLONE_* of clone(2).
#ifndef CAISSON_SENTRY_KERNEL_CLONE_FLAGS_H_
#define CAISSON_SENTRY_KERNEL_CLONE_FLAGS_H_

#include <cstdint>

namespace caisson::kernel {

inline constexpr uint64_t kCloneNewtime = 0x80, kCloneVm = 0x100, kCloneFs = 0x200,
                          kCloneFiles = 0x400, kCloneSighand = 0x800, kClonePidfd = 0x1000,
                          kClonePtrace = 0x2000, kCloneVfork = 0x4000, kCloneParent = 0x8000,
                          kCloneThread = 0x10000, kCloneNewns = 0x20000, kCloneSysvsem = 0x40000,
                          kCloneSettls = 0x80000, kCloneParentSettid = 0x100000,
                          kCloneChildCleartid = 0x200000, kCloneDetached = 0x400000,
                          kCloneUntraced = 0x800000, kCloneChildSettid = 0x1000000,
                          kCloneNewcgroup = 0x2000000, kCloneNewuts = 0x4000000,
                          kCloneNewipc = 0x8000000, kCloneNewuser = 0x10000000,
                          kCloneNewpid = 0x20000000, kCloneNewnet = 0x40000000,
                          kCloneIo = 0x80000000, kCloneClearSighand = 0x100000000,
                          kCloneIntoCgroup = 0x200000000;

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_CLONE_FLAGS_H_
