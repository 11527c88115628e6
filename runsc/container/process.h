// Host processes, known by pid and start time.
#ifndef CAISSON_RUNSC_CONTAINER_PROCESS_H_
#define CAISSON_RUNSC_CONTAINER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace caisson::runsc {

struct ProcessStat {
  char state = '?';  // 'R', 'S', 'Z', ...
  pid_t ppid = 0;
  uint64_t start_time = 0;  // Clock ticks since boot: with the pid, it names a process for good.
};

// From the text of /proc/PID/stat. The command in it may hold blanks and parentheses.
std::optional<ProcessStat> ParseStat(absl::string_view text);
// Nothing if there is no such process.
std::optional<ProcessStat> StatOf(pid_t pid);

// Whether that very process runs: a zombie does not.
bool IsAlive(pid_t pid, uint64_t start_time);

// pidfd_open(2); invalid if there is no such process. (glibc 2.36 declares its own for C only.)
UniqueFd OpenPidfd(pid_t pid);

// Its pid in each namespace from that of /proc inwards (NSpid); empty if there is no such process.
std::vector<pid_t> NamespacePids(pid_t pid);
// All processes that /proc shows.
std::vector<pid_t> AllProcesses();

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_PROCESS_H_
