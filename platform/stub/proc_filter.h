// What the process behind ProcView may ask of the host.
#ifndef CAISSON_PLATFORM_STUB_PROC_FILTER_H_
#define CAISSON_PLATFORM_STUB_PROC_FILTER_H_

#include "absl/types/span.h"
#include "base/bpf.h"
#include "confine/filter_table.h"

namespace caisson::platform::stub {

// Its descriptors.
inline constexpr int kProcSocket = 0;
inline constexpr int kProcDirectory = 1;

const confine::FilterTable& ProcFilterTable();
// Compiled from the table while building.
absl::Span<const bpf::Instruction> ProcFilterProgram();

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_PROC_FILTER_H_
