#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"

namespace caisson::cmd {

absl::StatusOr<int> Pause(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/true));
  RETURN_IF_ERROR(runsc::PauseContainer(container.dir, container.state));
  return 0;
}

absl::StatusOr<int> Resume(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/true));
  RETURN_IF_ERROR(runsc::ResumeContainer(container.dir, container.state));
  return 0;
}

}  // namespace caisson::cmd
