#ifndef CAISSON_RUNSC_CMD_VERSION_H_
#define CAISSON_RUNSC_CMD_VERSION_H_

#include <string>

#include "absl/strings/string_view.h"

namespace caisson::cmd {

constexpr absl::string_view kVersion = "0.1.0";
constexpr absl::string_view kSpecVersion = "1.1.0";

// As runc prints it: dockerd reads "runsc version" (any name), "commit:" and "spec:" lines.
std::string VersionText();

}  // namespace caisson::cmd

#endif  // CAISSON_RUNSC_CMD_VERSION_H_
