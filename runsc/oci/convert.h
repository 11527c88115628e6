// From what the user asked for (spec.h) to what a sandbox is told (container.proto).
#ifndef CAISSON_RUNSC_OCI_CONVERT_H_
#define CAISSON_RUNSC_OCI_CONVERT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runsc/oci/spec.h"
#include "sentry/protocol/container.pb.h"

namespace caisson::oci {

enum class Overlay {
  kNone,
  kRoot,
  kAll
};  // --overlay2: which mounts get a throw-away upper layer.

struct ConvertOptions {
  std::string id;
  std::string bundle;  // Absolute; what relative paths of root and bind sources start from.
  Overlay overlay = Overlay::kNone;
};

// A host path that the gofer is to serve, for the GOFER mount of the same index.
struct BindSource {
  std::string path;  // Absolute.
  bool read_only = false;
};

struct Converted {
  protocol::Container container;
  std::vector<BindSource> sources;  // The root comes first.
  // The network namespace the monitor enters: "" is a new one, nothing is the runtime's.
  std::optional<std::string> network_namespace;
};

// Refuses what cannot be done (docs/oci.md). `spec.process` must be there.
absl::StatusOr<Converted> ConvertSpec(const Spec& spec, const ConvertOptions& options);

// Without a seccomp filter, which is the container's: see CompileSeccomp.
absl::StatusOr<protocol::Process> ConvertProcess(const Process& process);

// The CPUs that "cpu" lets a container use; 0 where it does not say.
double CpuCount(const Resources& resources);
// "0-3,7": how many. Errors: InvalidArgument.
absl::StatusOr<int> CountCpus(absl::string_view list);

}  // namespace caisson::oci

#endif  // CAISSON_RUNSC_OCI_CONVERT_H_
