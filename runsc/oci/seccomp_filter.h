// linux.seccomp to a BPF program for the sentry.
#ifndef CAISSON_RUNSC_OCI_SECCOMP_FILTER_H_
#define CAISSON_RUNSC_OCI_SECCOMP_FILTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runsc/oci/spec.h"

namespace caisson::oci {

struct SeccompFilter {
  std::string bpf;     // An array of struct sock_filter; empty where everything is allowed.
  uint32_t flags = 0;  // SECCOMP_FILTER_FLAG_* of seccomp(2).
};

// Names that libseccomp does not know are left out, as runc does. A call whose number is above all
// that the profile names answers ENOSYS and not the default action's error, so that programs fall
// back to the older call (runc does the same). Guests are x86-64 programs.
absl::StatusOr<SeccompFilter> CompileSeccomp(const Seccomp& seccomp);

std::vector<std::string> SeccompActions();
std::vector<std::string> SeccompOperators();
std::string LibseccompVersion();

}  // namespace caisson::oci

#endif  // CAISSON_RUNSC_OCI_SECCOMP_FILTER_H_
