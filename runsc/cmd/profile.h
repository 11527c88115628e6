// The profiler's side of `runsc debug`.
#ifndef CAISSON_RUNSC_CMD_PROFILE_H_
#define CAISSON_RUNSC_CMD_PROFILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runsc/cmd/args.h"

namespace caisson::cmd {

// Samples the sentry behind `socket` for args.duration and writes what flame graph tools read:
// "main;Run;Dispatch 12" lines.
absl::Status Profile(const std::string& socket, const Args& args);

// Names for the addresses of profiler::Take(). `folded` is not trusted: lines that are none are
// dropped.
std::string SymbolizeProfile(absl::string_view folded);

}  // namespace caisson::cmd

#endif  // CAISSON_RUNSC_CMD_PROFILE_H_
