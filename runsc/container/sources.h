// The host files that a container is given, opened before anything is confined.
#ifndef CAISSON_RUNSC_CONTAINER_SOURCES_H_
#define CAISSON_RUNSC_CONTAINER_SOURCES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "runsc/oci/convert.h"
#include "runsc/sandbox/sandbox.h"

namespace caisson::runsc {

// Opens the root and every bind source, following symbolic links as mount(2) does, and fills in
// `is_file` of their mounts. Errors name mount and path.
absl::StatusOr<std::vector<GoferSource>> OpenSources(oci::Converted& converted);

// Makes missing mount targets in a root whose gofer will refuse writes. Every step is resolved
// below the root's descriptor, so a symbolic link in the image cannot lead out of it. What cannot
// be made is left for the sentry to report.
void MakeTargetsInReadOnlyRoot(const oci::Converted& converted, const GoferSource& root);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_SOURCES_H_
