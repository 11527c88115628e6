// What most commands begin with.
#ifndef CAISSON_RUNSC_CMD_COMMON_H_
#define CAISSON_RUNSC_CMD_COMMON_H_

#include <string>

#include "absl/status/statusor.h"
#include "runsc/cmd/args.h"
#include "runsc/container/container.h"

namespace caisson::cmd {

struct Opened {
  runsc::ContainerDir dir;
  runsc::State state;
};

// The container that the first argument names. `lock` is for commands that change it.
absl::StatusOr<Opened> OpenContainer(const Args& args, bool lock);

// The request of create and run: bundle made absolute, config.json read.
absl::StatusOr<runsc::CreateRequest> ReadBundle(const Args& args);

// "UID[:GID]". Names cannot be looked up: /etc/passwd is the container's.
absl::StatusOr<oci::User> ParseUser(const std::string& text, oci::User user);

// A hostile sentry's text must not reach the terminal's escape sequences: control characters but
// newline and tab become "?".
std::string Printable(absl::string_view text);

// The name of a host user, from /etc/passwd; "#UID" where there is none.
std::string UserName(uint32_t uid);

}  // namespace caisson::cmd

#endif  // CAISSON_RUNSC_CMD_COMMON_H_
