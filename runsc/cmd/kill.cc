#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/oci/names.h"

namespace caisson::cmd {

absl::StatusOr<int> Kill(const Args& args) {
  ASSIGN_OR_RETURN(int signal,
                   oci::SignalNumber(args.positional.size() > 1 ? args.positional[1] : "TERM"));
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  RETURN_IF_ERROR(runsc::SignalContainer(container.dir, container.state, signal, args.all));
  return 0;
}

}  // namespace caisson::cmd
