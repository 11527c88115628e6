// What uname(2) and /proc/version say: a current long-term release, so that programs and test
// suites do not skip, with our name in the version.
#ifndef CAISSON_SENTRY_KERNEL_VERSION_H_
#define CAISSON_SENTRY_KERNEL_VERSION_H_

namespace caisson::kernel {

inline constexpr char kKernelRelease[] = "6.12.0-caisson";
inline constexpr char kKernelVersion[] = "#1 SMP PREEMPT_DYNAMIC Caisson";

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_VERSION_H_
