#include "runsc/oci/convert.h"

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/oci/mount_options.h"
#include "runsc/oci/names.h"

namespace caisson::oci {
namespace {

using protocol::Container;

absl::Status Invalid(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

absl::Status ConvertRlimits(const Process& process, protocol::Process& out) {
  std::set<uint32_t> seen;
  for (const Rlimit& limit : process.rlimits) {
    std::optional<uint32_t> number = RlimitNumber(limit.type);
    if (!number.has_value()) {
      return Invalid("process.rlimits", absl::StrCat("unknown type \"", limit.type, "\""));
    }
    if (!seen.insert(*number).second) {
      return Invalid("process.rlimits", absl::StrCat(limit.type, " is there twice"));
    }
    if (limit.soft > limit.hard) {
      return Invalid("process.rlimits", absl::StrCat(limit.type, ": soft limit ", limit.soft,
                                                     " is above hard limit ", limit.hard));
    }
    protocol::Rlimit* rlimit = out.add_rlimits();
    rlimit->set_resource(*number);
    rlimit->set_soft(limit.soft);
    rlimit->set_hard(limit.hard);
  }
  return absl::OkStatus();
}

absl::Status ConvertScheduling(const Process& process, protocol::Process& out) {
  if (process.io_priority.has_value()) {
    const auto& [name, priority] = *process.io_priority;
    int io_class = name == "IOPRIO_CLASS_RT"     ? 1
                   : name == "IOPRIO_CLASS_BE"   ? 2
                   : name == "IOPRIO_CLASS_IDLE" ? 3
                                                 : 0;
    if (io_class == 0) {
      return Invalid("process.ioPriority.class", absl::StrCat("unknown class \"", name, "\""));
    }
    if (priority < 0 || priority > 7)
      return Invalid("process.ioPriority.priority", "is not 0 to 7");
    out.set_io_priority(io_class << 13 | priority);  // ioprio_set(2).
  }
  if (process.scheduler_policy.has_value()) {
    const std::string& policy = *process.scheduler_policy;
    if (policy != "SCHED_OTHER" && policy != "SCHED_BATCH") {
      return Invalid("process.scheduler.policy", absl::StrCat(policy, " is not supported"));
    }
    if (process.scheduler_nice < -20 || process.scheduler_nice > 19) {
      return Invalid("process.scheduler.nice", "is not -20 to 19");
    }
    out.set_nice(process.scheduler_nice);
  }
  return absl::OkStatus();
}

// The kind of file system for a mount that is not a bind. Errors: one that there is not.
absl::StatusOr<protocol::Mount::Kind> KindOf(const Mount& mount) {
  using protocol::Mount;
  const std::string& type = mount.type;
  if (type == "tmpfs" || type == "ramfs") {
    if (mount.destination == "/dev") return Mount::DEVTMPFS;
    if (mount.destination == "/dev/shm") return Mount::SHM;
    return Mount::TMPFS;
  }
  if (type == "proc") return Mount::PROC;
  if (type == "sysfs") return Mount::SYSFS;
  if (type == "devtmpfs") return Mount::DEVTMPFS;
  if (type == "devpts") return Mount::DEVPTS;
  if (type == "mqueue") return Mount::MQUEUE;
  if (type == "cgroup" || type == "cgroup2") return Mount::CGROUP;
  return absl::UnimplementedError(absl::StrCat("file system type \"", type, "\" is not supported"));
}

std::string Absolute(const std::string& base, const std::string& path) {
  return absl::StartsWith(path, "/") ? path : absl::StrCat(base, "/", path);
}

absl::Status ConvertMount(const Mount& mount, const ConvertOptions& options, Converted& out) {
  ASSIGN_OR_RETURN(MountOptions parsed, ParseMountOptions(mount.options));
  protocol::Mount* to = out.container.add_mounts();
  to->set_destination(Absolute("", mount.destination));
  to->set_flags(parsed.flags);
  to->set_propagation(parsed.propagation);
  if (parsed.bind || mount.type == "bind") {
    if (mount.source.empty()) return absl::InvalidArgumentError("a bind mount without a source");
    to->set_kind(protocol::Mount::GOFER);
    to->set_source(mount.source);
    to->set_gofer_index(static_cast<uint32_t>(out.sources.size()));
    bool overlay = options.overlay == Overlay::kAll;
    if (overlay) to->set_overlay(protocol::Mount::MEMORY);
    out.sources.push_back(
        {Absolute(options.bundle, mount.source), overlay || (parsed.flags & MS_RDONLY) != 0});
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(protocol::Mount::Kind kind, KindOf(mount));
  to->set_kind(kind);
  to->set_source(mount.source.empty() ? mount.type : mount.source);
  to->set_data(parsed.data);
  return absl::OkStatus();
}

absl::Status ConvertMounts(const Spec& spec, const ConvertOptions& options, Converted& out) {
  protocol::Mount* root = out.container.add_mounts();
  root->set_kind(protocol::Mount::GOFER);
  root->set_destination("/");
  root->set_source("root");
  if (!spec.linux_section.rootfs_propagation.empty()) {
    uint64_t propagation = PropagationFlags(spec.linux_section.rootfs_propagation);
    if (propagation == 0) {
      return Invalid("linux.rootfsPropagation",
                     absl::StrCat("unknown value \"", spec.linux_section.rootfs_propagation, "\""));
    }
    root->set_propagation(propagation);
  }
  bool overlay = options.overlay != Overlay::kNone;
  if (overlay) root->set_overlay(protocol::Mount::MEMORY);
  out.sources.push_back({Absolute(options.bundle, spec.root_path), overlay || spec.root_readonly});
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    absl::Status status = ConvertMount(spec.mounts[i], options, out);
    if (!status.ok()) {
      return Annotate(status, absl::StrCat("mounts[", i, "] (", spec.mounts[i].destination, ")"));
    }
  }
  return absl::OkStatus();
}

absl::Status ConvertDevices(const Spec& spec, Container& out) {
  for (const Device& device : spec.linux_section.devices) {
    uint32_t kind = device.type == "c" || device.type == "u" ? S_IFCHR
                    : device.type == "b"                     ? S_IFBLK
                    : device.type == "p"                     ? S_IFIFO
                                                             : 0;
    std::string field = absl::StrCat("linux.devices (", device.path, ")");
    if (kind == 0) return Invalid(field, absl::StrCat("unknown type \"", device.type, "\""));
    if (!absl::StartsWith(device.path, "/")) return Invalid(field, "is not an absolute path");
    if (!absl::StartsWith(device.path, "/dev/")) {
      LOG_WARNING("config.json: ", field, ": nodes are made below /dev only");
    }
    // dev_t has 12 and 20 bits.
    if (device.major < 0 || device.major > 0xfff || device.minor < 0 || device.minor > 0xfffff) {
      return Invalid(field, "device number out of range");
    }
    protocol::Device* to = out.add_devices();
    to->set_path(device.path);
    to->set_mode(kind | (device.file_mode.value_or(0666) & 07777));
    to->set_major(static_cast<uint32_t>(device.major));
    to->set_minor(static_cast<uint32_t>(device.minor));
    to->set_uid(device.uid.value_or(0));
    to->set_gid(device.gid.value_or(0));
  }
  return absl::OkStatus();
}

absl::Status ConvertNamespaces(const Spec& spec, Converted& out) {
  std::set<std::string> seen;
  for (const Namespace& ns : spec.linux_section.namespaces) {
    static const auto* kinds = new std::set<std::string>{"pid", "network", "mount",  "ipc",
                                                         "uts", "user",    "cgroup", "time"};
    if (!kinds->contains(ns.type)) {
      return Invalid("linux.namespaces", absl::StrCat("unknown type \"", ns.type, "\""));
    }
    if (!seen.insert(ns.type).second) {
      return Invalid("linux.namespaces", absl::StrCat("\"", ns.type, "\" is there twice"));
    }
    if (ns.type == "network") {
      out.network_namespace = ns.path;
    } else if (ns.type == "time") {
      return Invalid("linux.namespaces", "time namespaces are not supported yet");
    } else if (!ns.path.empty()) {
      if (ns.type != "ipc" && ns.type != "uts") {
        return Invalid("linux.namespaces", absl::StrCat("joining the ", ns.type, " namespace ",
                                                        ns.path, " is not supported yet"));
      }
      LOG_WARNING("config.json: linux.namespaces: the container has its own ", ns.type,
                  " namespace instead of ", ns.path);
    }
  }
  for (const char* shared : {"pid", "ipc", "uts"}) {
    if (!seen.contains(shared)) {
      LOG_INFO("config.json: linux.namespaces: the host's ", shared,
               " namespace is not shared: the container has its own");
    }
  }
  return absl::OkStatus();
}

absl::Status ConvertSysctls(const Spec& spec, Container& out) {
  for (const auto& [name, value] : spec.linux_section.sysctl) {
    bool good = !name.empty() && !absl::StrContains(name, "..") && name[0] != '.' && name[0] != '/';
    if (!good) return Invalid("linux.sysctl", absl::StrCat("bad name \"", name, "\""));
    protocol::Sysctl* sysctl = out.add_sysctls();
    sysctl->set_name(name);
    sysctl->set_value(value);
  }
  return absl::OkStatus();
}

absl::Status ConvertPaths(absl::string_view field, const std::vector<std::string>& from,
                          google::protobuf::RepeatedPtrField<std::string>* to) {
  for (const std::string& path : from) {
    if (!absl::StartsWith(path, "/")) {
      return Invalid(field, absl::StrCat("\"", path, "\" is not an absolute path"));
    }
    *to->Add() = path;
  }
  return absl::OkStatus();
}

void ConvertIdMaps(const std::vector<IdMap>& from,
                   google::protobuf::RepeatedPtrField<protocol::IdMapping>* to) {
  for (const IdMap& map : from) {
    protocol::IdMapping* mapping = to->Add();
    mapping->set_inside(map.inside);
    mapping->set_outside(map.outside);
    mapping->set_count(map.count);
  }
}

void NoteAnnotations(const Spec& spec) {
  for (const char* key :
       {"io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"}) {
    auto it = spec.annotations.find(key);
    if (it != spec.annotations.end() && it->second == "container") {
      LOG_INFO("a container of a pod gets a sandbox of its own");
    }
  }
}

}  // namespace

absl::StatusOr<protocol::Process> ConvertProcess(const Process& process) {
  protocol::Process out;
  if (process.args.empty() || process.args[0].empty()) {
    return Invalid("process.args", "must not be empty");
  }
  if (process.cwd.empty()) return Invalid("process.cwd", "is missing");
  for (const std::string& arg : process.args) out.add_args(arg);
  for (const std::string& entry : process.env) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0 || entry.find('\0') != std::string::npos) {
      return Invalid("process.env", absl::StrCat("invalid environment variable: \"", entry, "\""));
    }
    out.add_env(entry);
  }
  out.set_cwd(process.cwd);
  // (uid_t)-1 means "no change" to setresuid(2) and its like. The limit is runc's.
  std::vector<uint32_t> ids = process.user.additional_gids;
  ids.insert(ids.end(), {process.user.uid, process.user.gid});
  for (uint32_t id : ids) {
    if (id > INT32_MAX) return Invalid("process.user", "uids and gids must be in range 0-2147483647");
  }
  protocol::User* user = out.mutable_user();
  user->set_uid(process.user.uid);
  user->set_gid(process.user.gid);
  for (uint32_t gid : process.user.additional_gids) user->add_additional_gids(gid);
  if (process.user.umask.has_value()) user->set_umask(*process.user.umask);
  // No section: no capability.
  protocol::Capabilities* capabilities = out.mutable_capabilities();
  if (process.capabilities.has_value()) {
    capabilities->set_bounding(CapabilitySet(process.capabilities->bounding));
    capabilities->set_effective(CapabilitySet(process.capabilities->effective));
    capabilities->set_inheritable(CapabilitySet(process.capabilities->inheritable));
    capabilities->set_permitted(CapabilitySet(process.capabilities->permitted));
    capabilities->set_ambient(CapabilitySet(process.capabilities->ambient));
  }
  RETURN_IF_ERROR(ConvertRlimits(process, out));
  out.set_no_new_privs(process.no_new_privileges);
  out.set_terminal(process.terminal);
  out.set_console_rows(process.console_rows);
  out.set_console_columns(process.console_columns);
  if (process.oom_score_adj.has_value()) {
    if (*process.oom_score_adj < -1000 || *process.oom_score_adj > 1000) {
      return Invalid("process.oomScoreAdj", "is not -1000 to 1000");
    }
    out.set_oom_score_adj(*process.oom_score_adj);
  }
  RETURN_IF_ERROR(ConvertScheduling(process, out));
  return out;
}

absl::StatusOr<int> CountCpus(absl::string_view list) {
  auto bad = [&] {
    return absl::InvalidArgumentError(absl::StrCat("bad CPU list \"", list, "\""));
  };
  constexpr int kMaxCpu = 8191;  // CONFIG_NR_CPUS is at most 8192.
  std::set<int> cpus;
  for (absl::string_view part : absl::StrSplit(list, ',', absl::SkipWhitespace())) {
    std::pair<absl::string_view, absl::string_view> range =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = 0;
    int last = 0;
    if (!absl::SimpleAtoi(range.first, &first)) return bad();
    last = first;
    if (absl::StrContains(part, '-') && !absl::SimpleAtoi(range.second, &last)) return bad();
    if (first < 0 || last < first || last > kMaxCpu) return bad();
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
  }
  return static_cast<int>(cpus.size());
}

double CpuCount(const Resources& resources) {
  double out = 0;
  if (absl::StatusOr<int> cpus = CountCpus(resources.cpuset_cpus); cpus.ok()) out = *cpus;
  if (resources.cpu_quota.value_or(0) > 0) {
    uint64_t period = resources.cpu_period.value_or(0);
    if (period == 0) period = 100'000;  // Microseconds, the kernel's default.
    double quota = static_cast<double>(*resources.cpu_quota) / static_cast<double>(period);
    out = out == 0 ? quota : std::min(out, quota);
  }
  return out;
}

absl::StatusOr<Converted> ConvertSpec(const Spec& spec, const ConvertOptions& options) {
  if (!spec.process.has_value()) return Invalid("process", "is missing");
  Converted out;
  Container& container = out.container;
  container.set_id(options.id);
  absl::StatusOr<protocol::Process> process = ConvertProcess(*spec.process);
  if (!process.ok()) return process.status();
  *container.mutable_init() = *std::move(process);
  const Linux& section = spec.linux_section;
  if (section.personality_domain.has_value() && !section.personality_domain->empty()) {
    if (*section.personality_domain != "LINUX") {
      return Invalid("linux.personality.domain",
                     absl::StrCat(*section.personality_domain, " is not supported"));
    }
    container.mutable_init()->set_personality(0);
  }
  RETURN_IF_ERROR(ConvertMounts(spec, options, out));
  container.set_hostname(spec.hostname);
  container.set_domainname(spec.domainname);
  container.set_root_readonly(spec.root_readonly);
  RETURN_IF_ERROR(
      ConvertPaths("linux.maskedPaths", section.masked_paths, container.mutable_masked_paths()));
  RETURN_IF_ERROR(ConvertPaths("linux.readonlyPaths", section.readonly_paths,
                               container.mutable_readonly_paths()));
  RETURN_IF_ERROR(ConvertDevices(spec, container));
  RETURN_IF_ERROR(ConvertSysctls(spec, container));
  RETURN_IF_ERROR(ConvertNamespaces(spec, out));
  ConvertIdMaps(section.uid_mappings, container.mutable_uid_mappings());
  ConvertIdMaps(section.gid_mappings, container.mutable_gid_mappings());
  if (!section.resources.cpuset_cpus.empty()) {
    absl::StatusOr<int> cpus = CountCpus(section.resources.cpuset_cpus);
    if (!cpus.ok()) return Annotate(cpus.status(), "linux.resources.cpu.cpus");
  }
  if (section.resources.memory_limit.value_or(0) > 0) {
    container.set_memory_limit(static_cast<uint64_t>(*section.resources.memory_limit));
  }
  if (section.resources.pids_limit.value_or(0) > 0) {
    container.set_pids_limit(static_cast<uint64_t>(*section.resources.pids_limit));
  }
  container.set_cpu_count(CpuCount(section.resources));
  container.set_cgroup_path("/");
  NoteAnnotations(spec);
  return out;
}

}  // namespace caisson::oci
