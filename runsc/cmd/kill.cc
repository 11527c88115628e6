#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/oci/names.h"

namespace caisson::cmd {
namespace {

// Signal 0 asks whether there is a process (kill(2)).
absl::StatusOr<int> Probe(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  if (runsc::StatusOf(container.dir, container.state) == runsc::Status::kStopped) {
    return absl::FailedPreconditionError("container not running");
  }
  return 0;
}

}  // namespace

absl::StatusOr<int> Kill(const Args& args) {
  const std::string name = args.positional.size() > 1 ? args.positional[1] : "TERM";
  if (name == "0") return Probe(args);
  ASSIGN_OR_RETURN(int signal, oci::SignalNumber(name));
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  RETURN_IF_ERROR(runsc::SignalContainer(container.dir, container.state, signal, args.all));
  return 0;
}

}  // namespace caisson::cmd
