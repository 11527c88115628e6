// The commands: one function and one file each. Each returns the exit status.
#ifndef CAISSON_RUNSC_CMD_COMMANDS_H_
#define CAISSON_RUNSC_CMD_COMMANDS_H_

#include "absl/status/statusor.h"
#include "runsc/cmd/args.h"

namespace caisson::cmd {

absl::StatusOr<int> Create(const Args& args);
absl::StatusOr<int> Start(const Args& args);
absl::StatusOr<int> Run(const Args& args);
absl::StatusOr<int> Exec(const Args& args);
absl::StatusOr<int> Kill(const Args& args);
absl::StatusOr<int> Delete(const Args& args);
absl::StatusOr<int> State(const Args& args);
absl::StatusOr<int> Ps(const Args& args);
absl::StatusOr<int> List(const Args& args);
absl::StatusOr<int> Wait(const Args& args);
absl::StatusOr<int> Spec(const Args& args);
absl::StatusOr<int> Features(const Args& args);
absl::StatusOr<int> Do(const Args& args);
absl::StatusOr<int> Debug(const Args& args);
absl::StatusOr<int> Metrics(const Args& args);
absl::StatusOr<int> Version(const Args& args);
absl::StatusOr<int> Pause(const Args& args);
absl::StatusOr<int> Resume(const Args& args);
absl::StatusOr<int> Update(const Args& args);
absl::StatusOr<int> Events(const Args& args);
absl::StatusOr<int> Checkpoint(const Args& args);
absl::StatusOr<int> OciDocument(const Args& args);

// The whole command line: log, parsing, the command, its error.
int Main(int argc, char** argv);

// The config.json that `spec` writes.
oci::Json SpecTemplate(bool rootless);
// Runs a created container in the foreground, deletes it (but for `keep`) and returns its status.
absl::StatusOr<int> RunInForeground(const runsc::Options& options, runsc::Created created,
                                    bool keep);
// Writes to standard output.
absl::Status Print(absl::string_view text);

}  // namespace caisson::cmd

#endif  // CAISSON_RUNSC_CMD_COMMANDS_H_
