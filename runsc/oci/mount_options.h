// Options of a mount in config.json.
#ifndef CAISSON_RUNSC_OCI_MOUNT_OPTIONS_H_
#define CAISSON_RUNSC_OCI_MOUNT_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace caisson::oci {

struct MountOptions {
  uint64_t flags = 0;        // MS_* of mount(2), without MS_BIND.
  uint64_t propagation = 0;  // MS_PRIVATE, MS_SLAVE, ...; with MS_REC for the recursive ones.
  std::string data;          // What is for the file system, comma-separated.
  bool bind = false;
};

// Errors: InvalidArgument for what would change the meaning and is not supported.
absl::StatusOr<MountOptions> ParseMountOptions(const std::vector<std::string>& options);
// "rslave" and so on; 0 for what is none.
uint64_t PropagationFlags(absl::string_view option);
// The options that `features` lists.
std::vector<std::string> MountOptionNames();

}  // namespace caisson::oci

#endif  // CAISSON_RUNSC_OCI_MOUNT_OPTIONS_H_
