#include "runsc/cmd/version.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/oci/seccomp_filter.h"

namespace caisson::cmd {

std::string VersionText() {
  return absl::StrCat("runsc version ", kVersion, "\ncommit: caisson\nspec: ", kSpecVersion,
                      "\nlibseccomp: ", oci::LibseccompVersion(), "\n");
}

absl::StatusOr<int> Version(const Args&) {
  RETURN_IF_ERROR(Print(VersionText()));
  return 0;
}

}  // namespace caisson::cmd
