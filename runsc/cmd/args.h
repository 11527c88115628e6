// The command line, parsed.
#ifndef CAISSON_RUNSC_CMD_ARGS_H_
#define CAISSON_RUNSC_CMD_ARGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runsc/container/container.h"
#include "runsc/container/options.h"

namespace caisson::cmd {

struct Args {
  // Global.
  runsc::Options options;
  std::string log;  // --log.
  bool log_json = false;
  std::vector<std::string> ignored;  // Options without effect that were given.

  // The command and its positional arguments: the container's id first, where there is one.
  std::string command;
  std::vector<std::string> positional;

  // Of commands; one that several have is here once.
  runsc::Attachment attachment;
  std::string bundle;
  bool keep = false;
  bool all = false;
  bool force = false;
  bool quiet = false;
  std::string format = "table";
  // exec, do.
  std::string process_file;
  std::string cwd;
  std::string user;
  std::vector<std::string> env;
  std::vector<std::string> capabilities;
  std::vector<uint32_t> additional_gids;
  bool tty = false;
  bool no_new_privileges = false;
  bool ignore_paused = false;
  std::string sub_cgroup;
  std::string label;  // Of a security module.
  std::string rootfs;
  // events.
  bool stats = false;
  std::string interval = "5s";
  // update: what was given; empty for not.
  std::string resources_file;
  std::optional<int64_t> cpu_quota, cpu_rt_runtime, memory, memory_reservation, memory_swap,
      pids_limit;
  std::optional<uint64_t> cpu_period, cpu_shares, cpu_rt_period, cpu_burst, cpu_idle;
  std::optional<uint32_t> blkio_weight;
  std::string cpuset_cpus, cpuset_mems;
  // debug.
  bool stacks = false, processes = false, unsupported = false, counters = false;
  int profile_hz = 500;
  double duration = 10;  // Seconds.
  std::string profile, timing;
  std::string strace;
  // wait.
  int pid = 0;
};

// Fills `out`. Returns what the program is to exit with at once, after help, version or a mistake
// has been printed: a mistake's text goes to `error` instead.
std::optional<int> ParseArgs(int argc, char** argv, Args& out, std::string& error);

// The value of global option `name` ("--log") without parsing the rest: the log must exist before
// anything can fail. Empty if it is not there.
std::string FindGlobal(int argc, char** argv, const std::string& name);

// "1h2m3.5s" in milliseconds, as Go writes durations. Nothing for what is none.
std::optional<int64_t> ParseDuration(const std::string& text);

}  // namespace caisson::cmd

#endif  // CAISSON_RUNSC_CMD_ARGS_H_
