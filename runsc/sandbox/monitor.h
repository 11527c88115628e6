// The monitor: the small process whose pid engines see, one for each container and each exec.
#ifndef CAISSON_RUNSC_SANDBOX_MONITOR_H_
#define CAISSON_RUNSC_SANDBOX_MONITOR_H_

namespace caisson::runsc {

// Entry of runsc executed as "runsc-monitor". Ends as the guest's process does: with its status, or
// by its signal; with 137 if the sandbox died.
int MonitorMain(int argc, char** argv);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_SANDBOX_MONITOR_H_
