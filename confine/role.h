// Becoming monitor, sentry or gofer: the executable runs itself again, with exactly the descriptors
// that the role needs, by name.
#ifndef CAISSON_CONFINE_ROLE_H_
#define CAISSON_CONFINE_ROLE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace caisson::confine {

inline constexpr char kMonitorRole[] = "runsc-monitor";
inline constexpr char kSentryRole[] = "runsc-sentry";
inline constexpr char kGoferRole[] = "runsc-gofer";

struct RoleExec {
  const char* role;                            // argv[0].
  std::map<std::string, std::string> options;  // --KEY=VALUE.
  // Descriptors by name (borrowed); -1 ones are left out.
  std::map<std::string, int> fds;
  int null_fd = -1;    // /dev/null, becomes 0, 1 and 2.
  int stderr_fd = -1;  // Becomes 2, if given.
};

// Executes `exe_fd`, an executable opened close-on-exec. No other descriptor survives, the
// environment is empty, no signal is blocked. Returns only on failure.
absl::Status ExecRole(int exe_fd, const RoleExec& role);

// What ExecRole() passed, on the other side.
class RoleArgs {
 public:
  // Takes ownership of the named descriptors, which become close-on-exec, and sets the process's
  // name to argv[0]. Errors: kInvalidArgument.
  static absl::StatusOr<RoleArgs> Parse(int argc, char** argv);

  // Invalid if it was not passed (or was taken before).
  UniqueFd TakeFd(const std::string& name);
  // Empty if it was not passed.
  std::string Option(const std::string& key) const;
  // 0 if it was not passed or is no number.
  int IntOption(const std::string& key) const;

 private:
  std::map<std::string, std::string> options_;
  std::map<std::string, UniqueFd> fds_;
};

}  // namespace caisson::confine

#endif  // CAISSON_CONFINE_ROLE_H_
