#include "base/log.h"
#include "runsc/cmd/commands.h"

namespace caisson::cmd {

absl::StatusOr<int> Delete(const Args& args) {
  absl::Status first;
  for (const std::string& id : args.positional) {
    absl::Status status = runsc::DeleteContainer(args.options, id, args.force);
    if (status.ok()) continue;
    if (!first.ok()) LOG_ERROR(status.message());
    if (first.ok()) first = status;
  }
  if (!first.ok()) return first;
  return 0;
}

}  // namespace caisson::cmd
