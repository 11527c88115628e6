// What the gofer may ask of the host kernel.
#ifndef CAISSON_GOFER_FILTER_H_
#define CAISSON_GOFER_FILTER_H_

#include "confine/filter_table.h"

namespace caisson::gofer {

// Stands for the descriptor of /proc/self/fd in the table.
inline constexpr uint32_t kProcSelfFd = 0x7e1f0bfd;

const confine::FilterTable& GoferFilterTable();
absl::Span<const bpf::Instruction> GoferFilterProgram();

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_FILTER_H_
