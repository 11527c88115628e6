// JSON tree to structs. What each field is for is in fields.cc.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "runsc/oci/fields.h"
#include "runsc/oci/reader.h"
#include "runsc/oci/spec.h"

namespace caisson::oci {
namespace {

void ReadUser(Reader& r, User& out) {
  r.Get("uid", out.uid);
  r.Get("gid", out.gid);
  r.Get("umask", out.umask);
  r.Get("additionalGids", out.additional_gids);
  if (out.umask.has_value() && *out.umask > 0777) r.Fail("umask", "is above 0777");
}

void ReadCapabilities(Reader& r, Capabilities& out) {
  r.Get("bounding", out.bounding);
  r.Get("effective", out.effective);
  r.Get("inheritable", out.inheritable);
  r.Get("permitted", out.permitted);
  r.Get("ambient", out.ambient);
}

void ReadProcessFields(Reader& r, Process& out) {
  r.Get("terminal", out.terminal);
  r.Object("consoleSize", [&](Reader& c) {
    c.Get("height", out.console_rows);
    c.Get("width", out.console_columns);
  });
  if (out.console_rows > 0xffff || out.console_columns > 0xffff) {
    r.Fail("consoleSize", "is above 65535");
  }
  r.Object("user", [&](Reader& u) { ReadUser(u, out.user); });
  r.Get("args", out.args);
  r.Get("env", out.env);
  r.Get("cwd", out.cwd);
  if (!absl::StartsWith(out.cwd, "/")) r.Fail("cwd", "is not an absolute path");
  r.Object("capabilities", [&](Reader& c) {
    out.capabilities.emplace();
    ReadCapabilities(c, *out.capabilities);
  });
  r.Each("rlimits", [&](Reader& l) {
    Rlimit& limit = out.rlimits.emplace_back();
    l.Get("type", limit.type);
    l.Get("soft", limit.soft);
    l.Get("hard", limit.hard);
  });
  r.Get("noNewPrivileges", out.no_new_privileges);
  r.Get("oomScoreAdj", out.oom_score_adj);
  r.Object("ioPriority", [&](Reader& p) {
    out.io_priority.emplace();
    p.Get("class", out.io_priority->first);
    p.Get("priority", out.io_priority->second);
  });
  r.Object("scheduler", [&](Reader& s) {
    out.scheduler_policy.emplace();
    s.Get("policy", *out.scheduler_policy);
    s.Get("nice", out.scheduler_nice);
  });
}

void ReadHooks(Reader& r, absl::string_view key, std::vector<Hook>& out) {
  r.Each(key, [&](Reader& h) {
    Hook& hook = out.emplace_back();
    h.Get("path", hook.path);
    h.Get("args", hook.args);
    h.Get("env", hook.env);
    h.Get("timeout", hook.timeout_seconds);
    if (!absl::StartsWith(hook.path, "/")) h.Fail("path", "is not an absolute path");
    if (hook.timeout_seconds.has_value() && *hook.timeout_seconds <= 0) {
      h.Fail("timeout", "is not above zero");
    }
  });
}

void ReadMount(Reader& r, Mount& out) {
  r.Get("destination", out.destination);
  r.Get("type", out.type);
  r.Get("source", out.source);
  r.Get("options", out.options);
  if (out.destination.empty()) r.Fail("destination", "is missing");
}

void ReadIdMaps(Reader& r, absl::string_view key, std::vector<IdMap>& out) {
  r.Each(key, [&](Reader& m) {
    IdMap& map = out.emplace_back();
    m.Get("containerID", map.inside);
    m.Get("hostID", map.outside);
    m.Get("size", map.count);
    if (map.count == 0) m.Fail("size", "is zero");
  });
}

void ReadSeccomp(Reader& r, Seccomp& out) {
  r.Get("defaultAction", out.default_action);
  r.Get("defaultErrnoRet", out.default_errno_ret);
  r.Get("architectures", out.architectures);
  r.Get("flags", out.flags);
  r.Get("listenerPath", out.listener_path);
  r.Each("syscalls", [&](Reader& s) {
    SeccompRule& rule = out.rules.emplace_back();
    s.Get("names", rule.names);
    s.Get("action", rule.action);
    s.Get("errnoRet", rule.errno_ret);
    s.Each("args", [&](Reader& a) {
      SeccompArg& arg = rule.args.emplace_back();
      a.Get("index", arg.index);
      a.Get("value", arg.value);
      a.Get("valueTwo", arg.value_two);
      a.Get("op", arg.op);
      if (arg.index > 5) a.Fail("index", "is above 5");
    });
  });
}

void ReadThrottle(Reader& r, absl::string_view key, std::vector<ThrottleDevice>& out) {
  r.Each(key, [&](Reader& d) {
    ThrottleDevice& device = out.emplace_back();
    d.Get("major", device.major);
    d.Get("minor", device.minor);
    d.Get("rate", device.rate);
  });
}

void ReadMemory(Reader& m, Resources& out) {
  m.Get("limit", out.memory_limit);
  m.Get("reservation", out.memory_reservation);
  m.Get("swap", out.memory_swap);
  m.Get("kernel", out.memory_kernel);
  m.Get("kernelTCP", out.memory_kernel_tcp);
  // Docker writes 2^64-1 for "not set"; whether a value is a percentage is checked where it is
  // used.
  m.Get("swappiness", out.memory_swappiness);
  m.Get("disableOOMKiller", out.disable_oom_killer);
}

void ReadCpu(Reader& c, Resources& out) {
  c.Get("shares", out.cpu_shares);
  c.Get("quota", out.cpu_quota);
  c.Get("burst", out.cpu_burst);
  c.Get("period", out.cpu_period);
  c.Get("realtimeRuntime", out.cpu_realtime_runtime);
  c.Get("realtimePeriod", out.cpu_realtime_period);
  c.Get("cpus", out.cpuset_cpus);
  c.Get("mems", out.cpuset_mems);
  c.Get("idle", out.cpu_idle);
}

void ReadBlkio(Reader& b, Resources& out) {
  b.Get("weight", out.blkio_weight);
  b.Each("weightDevice", [&](Reader& w) {
    WeightDevice& device = out.blkio_weight_devices.emplace_back();
    w.Get("major", device.major);
    w.Get("minor", device.minor);
    w.Get("weight", device.weight);
  });
  ReadThrottle(b, "throttleReadBpsDevice", out.read_bps);
  ReadThrottle(b, "throttleWriteBpsDevice", out.write_bps);
  ReadThrottle(b, "throttleReadIOPSDevice", out.read_iops);
  ReadThrottle(b, "throttleWriteIOPSDevice", out.write_iops);
}

void ReadResourceFields(Reader& r, Resources& out) {
  r.Object("memory", [&](Reader& m) { ReadMemory(m, out); });
  r.Object("cpu", [&](Reader& c) { ReadCpu(c, out); });
  r.Object("pids", [&](Reader& p) { p.Get("limit", out.pids_limit); });
  r.Object("blockIO", [&](Reader& b) { ReadBlkio(b, out); });
  r.Each("hugepageLimits", [&](Reader& h) {
    auto& limit = out.hugepage_limits.emplace_back();
    h.Get("pageSize", limit.first);
    h.Get("limit", limit.second);
    if (limit.first.find('/') != std::string::npos) h.Fail("pageSize", "has a slash in it");
  });
  r.Object("network", [&](Reader& n) {
    n.Get("classID", out.network_class_id);
    n.Each("priorities", [&](Reader& p) {
      auto& priority = out.network_priorities.emplace_back();
      p.Get("name", priority.first);
      p.Get("priority", priority.second);
    });
  });
  r.GetMap("unified", out.unified);
}

void ReadLinux(Reader& r, Linux& out) {
  ReadIdMaps(r, "uidMappings", out.uid_mappings);
  ReadIdMaps(r, "gidMappings", out.gid_mappings);
  r.GetMap("sysctl", out.sysctl);
  r.Object("resources", [&](Reader& s) { ReadResourceFields(s, out.resources); });
  r.Get("cgroupsPath", out.cgroups_path);
  r.Each("namespaces", [&](Reader& n) {
    Namespace& ns = out.namespaces.emplace_back();
    n.Get("type", ns.type);
    n.Get("path", ns.path);
  });
  r.Each("devices", [&](Reader& d) {
    Device& device = out.devices.emplace_back();
    d.Get("type", device.type);
    d.Get("path", device.path);
    d.Get("major", device.major);
    d.Get("minor", device.minor);
    d.Get("fileMode", device.file_mode);
    d.Get("uid", device.uid);
    d.Get("gid", device.gid);
  });
  r.Object("seccomp", [&](Reader& s) { ReadSeccomp(s, out.seccomp.emplace()); });
  r.Get("rootfsPropagation", out.rootfs_propagation);
  r.Get("maskedPaths", out.masked_paths);
  r.Get("readonlyPaths", out.readonly_paths);
  r.Object("personality", [&](Reader& p) { p.Get("domain", out.personality_domain.emplace()); });
}

}  // namespace

absl::StatusOr<Spec> ReadSpec(const Json& config) {
  RETURN_IF_ERROR(CheckFields(config, ""));
  return ReadCheckedSpec(config);
}

absl::StatusOr<Spec> ReadCheckedSpec(const Json& config) {
  absl::Status error;
  Spec spec;
  Reader r(config, "", error);
  r.Get("ociVersion", spec.oci_version);
  if (spec.oci_version.empty()) {
    r.Fail("ociVersion", "is missing");
  } else if (!absl::StartsWith(spec.oci_version, "1.")) {
    r.Fail("ociVersion", absl::StrCat("version ", spec.oci_version, " is not supported, 1.x is"));
  }
  r.Object("process", [&](Reader& p) { ReadProcessFields(p, spec.process.emplace()); });
  r.Object("root", [&](Reader& root) {
    root.Get("path", spec.root_path);
    root.Get("readonly", spec.root_readonly);
  });
  if (spec.root_path.empty()) r.Fail("root.path", "is missing");
  r.Get("hostname", spec.hostname);
  r.Get("domainname", spec.domainname);
  // __NEW_UTS_LEN, sethostname(2).
  if (spec.hostname.size() > 64) r.Fail("hostname", "is longer than 64 bytes");
  if (spec.domainname.size() > 64) r.Fail("domainname", "is longer than 64 bytes");
  r.Each("mounts", [&](Reader& m) { ReadMount(m, spec.mounts.emplace_back()); });
  r.Object("hooks", [&](Reader& h) {
    ReadHooks(h, "prestart", spec.hooks.prestart);
    ReadHooks(h, "createRuntime", spec.hooks.create_runtime);
    ReadHooks(h, "createContainer", spec.hooks.create_container);
    ReadHooks(h, "startContainer", spec.hooks.start_container);
    ReadHooks(h, "poststart", spec.hooks.poststart);
    ReadHooks(h, "poststop", spec.hooks.poststop);
  });
  std::vector<std::pair<std::string, std::string>> annotations;
  r.GetMap("annotations", annotations);
  for (auto& [key, value] : annotations) spec.annotations[key] = value;
  r.Object("linux", [&](Reader& l) { ReadLinux(l, spec.linux_section); });
  RETURN_IF_ERROR(error);
  return spec;
}

absl::StatusOr<Process> ReadProcess(const Json& process) {
  RETURN_IF_ERROR(CheckFields(process, "process"));
  absl::Status error;
  Process out;
  Reader r(process, "process", error);
  ReadProcessFields(r, out);
  RETURN_IF_ERROR(error);
  return out;
}

absl::StatusOr<Resources> ReadResources(const Json& resources) {
  RETURN_IF_ERROR(CheckFields(resources, "linux.resources"));
  absl::Status error;
  Resources out;
  Reader r(resources, "resources", error);
  ReadResourceFields(r, out);
  RETURN_IF_ERROR(error);
  return out;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  UniqueFd opened;
  int fd = STDIN_FILENO;
  if (path != "-") {
    opened.reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened) return HostErrnoStatus(errno, path);
    fd = opened.get();
  }
  std::string out;
  char buffer[65536];
  while (true) {
    ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return HostErrnoStatus(errno, path);
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
    if (out.size() > kMaxJsonBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": larger than ", kMaxJsonBytes, " bytes"));
    }
  }
}

absl::StatusOr<Json> LoadJson(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) return Annotate(json.status(), path);
  return json;
}

}  // namespace caisson::oci
