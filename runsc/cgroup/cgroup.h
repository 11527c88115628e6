// The cgroup of a container, in every tree of v1, v2 or both.
#ifndef CAISSON_RUNSC_CGROUP_CGROUP_H_
#define CAISSON_RUNSC_CGROUP_CGROUP_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/cgroup/hierarchy.h"
#include "runsc/oci/spec.h"

namespace caisson::cgroup {

struct Stats {
  uint64_t cpu_total_ns = 0, cpu_user_ns = 0, cpu_system_ns = 0;
  std::vector<uint64_t> cpu_percpu_ns;
  uint64_t throttle_periods = 0, throttled_periods = 0, throttled_ns = 0;
  uint64_t memory_usage = 0, memory_peak = 0, memory_limit = 0, memory_failures = 0;
  uint64_t memory_cache = 0;
  uint64_t swap_usage = 0, swap_limit = 0;
  std::map<std::string, uint64_t> memory_raw;
  uint64_t pids_current = 0, pids_limit = 0;  // A limit of 0 is none.
  uint64_t oom_kills = 0;
};

// A value: the set of its directories, which a state file keeps. Not locked; the container's lock
// is held by who changes it.
class Cgroup {
 public:
  Cgroup() = default;
  explicit Cgroup(Paths paths) : paths_(std::move(paths)) {}

  bool empty() const { return paths_.empty(); }
  const Paths& paths() const { return paths_; }

  // Makes the directories. Errors: FailedPrecondition if there are processes in one already. What
  // was made is removed on failure. A tree that may not be written (no controller of ours there)
  // is left out.
  absl::Status Create();
  // Writes the limits; pids.max is raised by what the sandbox needs.
  absl::Status Apply(const oci::Resources& resources) const;
  // Its directory of v2, for CLONE_INTO_CGROUP; invalid if there is none.
  UniqueFd OpenV2() const;
  // Memory: usage, limit and statistics, for reading. None of them where one is missing.
  std::array<UniqueFd, 3> OpenMemoryFiles() const;
  // Moves the calling process, which has one thread; `in_v2`: not in v2, where it is already.
  absl::Status Join(bool in_v2 = false) const;
  // Ends what is in it and removes the directories; those that are gone are fine.
  absl::Status KillAndRemove() const;

  bool can_freeze() const;
  absl::Status SetFrozen(bool frozen) const;
  bool IsFrozen() const;

  std::vector<pid_t> Processes() const;
  Stats ReadStats() const;

  // What pids.max is for a container's own limit: every guest task has a host thread in the sentry
  // and one in a stub, and each address space two helper threads. "max" for what no host can have.
  static std::string HostPidsLimit(int64_t limit);

 private:
  // The directory in which `controller` is: its v1 tree, or v2 if that has it; "" for nowhere.
  std::string DirOf(const std::string& controller, bool& is_v2) const;
  Paths paths_;
};

// limits_v1.cc, limits_v2.cc: `dir` of a controller's tree or of the v2 group.
absl::Status ApplyV1(const std::string& controller, const std::string& dir,
                     const oci::Resources& resources);
absl::Status ApplyV2(const std::string& controller, const std::string& dir,
                     const oci::Resources& resources);
// cpu.weight of v2 for cpu.shares of v1: 2..262144 to 1..10000; 0 stays 0.
uint64_t CpuWeight(uint64_t shares);

}  // namespace caisson::cgroup

#endif  // CAISSON_RUNSC_CGROUP_CGROUP_H_
