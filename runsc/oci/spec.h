// config.json of the OCI runtime specification as plain structs: what the user asked for, checked
// for type and range, not yet interpreted.
#ifndef CAISSON_RUNSC_OCI_SPEC_H_
#define CAISSON_RUNSC_OCI_SPEC_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/oci/json.h"

namespace caisson::oci {

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::optional<uint32_t> umask;
  std::vector<uint32_t> additional_gids;
};

// Names as in the file, "CAP_KILL".
struct Capabilities {
  std::vector<std::string> bounding, effective, inheritable, permitted, ambient;
};

struct Rlimit {
  std::string type;  // "RLIMIT_NOFILE".
  uint64_t soft = 0;
  uint64_t hard = 0;
};

struct Process {
  bool terminal = false;
  uint32_t console_rows = 0;
  uint32_t console_columns = 0;
  User user;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd;
  std::optional<Capabilities> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::optional<int32_t> oom_score_adj;
  std::optional<std::pair<std::string, int32_t>> io_priority;  // Class and priority.
  std::optional<std::string> scheduler_policy;
  int32_t scheduler_nice = 0;
};

struct IdMap {
  uint32_t inside = 0;
  uint32_t outside = 0;
  uint32_t count = 0;
};

struct Mount {
  std::string destination;
  std::string type;
  std::string source;
  std::vector<std::string> options;
};

struct Hook {
  std::string path;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::optional<int> timeout_seconds;
};

struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart,
      poststop;
};

struct Namespace {
  std::string type;  // "pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time".
  std::string path;
};

struct Device {
  std::string type;  // "c", "b", "u", "p".
  std::string path;
  int64_t major = 0;
  int64_t minor = 0;
  std::optional<uint32_t> file_mode, uid, gid;
};

struct SeccompArg {
  uint32_t index = 0;
  uint64_t value = 0;
  uint64_t value_two = 0;
  std::string op;
};

struct SeccompRule {
  std::vector<std::string> names;
  std::string action;
  std::optional<uint32_t> errno_ret;
  std::vector<SeccompArg> args;
};

struct Seccomp {
  std::string default_action;
  std::optional<uint32_t> default_errno_ret;
  std::vector<std::string> architectures;
  std::vector<std::string> flags;
  std::string listener_path;
  std::vector<SeccompRule> rules;
};

struct ThrottleDevice {
  int64_t major = 0;
  int64_t minor = 0;
  uint64_t rate = 0;
};

struct WeightDevice {
  int64_t major = 0;
  int64_t minor = 0;
  uint32_t weight = 0;
};

// Limits; -1 is "no limit" where a limit is signed.
struct Resources {
  std::optional<int64_t> memory_limit, memory_reservation, memory_swap, memory_kernel,
      memory_kernel_tcp;
  std::optional<uint64_t> memory_swappiness;
  std::optional<bool> disable_oom_killer;
  std::optional<uint64_t> cpu_shares, cpu_period, cpu_realtime_period, cpu_burst;
  std::optional<int64_t> cpu_quota, cpu_realtime_runtime, cpu_idle;
  std::string cpuset_cpus, cpuset_mems;
  std::optional<int64_t> pids_limit;
  std::optional<uint32_t> blkio_weight;
  std::vector<WeightDevice> blkio_weight_devices;
  std::vector<ThrottleDevice> read_bps, write_bps, read_iops, write_iops;
  std::vector<std::pair<std::string, uint64_t>> hugepage_limits;  // "2MB", bytes.
  std::optional<uint32_t> network_class_id;
  std::vector<std::pair<std::string, uint32_t>> network_priorities;
  std::vector<std::pair<std::string, std::string>> unified;  // File and content.
};

struct Linux {
  std::vector<IdMap> uid_mappings, gid_mappings;
  std::vector<std::pair<std::string, std::string>> sysctl;
  Resources resources;
  std::string cgroups_path;
  std::vector<Namespace> namespaces;
  std::vector<Device> devices;
  std::optional<Seccomp> seccomp;
  std::string rootfs_propagation;
  std::vector<std::string> masked_paths, readonly_paths;
  std::optional<std::string> personality_domain;
};

struct Spec {
  std::string oci_version;
  std::optional<Process> process;
  std::string root_path;
  bool root_readonly = false;
  std::string hostname, domainname;
  std::vector<Mount> mounts;
  Hooks hooks;
  std::map<std::string, std::string> annotations;
  Linux linux_section;
};

// Every field of `config` is looked up in the table of fates (fields.h): a refused one that is set
// is an error; ignored and unknown ones are logged, each once.
// Errors name the field: "process.user.uid: expected a number from 0 to 4294967295, got a string".
absl::StatusOr<Spec> ReadSpec(const Json& config);
// A config.json that ReadSpec has passed before: nothing is logged again.
absl::StatusOr<Spec> ReadCheckedSpec(const Json& config);
// The value of "process": the file of `exec --process`.
absl::StatusOr<Process> ReadProcess(const Json& process);
// The value of "linux.resources": the file of `update --resources`.
absl::StatusOr<Resources> ReadResources(const Json& resources);

// Reads a whole file of at most kMaxJsonBytes; `path` "-" is standard input.
absl::StatusOr<std::string> ReadFile(const std::string& path);
// Parses BUNDLE/config.json: errors name the file.
absl::StatusOr<Json> LoadJson(const std::string& path);

}  // namespace caisson::oci

#endif  // CAISSON_RUNSC_OCI_SPEC_H_
