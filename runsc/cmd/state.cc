#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"

namespace caisson::cmd {

absl::StatusOr<int> State(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  runsc::Status status = runsc::StatusOf(container.dir, container.state);
  oci::Json json = runsc::OciState(container.state, status);
  json.Set("owner", oci::Json(UserName(container.state.owner_uid)));
  RETURN_IF_ERROR(Print(json.ToText("  ") + "\n"));
  return 0;
}

}  // namespace caisson::cmd
