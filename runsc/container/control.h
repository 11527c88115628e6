// Requests to a sentry, with its answers as the texts that engines know.
#ifndef CAISSON_RUNSC_CONTAINER_CONTROL_H_
#define CAISSON_RUNSC_CONTAINER_CONTROL_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/sandbox/sandbox.h"

namespace caisson::runsc {

// Sends one request to the sentry at `socket`. A reply that is not OK becomes an error; its text
// is escaped and cut, since a hostile sentry wrote it.
// OutOfRange: the sandbox went away before it answered.
absl::StatusOr<protocol::Reply> CallSentry(const std::string& socket,
                                           const protocol::Request& request,
                                           int timeout_ms = 10'000);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_CONTROL_H_
