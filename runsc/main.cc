// One executable, four processes: which one is told by the name it was executed as.
#include "gofer/main.h"

#include "confine/role.h"
#include "runsc/cmd/commands.h"
#include "runsc/sandbox/monitor.h"
#include "sentry/boot/main.h"

#ifdef CAISSON_SANITIZED
// The roles run without an environment. LeakSanitizer traces its own process, which none of them may.
extern "C" const char* __asan_default_options() {  // NOLINT(bugprone-reserved-identifier)
  return "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:symbolize=0:color=never";
}
extern "C" const char* __ubsan_default_options() {  // NOLINT(bugprone-reserved-identifier)
  return "print_stacktrace=1:abort_on_error=1:symbolize=0:color=never";
}
extern "C" const char* __tsan_default_options() {  // NOLINT(bugprone-reserved-identifier)
  return "halt_on_error=1:abort_on_error=1:color=never";
}
#endif

int main(int argc, char** argv) {
  const absl::string_view role = argc > 0 ? argv[0] : "";
  if (role == caisson::confine::kMonitorRole) return caisson::runsc::MonitorMain(argc, argv);
  if (role == caisson::confine::kSentryRole) return caisson::boot::SentryMain(argc, argv);
  if (role == caisson::confine::kGoferRole) return caisson::gofer::GoferMain(argc, argv);
  return caisson::cmd::Main(argc, argv);
}
