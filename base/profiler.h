// Samples the stacks of this process's threads, by CPU time used.
#ifndef CAISSON_BASE_PROFILER_H_
#define CAISSON_BASE_PROFILER_H_

#include <string>

#include "base/result.h"

namespace caisson::profiler {

// Takes a sample of the running thread after each 1/`hz` seconds of CPU time of the process
// (setitimer(2), ITIMER_PROF), from a SIGPROF handler; threads that block SIGPROF are not sampled.
// Samples of an earlier run are dropped. Holds kMaxSamples; later ones are counted as lost.
// Errors: EINVAL (`hz` outside 1 to 10000), EBUSY (running), ENOMEM, those of setitimer(2).
Result<void> Start(int hz);
void Stop();

// The samples since Start() as folded stacks, one a line: addresses relative to the start of the
// executable's image in hexadecimal, outermost first and with semicolons between, a space, how often.
std::string Take();

inline constexpr int kMaxSamples = 16384;
inline constexpr int kMaxDepth = 48;

}  // namespace caisson::profiler

#endif  // CAISSON_BASE_PROFILER_H_
