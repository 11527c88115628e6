#include "runsc/oci/fields.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"

namespace caisson::oci {
namespace {

// In the order of the specification.
constexpr Field kFields[] = {
    {"ociVersion", Fate::kHost, "1.x; anything else is an error"},
    {"process.terminal", Fate::kHost, "a host pty in raw mode; the line discipline is inside"},
    {"process.consoleSize.height", Fate::kInside, ""},
    {"process.consoleSize.width", Fate::kInside, ""},
    {"process.cwd", Fate::kInside, "resolved inside only"},
    {"process.env", Fate::kInside, ""},
    {"process.args", Fate::kInside, ""},
    {"process.commandLine", Fate::kRefused, "Windows only"},
    {"process.user.uid", Fate::kInside, ""},
    {"process.user.gid", Fate::kInside, ""},
    {"process.user.umask", Fate::kInside, ""},
    {"process.user.additionalGids", Fate::kInside, ""},
    {"process.user.username", Fate::kRefused, "Windows only"},
    {"process.capabilities.bounding", Fate::kInside, "unknown names are logged"},
    {"process.capabilities.effective", Fate::kInside, "unknown names are logged"},
    {"process.capabilities.inheritable", Fate::kInside, "unknown names are logged"},
    {"process.capabilities.permitted", Fate::kInside, "unknown names are logged"},
    {"process.capabilities.ambient", Fate::kInside, "unknown names are logged"},
    {"process.rlimits[].type", Fate::kInside, "an unknown or repeated type is an error"},
    {"process.rlimits[].soft", Fate::kInside, ""},
    {"process.rlimits[].hard", Fate::kInside, ""},
    {"process.noNewPrivileges", Fate::kInside, ""},
    {"process.oomScoreAdj", Fate::kInside, "the value the guest sees"},
    {"process.apparmorProfile", Fate::kIgnored,
     "the guest reaches no host file system for it to guard"},
    {"process.selinuxLabel", Fate::kIgnored,
     "the guest reaches no host file system for it to guard"},
    {"process.ioPriority.class", Fate::kInside, ""},
    {"process.ioPriority.priority", Fate::kInside, ""},
    {"process.scheduler.policy", Fate::kInside, "SCHED_OTHER and SCHED_BATCH; others are an error"},
    {"process.scheduler.nice", Fate::kInside, ""},
    {"process.scheduler.priority", Fate::kRefused, "real-time policies are not supported"},
    {"process.scheduler.flags", Fate::kRefused, "not supported"},
    {"process.scheduler.runtime", Fate::kRefused, "deadline scheduling is not supported"},
    {"process.scheduler.deadline", Fate::kRefused, "deadline scheduling is not supported"},
    {"process.scheduler.period", Fate::kRefused, "deadline scheduling is not supported"},
    {"process.execCPUAffinity", Fate::kIgnored, "guest threads run where the host schedules them"},
    {"root.path", Fate::kHost, "opened once, before confinement; served by the gofer"},
    {"root.readonly", Fate::kInside, "and the gofer refuses writes"},
    {"hostname", Fate::kInside, ""},
    {"domainname", Fate::kInside, ""},
    {"mounts[].destination", Fate::kInside, "missing targets are made inside"},
    {"mounts[].source", Fate::kHost, "a bind source is opened once, before confinement"},
    {"mounts[].type", Fate::kInside,
     "bind, proc, sysfs, tmpfs, ramfs, devtmpfs, devpts, mqueue, cgroup, cgroup2; others are an "
     "error; tmpfs on /dev gets the standard devices"},
    {"mounts[].options", Fate::kInside,
     "flags and propagation; the recursive ones (rro, ...) are as the plain ones, since a bind "
     "mount is one mount inside; idmap and ridmap are an error; tmpcopyup and SELinux contexts "
     "are ignored"},
    {"mounts[].uidMappings", Fate::kRefused, "mounts with an id map are not supported yet"},
    {"mounts[].gidMappings", Fate::kRefused, "mounts with an id map are not supported yet"},
    {"hooks.prestart[].path", Fate::kHost, "in the runtime's namespaces"},
    {"hooks.prestart[].args", Fate::kHost, ""},
    {"hooks.prestart[].env", Fate::kHost, ""},
    {"hooks.prestart[].timeout", Fate::kHost, "seconds; then the hook is killed and has failed"},
    {"hooks.createRuntime[].path", Fate::kHost, "in the runtime's namespaces"},
    {"hooks.createRuntime[].args", Fate::kHost, ""},
    {"hooks.createRuntime[].env", Fate::kHost, ""},
    {"hooks.createRuntime[].timeout", Fate::kHost, ""},
    {"hooks.createContainer[].path", Fate::kHost,
     "in the container's host-side namespaces (network)"},
    {"hooks.createContainer[].args", Fate::kHost, ""},
    {"hooks.createContainer[].env", Fate::kHost, ""},
    {"hooks.createContainer[].timeout", Fate::kHost, ""},
    {"hooks.startContainer[].path", Fate::kInside, "a guest program"},
    {"hooks.startContainer[].args", Fate::kInside, ""},
    {"hooks.startContainer[].env", Fate::kInside, ""},
    {"hooks.startContainer[].timeout", Fate::kHost, ""},
    {"hooks.poststart[].path", Fate::kHost, "a failure is logged"},
    {"hooks.poststart[].args", Fate::kHost, ""},
    {"hooks.poststart[].env", Fate::kHost, ""},
    {"hooks.poststart[].timeout", Fate::kHost, ""},
    {"hooks.poststop[].path", Fate::kHost, "a failure is logged"},
    {"hooks.poststop[].args", Fate::kHost, ""},
    {"hooks.poststop[].env", Fate::kHost, ""},
    {"hooks.poststop[].timeout", Fate::kHost, ""},
    {"annotations.*", Fate::kKept,
     "io.kubernetes.cri.container-type and CRI-O's io.kubernetes.cri-o.ContainerType are "
     "understood: each container of a pod gets a sandbox of its own"},
    {"linux.namespaces[].type", Fate::kInside,
     "all kinds are the sentry's own; a network namespace exists on the host too"},
    {"linux.namespaces[].path", Fate::kHost,
     "network: the monitor enters it; ipc and uts: logged, the container has its own; others are "
     "an error"},
    {"linux.uidMappings[].containerID", Fate::kInside, "the gofer has the same map"},
    {"linux.uidMappings[].hostID", Fate::kInside, ""},
    {"linux.uidMappings[].size", Fate::kInside, ""},
    {"linux.gidMappings[].containerID", Fate::kInside, "the gofer has the same map"},
    {"linux.gidMappings[].hostID", Fate::kInside, ""},
    {"linux.gidMappings[].size", Fate::kInside, ""},
    {"linux.timeOffsets", Fate::kRefused, "time namespaces are not supported yet"},
    {"linux.devices[].type", Fate::kInside, ""},
    {"linux.devices[].path", Fate::kInside,
     "a node inside; what the sentry has no driver for answers ENXIO"},
    {"linux.devices[].major", Fate::kInside, ""},
    {"linux.devices[].minor", Fate::kInside, ""},
    {"linux.devices[].fileMode", Fate::kInside, ""},
    {"linux.devices[].uid", Fate::kInside, ""},
    {"linux.devices[].gid", Fate::kInside, ""},
    {"linux.netDevices", Fate::kRefused, "moving interfaces is not supported yet"},
    {"linux.cgroupsPath", Fate::kHost,
     "v1, v2 and hybrid; the systemd form (SLICE:PREFIX:NAME) with --systemd-cgroup is an error"},
    {"linux.resources.devices", Fate::kIgnored,
     "no host device is reachable from inside, whatever this list says"},
    {"linux.resources.memory.limit", Fate::kHost, "and shown inside; files in memory end below it with ENOSPC; `update` of a paused container changes the host's side only"},
    {"linux.resources.memory.reservation", Fate::kHost, ""},
    {"linux.resources.memory.swap", Fate::kHost, ""},
    {"linux.resources.memory.kernel", Fate::kIgnored, "the kernel has no such limit any more"},
    {"linux.resources.memory.kernelTCP", Fate::kHost, "cgroup v1"},
    {"linux.resources.memory.swappiness", Fate::kHost, "cgroup v1"},
    {"linux.resources.memory.disableOOMKiller", Fate::kHost, "cgroup v1"},
    {"linux.resources.memory.useHierarchy", Fate::kIgnored, "always on"},
    {"linux.resources.memory.checkBeforeUpdate", Fate::kIgnored, "the kernel decides"},
    {"linux.resources.cpu.shares", Fate::kHost, ""},
    {"linux.resources.cpu.quota", Fate::kHost, "and the CPUs that the guest sees"},
    {"linux.resources.cpu.burst", Fate::kHost, ""},
    {"linux.resources.cpu.period", Fate::kHost, ""},
    {"linux.resources.cpu.realtimeRuntime", Fate::kHost, "cgroup v1"},
    {"linux.resources.cpu.realtimePeriod", Fate::kHost, "cgroup v1"},
    {"linux.resources.cpu.cpus", Fate::kHost, "and the CPUs that the guest sees"},
    {"linux.resources.cpu.mems", Fate::kHost, ""},
    {"linux.resources.cpu.idle", Fate::kHost, ""},
    {"linux.resources.pids.limit", Fate::kInside,
     "exact; the host's limit leaves room for the sandbox"},
    {"linux.resources.blockIO.weight", Fate::kHost, ""},
    {"linux.resources.blockIO.leafWeight", Fate::kIgnored, "gone from the kernel"},
    {"linux.resources.blockIO.weightDevice[].major", Fate::kHost, ""},
    {"linux.resources.blockIO.weightDevice[].minor", Fate::kHost, ""},
    {"linux.resources.blockIO.weightDevice[].weight", Fate::kHost, ""},
    {"linux.resources.blockIO.weightDevice[].leafWeight", Fate::kIgnored, "gone from the kernel"},
    {"linux.resources.blockIO.throttleReadBpsDevice[].*", Fate::kHost, "major, minor, rate"},
    {"linux.resources.blockIO.throttleWriteBpsDevice[].*", Fate::kHost, "major, minor, rate"},
    {"linux.resources.blockIO.throttleReadIOPSDevice[].*", Fate::kHost, "major, minor, rate"},
    {"linux.resources.blockIO.throttleWriteIOPSDevice[].*", Fate::kHost, "major, minor, rate"},
    {"linux.resources.hugepageLimits[].pageSize", Fate::kHost, ""},
    {"linux.resources.hugepageLimits[].limit", Fate::kHost, ""},
    {"linux.resources.network.classID", Fate::kHost, "cgroup v1"},
    {"linux.resources.network.priorities[].name", Fate::kHost, "cgroup v1"},
    {"linux.resources.network.priorities[].priority", Fate::kHost, "cgroup v1"},
    {"linux.resources.rdma", Fate::kIgnored, "no RDMA device is reachable from inside"},
    {"linux.resources.unified.*", Fate::kHost, "cgroup v2; an error elsewhere"},
    {"linux.resources.rootfs", Fate::kIgnored, "not of the specification"},
    {"linux.intelRdt", Fate::kIgnored, "not supported"},
    {"linux.memoryPolicy", Fate::kIgnored, "guest memory is placed by the host"},
    {"linux.sysctl.*", Fate::kInside,
     "kernel.shm*, kernel.msg*, kernel.sem, kernel.domainname, fs.mqueue.*, net.core.somaxconn, net.unix.max_dgram_qlen, "
     "net.ipv4.ip_unprivileged_port_start, ping_group_range, ip_local_port_range; others are an error that names them"},
    {"linux.seccomp.defaultAction", Fate::kInside, "SCMP_ACT_NOTIFY is an error"},
    {"linux.seccomp.defaultErrnoRet", Fate::kInside, ""},
    {"linux.seccomp.architectures", Fate::kInside, "guests are x86-64 programs only"},
    {"linux.seccomp.flags", Fate::kInside, ""},
    {"linux.seccomp.listenerPath", Fate::kRefused, "SCMP_ACT_NOTIFY is not supported yet"},
    {"linux.seccomp.listenerMetadata", Fate::kRefused, "SCMP_ACT_NOTIFY is not supported yet"},
    {"linux.seccomp.syscalls[].names", Fate::kInside, "unknown names are left out, as runc does"},
    {"linux.seccomp.syscalls[].action", Fate::kInside, ""},
    {"linux.seccomp.syscalls[].errnoRet", Fate::kInside, ""},
    {"linux.seccomp.syscalls[].args[].index", Fate::kInside, ""},
    {"linux.seccomp.syscalls[].args[].value", Fate::kInside, ""},
    {"linux.seccomp.syscalls[].args[].valueTwo", Fate::kInside, ""},
    {"linux.seccomp.syscalls[].args[].op", Fate::kInside, ""},
    // Docker's own profile format carries these; they have been acted on when it is in config.json.
    {"linux.seccomp.syscalls[].comment", Fate::kIgnored, "not of the specification"},
    {"linux.rootfsPropagation", Fate::kInside, ""},
    {"linux.maskedPaths", Fate::kInside, ""},
    {"linux.readonlyPaths", Fate::kInside, ""},
    {"linux.mountLabel", Fate::kIgnored, "the guest reaches no host file system for it to guard"},
    {"linux.personality.domain", Fate::kInside, "LINUX; LINUX32 is an error"},
    {"linux.personality.flags", Fate::kRefused, "the specification defines none"},
    {"solaris", Fate::kRefused, "another platform's section"},
    {"windows", Fate::kRefused, "another platform's section"},
    {"vm", Fate::kRefused, "another platform's section"},
    {"zos", Fate::kRefused, "another platform's section"},
    {"freebsd", Fate::kRefused, "another platform's section"},
};

struct Index {
  std::map<absl::string_view, const Field*> rows;
  std::set<std::string> inner;  // Every proper prefix of a row.
};

const Index& TheIndex() {
  static const Index* index = [] {
    auto* out = new Index;
    for (const Field& field : kFields) {
      out->rows[field.path] = &field;
      absl::string_view path = field.path;
      for (size_t i = 0; i < path.size(); ++i) {
        if (path[i] == '.' || path[i] == '[') out->inner.emplace(path.substr(0, i));
        if (path[i] == ']') out->inner.emplace(path.substr(0, i + 1));
      }
    }
    return out;
  }();
  return *index;
}

class Checker {
 public:
  // `pattern` is the path in the table, `path` that in the document.
  absl::Status Walk(const Json& value, const std::string& pattern, const std::string& path) {
    const Index& index = TheIndex();
    auto row = index.rows.find(pattern);
    if (row != index.rows.end()) return Apply(value, *row->second, path);
    if (!pattern.empty() && !index.inner.contains(pattern)) {
      // A document may come from a newer specification; saying so once is enough.
      if (said_.insert(pattern).second) {
        LOG_WARNING("config.json: ", path, ": unknown field, ignored");
      }
      return absl::OkStatus();
    }
    // A value of the wrong type is for the reader to refuse.
    if (const Json::ObjectType* object = value.AsObject()) {
      std::string any = pattern.empty() ? "*" : absl::StrCat(pattern, ".*");
      bool is_map = index.rows.contains(any);
      for (const Json::Member& member : *object) {
        std::string name =
            pattern.empty() ? member.first : absl::StrCat(pattern, ".", member.first);
        RETURN_IF_ERROR(Walk(member.second, is_map ? any : name, Join(path, member.first)));
      }
    } else if (const Json::ArrayType* array = value.AsArray()) {
      size_t i = 0;
      for (const Json& element : *array) {
        RETURN_IF_ERROR(
            Walk(element, absl::StrCat(pattern, "[]"), absl::StrCat(path, "[", i++, "]")));
      }
    }
    return absl::OkStatus();
  }

 private:
  static std::string Join(const std::string& path, const std::string& key) {
    return path.empty() ? key : absl::StrCat(path, ".", key);
  }
  absl::Status Apply(const Json& value, const Field& field, const std::string& path) {
    if (value.is_empty()) return absl::OkStatus();
    if (field.fate == Fate::kRefused) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", field.note));
    }
    if (field.fate == Fate::kIgnored && said_.insert(std::string(field.path)).second) {
      LOG_INFO("config.json: ", path, ": ignored: ", field.note);
    }
    return absl::OkStatus();
  }

  std::set<std::string> said_;
};

absl::string_view FateText(Fate fate) {
  switch (fate) {
    case Fate::kInside:
      return "inside";
    case Fate::kHost:
      return "host";
    case Fate::kKept:
      return "kept";
    case Fate::kRefused:
      return "**refused**";
    case Fate::kIgnored:
      return "*ignored*";
  }
  return "?";
}

}  // namespace

absl::Span<const Field> Fields() { return kFields; }

absl::Status CheckFields(const Json& value, absl::string_view path) {
  return Checker().Walk(value, std::string(path), std::string(path));
}

std::string FieldsDocument() {
  std::string out =
      "# The fate of every field of config.json\n\n"
      "Generated by `runsc internal-oci-doc` from the table in `runsc/oci/fields.cc`, against "
      "which\n"
      "every config.json is checked: do not edit.\n\n"
      "- **inside**: the sentry, the kernel in the sandbox, applies it to the guest.\n"
      "- **host**: runsc applies it on the host.\n"
      "- **kept**: checked, kept, shown by `state` and to hooks.\n"
      "- **refused**: an error if it is set (to anything but null, false, 0, \"\", [] and {}).\n"
      "- **ignored**: without effect, and logged if it is set.\n\n"
      "A field that is not in this table is logged as unknown.\n\n"
      "| Field | Fate | Note |\n| --- | --- | --- |\n";
  for (const Field& field : kFields) {
    absl::StrAppend(&out, "| `", field.path, "` | ", FateText(field.fate), " | ", field.note,
                    " |\n");
  }
  return out;
}

}  // namespace caisson::oci
