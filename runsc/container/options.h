// The global options of the command line, as the lifecycle needs them.
#ifndef CAISSON_RUNSC_CONTAINER_OPTIONS_H_
#define CAISSON_RUNSC_CONTAINER_OPTIONS_H_

#include <string>

#include "runsc/oci/convert.h"

namespace caisson::runsc {

struct Options {
  std::string root;  // State directory.
  std::string platform = "auto";
  std::string network = "none";
  oci::Overlay overlay = oci::Overlay::kNone;
  bool debug = false;
  bool json_log = false;
  int log_fd = -1;        // Of --log; -1 where that is standard error.
  std::string debug_log;  // Pattern for the sandbox's log: %ID%, %COMMAND%, %TIMESTAMP%; a
                          // trailing slash names a directory.
  bool strace = false;
  std::string strace_calls;
  bool ignore_cgroups = false;
  bool systemd_cgroup = false;
  bool rootless = false;
  bool host_uds = false;
};

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_OPTIONS_H_
