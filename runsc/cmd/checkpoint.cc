#include "absl/strings/str_cat.h"
#include "runsc/cmd/commands.h"

namespace caisson::cmd {

absl::StatusOr<int> Checkpoint(const Args& args) {
  return absl::UnimplementedError(absl::StrCat(args.command, " is not supported yet"));
}

}  // namespace caisson::cmd
