// Reading and writing the small text files of /proc and /sys.
#ifndef CAISSON_RUNSC_CGROUP_FILE_H_
#define CAISSON_RUNSC_CGROUP_FILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace caisson::cgroup {

absl::StatusOr<std::string> ReadText(const std::string& path);
// One write(2), as these files want it. Errors name path and value.
absl::Status WriteText(const std::string& path, absl::string_view value);
bool Exists(const std::string& path);
// The number in a file of one number; "max" is 2^64-1.
std::optional<uint64_t> ReadNumber(const std::string& path);
// "key value" lines.
std::vector<std::pair<std::string, uint64_t>> ReadKeyed(const std::string& path);

}  // namespace caisson::cgroup

#endif  // CAISSON_RUNSC_CGROUP_FILE_H_
