// What a running monitor may ask of the host kernel.
#ifndef CAISSON_RUNSC_SANDBOX_MONITOR_FILTER_H_
#define CAISSON_RUNSC_SANDBOX_MONITOR_FILTER_H_

#include "confine/filter_table.h"

namespace caisson::runsc {

// Stands for the monitor's own pid in the table.
inline constexpr uint32_t kOwnPid = 0x7e1f0b1d;

const confine::FilterTable& MonitorFilterTable();
absl::Span<const bpf::Instruction> MonitorFilterProgram();

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_SANDBOX_MONITOR_FILTER_H_
