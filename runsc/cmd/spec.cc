#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/version.h"

namespace caisson::cmd {
namespace {

using oci::Json;

Json MountOf(const char* destination, const char* type, const char* source,
             const std::vector<std::string>& options) {
  Json out = Json::Object();
  out.Set("destination", destination).Set("type", type).Set("source", source);
  if (!options.empty()) out.Set("options", Json::Strings(options));
  return out;
}

Json Mounts(bool rootless) {
  Json out = Json::Array();
  out.Append(MountOf("/proc", "proc", "proc", {}));
  out.Append(
      MountOf("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  std::vector<std::string> pts = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"};
  if (!rootless) pts.push_back("gid=5");
  out.Append(MountOf("/dev/pts", "devpts", "devpts", pts));
  out.Append(MountOf("/dev/shm", "tmpfs", "shm",
                     {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}));
  out.Append(MountOf("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  out.Append(MountOf("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}));
  out.Append(MountOf("/sys/fs/cgroup", "cgroup", "cgroup",
                     {"nosuid", "noexec", "nodev", "relatime", "ro"}));
  return out;
}

Json Process() {
  Json capabilities = Json::Object();
  for (const char* set : {"bounding", "effective", "permitted", "ambient"}) {
    capabilities.Set(set, Json::Strings({"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}));
  }
  Json limit = Json::Object();
  limit.Set("type", "RLIMIT_NOFILE").Set("hard", 1024).Set("soft", 1024);
  Json out = Json::Object();
  out.Set("terminal", true)
      .Set("user", Json::Object().Set("uid", 0).Set("gid", 0))
      .Set("args", Json::Strings({"sh"}))
      .Set("env",
           Json::Strings(
               {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"}))
      .Set("cwd", "/")
      .Set("capabilities", std::move(capabilities))
      .Set("rlimits", Json::Array().Append(std::move(limit)))
      .Set("noNewPrivileges", true);
  return out;
}

Json IdMap(uint32_t host_id) {
  Json out = Json::Array();
  out.Append(Json::Object().Set("containerID", 0).Set("hostID", host_id).Set("size", 1));
  return out;
}

Json LinuxSection(bool rootless) {
  Json out = Json::Object();
  if (rootless) {
    out.Set("uidMappings", IdMap(geteuid()));
    out.Set("gidMappings", IdMap(getegid()));
  } else {
    Json rule = Json::Object();
    rule.Set("allow", false).Set("access", "rwm");
    out.Set("resources", Json::Object().Set("devices", Json::Array().Append(std::move(rule))));
  }
  Json namespaces = Json::Array();
  for (const char* type : {"pid", "network", "ipc", "uts", "mount"}) {
    namespaces.Append(Json::Object().Set("type", type));
  }
  if (rootless) namespaces.Append(Json::Object().Set("type", "user"));
  out.Set("namespaces", std::move(namespaces));
  out.Set("maskedPaths",
          Json::Strings({"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                         "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                         "/proc/sched_debug", "/sys/firmware", "/proc/scsi"}));
  out.Set("readonlyPaths", Json::Strings({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                          "/proc/sysrq-trigger"}));
  return out;
}

}  // namespace

oci::Json SpecTemplate(bool rootless) {
  Json out = Json::Object();
  out.Set("ociVersion", kSpecVersion);
  out.Set("process", Process());
  out.Set("root", Json::Object().Set("path", "rootfs").Set("readonly", true));
  out.Set("hostname", "runsc");
  out.Set("mounts", Mounts(rootless));
  out.Set("linux", LinuxSection(rootless));
  return out;
}

absl::StatusOr<int> Spec(const Args& args) {
  std::string path = args.bundle.empty() ? "config.json" : args.bundle + "/config.json";
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd) {
    if (errno == EEXIST) {
      return absl::AlreadyExistsError(absl::StrCat("File ", path, " exists. Remove it first"));
    }
    return HostErrnoStatus(errno, path);
  }
  std::string text = SpecTemplate(args.all).ToText("\t");
  if (write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    unlink(path.c_str());
    return HostErrnoStatus(errno, path);
  }
  return 0;
}

}  // namespace caisson::cmd
