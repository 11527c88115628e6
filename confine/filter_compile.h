// Table to BPF, with libseccomp. Linked into the build-time tool only: processes carry the result.
#ifndef CAISSON_CONFINE_FILTER_COMPILE_H_
#define CAISSON_CONFINE_FILTER_COMPILE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "base/bpf.h"
#include "confine/filter_table.h"

namespace caisson::confine {

// A binary tree over the call numbers; another architecture or the x32 numbers kill the process.
absl::StatusOr<std::vector<bpf::Instruction>> CompileFilter(const FilterTable& table);

}  // namespace caisson::confine

#endif  // CAISSON_CONFINE_FILTER_COMPILE_H_
