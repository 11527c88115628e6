#include "runsc/oci/mount_options.h"

#include <sys/mount.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"

namespace caisson::oci {
namespace {

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

struct Flag {
  absl::string_view name;
  bool clear;
  uint64_t bits;
};

// mount(8). What has no bit is accepted and means nothing on Linux.
constexpr Flag kFlags[] = {
    {"acl", false, MS_POSIXACL},       {"async", true, MS_SYNCHRONOUS},
    {"atime", true, MS_NOATIME},       {"defaults", false, 0},
    {"dev", true, MS_NODEV},           {"diratime", true, MS_NODIRATIME},
    {"dirsync", false, MS_DIRSYNC},    {"exec", true, MS_NOEXEC},
    {"iversion", false, MS_I_VERSION}, {"lazytime", false, MS_LAZYTIME},
    {"loud", true, MS_SILENT},         {"mand", false, MS_MANDLOCK},
    {"noacl", true, MS_POSIXACL},      {"noatime", false, MS_NOATIME},
    {"nodev", false, MS_NODEV},        {"nodiratime", false, MS_NODIRATIME},
    {"noexec", false, MS_NOEXEC},      {"noiversion", true, MS_I_VERSION},
    {"nolazytime", true, MS_LAZYTIME}, {"nomand", true, MS_MANDLOCK},
    {"norelatime", true, MS_RELATIME}, {"nostrictatime", true, MS_STRICTATIME},
    {"nosuid", false, MS_NOSUID},      {"nosymfollow", false, MS_NOSYMFOLLOW},
    {"relatime", false, MS_RELATIME},  {"remount", false, 0},
    {"ro", false, MS_RDONLY},          {"rw", true, MS_RDONLY},
    {"silent", false, MS_SILENT},      {"strictatime", false, MS_STRICTATIME},
    {"suid", true, MS_NOSUID},         {"symfollow", true, MS_NOSYMFOLLOW},
    {"sync", false, MS_SYNCHRONOUS},
};

// These have a form with a leading "r" that means the whole tree below; see mounts[].options in
// fields.cc.
constexpr absl::string_view kRecursive[] = {
    "ratime",      "rdev",    "rdiratime",   "rexec",          "rnoatime", "rnodev",
    "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime", "rnosuid",  "rnosymfollow",
    "rrelatime",   "rro",     "rrw",         "rstrictatime",   "rsuid",    "rsymfollow"};

struct Propagation {
  absl::string_view name;
  uint64_t bits;
};
constexpr Propagation kPropagation[] = {
    {"private", MS_PRIVATE},       {"rprivate", MS_PRIVATE | MS_REC},
    {"shared", MS_SHARED},         {"rshared", MS_SHARED | MS_REC},
    {"slave", MS_SLAVE},           {"rslave", MS_SLAVE | MS_REC},
    {"unbindable", MS_UNBINDABLE}, {"runbindable", MS_UNBINDABLE | MS_REC}};

bool ApplyFlag(absl::string_view name, uint64_t& flags) {
  for (const Flag& flag : kFlags) {
    if (flag.name != name) continue;
    flags = flag.clear ? flags & ~flag.bits : flags | flag.bits;
    return true;
  }
  return false;
}

bool IsIgnored(absl::string_view option) {
  return option == "tmpcopyup" || option == "copy-symlink" || option == "src-nofollow" ||
         option == "dest-nofollow" || absl::StartsWith(option, "context=") ||
         absl::StartsWith(option, "fscontext=") || absl::StartsWith(option, "defcontext=") ||
         absl::StartsWith(option, "rootcontext=");
}

}  // namespace

uint64_t PropagationFlags(absl::string_view option) {
  for (const Propagation& propagation : kPropagation) {
    if (propagation.name == option) return propagation.bits;
  }
  return 0;
}

absl::StatusOr<MountOptions> ParseMountOptions(const std::vector<std::string>& options) {
  MountOptions out;
  for (const std::string& option : options) {
    if (option == "bind" || option == "rbind") {
      out.bind = true;
    } else if (uint64_t propagation = PropagationFlags(option)) {
      out.propagation = propagation;
    } else if (ApplyFlag(option, out.flags)) {
    } else if (std::find(std::begin(kRecursive), std::end(kRecursive), option) !=
               std::end(kRecursive)) {
      ApplyFlag(absl::string_view(option).substr(1), out.flags);
    } else if (option == "idmap" || option == "ridmap" || absl::StartsWith(option, "idmap=")) {
      return absl::InvalidArgumentError(
          absl::StrCat("option ", option, ": mounts with an id map are not supported yet"));
    } else if (IsIgnored(option)) {
      LOG_INFO("mount option ", option, " is ignored");
    } else if (!option.empty()) {
      absl::StrAppend(&out.data, out.data.empty() ? "" : ",", option);
    }
  }
  return out;
}

std::vector<std::string> MountOptionNames() {
  std::vector<std::string> out = {"bind", "rbind"};
  for (const Flag& flag : kFlags) out.emplace_back(flag.name);
  for (absl::string_view name : kRecursive) out.emplace_back(name);
  for (const Propagation& propagation : kPropagation) out.emplace_back(propagation.name);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace caisson::oci
