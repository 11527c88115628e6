#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"

namespace caisson::cmd {

absl::StatusOr<int> Start(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/true));
  RETURN_IF_ERROR(runsc::StartContainer(args.options, container.dir, container.state));
  return 0;
}

}  // namespace caisson::cmd
