#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/version.h"
#include "runsc/oci/fields.h"
#include "runsc/oci/mount_options.h"
#include "runsc/oci/names.h"
#include "runsc/oci/seccomp_filter.h"

namespace caisson::cmd {

using oci::Json;

// The features structure of the OCI runtime specification (features.md).
absl::StatusOr<int> Features(const Args&) {
  Json cgroup = Json::Object();
  cgroup.Set("v1", true).Set("v2", true).Set("systemd", false).Set("systemdUser", false);
  cgroup.Set("rdma", false);
  Json seccomp = Json::Object();
  seccomp.Set("enabled", true)
      .Set("actions", Json::Strings(oci::SeccompActions()))
      .Set("operators", Json::Strings(oci::SeccompOperators()))
      .Set("archs", Json::Strings({"SCMP_ARCH_X86_64"}))
      .Set("knownFlags",
           Json::Strings({"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                          "SECCOMP_FILTER_FLAG_LOG"}))
      .Set("supportedFlags",
           Json::Strings({"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                          "SECCOMP_FILTER_FLAG_LOG"}));
  Json section = Json::Object();
  section
      .Set("namespaces", Json::Strings({"cgroup", "ipc", "mount", "network", "pid", "user", "uts"}))
      .Set("capabilities", Json::Strings(oci::CapabilityNames()))
      .Set("cgroup", std::move(cgroup))
      .Set("seccomp", std::move(seccomp))
      .Set("apparmor", Json::Object().Set("enabled", false))
      .Set("selinux", Json::Object().Set("enabled", false))
      .Set("intelRdt", Json::Object().Set("enabled", false))
      .Set("mountExtensions", Json::Object().Set("idmap", Json::Object().Set("enabled", false)));
  Json out = Json::Object();
  out.Set("ociVersionMin", "1.0.0").Set("ociVersionMax", kSpecVersion);
  out.Set("hooks", Json::Strings({"prestart", "createRuntime", "createContainer", "startContainer",
                                  "poststart", "poststop"}));
  out.Set("mountOptions", Json::Strings(oci::MountOptionNames()));
  out.Set("linux", std::move(section));
  Json annotations = Json::Object();
  annotations.Set("io.github.seccomp.libseccomp.version", Json(oci::LibseccompVersion()));
  annotations.Set("org.opencontainers.runc.checkpoint.enabled", "false");
  out.Set("annotations", std::move(annotations));
  RETURN_IF_ERROR(Print(out.ToText("    ") + "\n"));
  return 0;
}

absl::StatusOr<int> OciDocument(const Args&) {
  RETURN_IF_ERROR(Print(oci::FieldsDocument()));
  return 0;
}

}  // namespace caisson::cmd
