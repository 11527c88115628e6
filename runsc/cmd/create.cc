#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"

namespace caisson::cmd {

absl::StatusOr<int> Create(const Args& args) {
  ASSIGN_OR_RETURN(runsc::CreateRequest request, ReadBundle(args));
  request.attachment.detach = true;
  ASSIGN_OR_RETURN(runsc::Created created, runsc::CreateContainer(args.options, request));
  return 0;
}

}  // namespace caisson::cmd
