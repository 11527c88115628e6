// One executable, four processes: which one is told by the name it was executed as.
#include "gofer/main.h"

#include "confine/role.h"
#include "runsc/cmd/commands.h"
#include "runsc/sandbox/monitor.h"
#include "sentry/boot/main.h"

int main(int argc, char** argv) {
  const absl::string_view role = argc > 0 ? argv[0] : "";
  if (role == caisson::confine::kMonitorRole) return caisson::runsc::MonitorMain(argc, argv);
  if (role == caisson::confine::kSentryRole) return caisson::boot::SentryMain(argc, argv);
  if (role == caisson::confine::kGoferRole) return caisson::gofer::GoferMain(argc, argv);
  return caisson::cmd::Main(argc, argv);
}
