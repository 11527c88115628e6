// Container ids.
#ifndef CAISSON_RUNSC_CONTAINER_ID_H_
#define CAISSON_RUNSC_CONTAINER_ID_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace caisson::runsc {

// An id is a file name: letters, digits and _ + - . only, not "." or "..", at most 255 bytes.
// Errors: InvalidArgument, with the id escaped.
absl::Status ValidateId(absl::string_view id);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_ID_H_
