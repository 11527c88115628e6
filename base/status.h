// absl::Status, the error world of operators: macros and errno texts.
#ifndef CAISSON_BASE_STATUS_H_
#define CAISSON_BASE_STATUS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace caisson {

// A status of the kind that fits `host_errno`, "WHAT: no such file or directory": the text is
// lower case, as engines match it.
absl::Status HostErrnoStatus(int host_errno, absl::string_view what);

// The same status code with "PREFIX: " before the message.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

}  // namespace caisson

#define RETURN_IF_ERROR(...)                       \
  do {                                             \
    ::absl::Status status_macro_ = (__VA_ARGS__);  \
    if (!status_macro_.ok()) return status_macro_; \
  } while (false)

#define CAISSON_STATUS_CONCAT_INNER(a, b) a##b
#define CAISSON_STATUS_CONCAT(a, b) CAISSON_STATUS_CONCAT_INNER(a, b)
// ASSIGN_OR_RETURN(Container container, LoadContainer(id)): declares or assigns, or returns.
#define ASSIGN_OR_RETURN(lhs, ...)                                  \
  auto CAISSON_STATUS_CONCAT(status_or_, __LINE__) = (__VA_ARGS__); \
  if (!CAISSON_STATUS_CONCAT(status_or_, __LINE__).ok())            \
    return CAISSON_STATUS_CONCAT(status_or_, __LINE__).status();    \
  lhs = std::move(CAISSON_STATUS_CONCAT(status_or_, __LINE__)).value()

#endif  // CAISSON_BASE_STATUS_H_
