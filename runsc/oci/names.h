// Names of capabilities, resource limits and signals.
#ifndef CAISSON_RUNSC_OCI_NAMES_H_
#define CAISSON_RUNSC_OCI_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace caisson::oci {

// "CAP_KILL" or "kill" to its bit number.
std::optional<int> CapabilityNumber(absl::string_view name);
// All names, in order of their numbers.
std::vector<std::string> CapabilityNames();
// The set's bits; unknown names are logged and left out, since a profile may be newer than we are.
uint64_t CapabilitySet(const std::vector<std::string>& names);

// "RLIMIT_NOFILE".
std::optional<uint32_t> RlimitNumber(absl::string_view name);

// "9", "KILL", "SIGKILL", "sigkill", "RTMIN+1": 1 to 64 (signal(7)).
absl::StatusOr<int> SignalNumber(absl::string_view name);

}  // namespace caisson::oci

#endif  // CAISSON_RUNSC_OCI_NAMES_H_
