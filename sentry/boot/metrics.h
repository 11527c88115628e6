// Figures of a sandbox in the text format of Prometheus.
#ifndef CAISSON_SENTRY_BOOT_METRICS_H_
#define CAISSON_SENTRY_BOOT_METRICS_H_

#include <string>

#include "sentry/kernel/kernel.h"
#include "syscalls/dispatch.h"

namespace caisson::boot {

// Counters of system calls, of unsupported requests and of ways into the sentry; gauges of tasks and
// processes; histograms where they are kept. Label values are escaped: a guest chooses some.
std::string MetricsText(kernel::Kernel& kernel, const syscalls::Dispatcher& dispatcher);

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_METRICS_H_
