// runsc with a kernel that only pretends (sentry/boot/fake_kernel.h): real command line, monitor,
// sentry process, gofer and confinement, for tests of the command line.
#include "confine/role.h"
#include "gofer/main.h"
#include "runsc/cmd/commands.h"
#include "runsc/sandbox/monitor.h"
#include "sentry/boot/fake_kernel.h"

int main(int argc, char** argv) {
  const absl::string_view role = argc > 0 ? argv[0] : "";
  if (role == caisson::confine::kMonitorRole) return caisson::runsc::MonitorMain(argc, argv);
  if (role == caisson::confine::kSentryRole) {
    return caisson::boot::RunSentry(argc, argv, caisson::boot::FakeParts());
  }
  if (role == caisson::confine::kGoferRole) return caisson::gofer::GoferMain(argc, argv);
  return caisson::cmd::Main(argc, argv);
}
