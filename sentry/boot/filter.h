// What the sentry may ask of the host kernel.
#ifndef CAISSON_SENTRY_BOOT_FILTER_H_
#define CAISSON_SENTRY_BOOT_FILTER_H_

#include "confine/filter_table.h"

namespace caisson::boot {

const confine::FilterTable& SentryFilterTable();
// The table, compiled (generated while building).
absl::Span<const bpf::Instruction> SentryFilterProgram();

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_FILTER_H_
