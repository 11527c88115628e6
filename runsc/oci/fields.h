// The fate of every field of config.json: one table, from which docs/oci.md is made and against
// which every document is checked, so that nothing is dropped silently.
#ifndef CAISSON_RUNSC_OCI_FIELDS_H_
#define CAISSON_RUNSC_OCI_FIELDS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runsc/oci/json.h"

namespace caisson::oci {

enum class Fate {
  kInside,   // Applied by the sentry.
  kHost,     // Applied by runsc on the host.
  kKept,     // Checked, kept, shown by `state` and to hooks.
  kRefused,  // An error if it is set.
  kIgnored,  // Logged if it is set, and without effect.
};

// "linux.devices[].path": "[]" is each element of an array, "*" each key of a map. A field of an
// object that has no row of its own is in the table by the rows of its members.
struct Field {
  absl::string_view path;
  Fate fate;
  absl::string_view note;
};

absl::Span<const Field> Fields();

// Walks `value`, whose place in config.json is `path` ("" for all of it). Errors: InvalidArgument
// for a refused field that is set, with its path and the table's note. Ignored and unknown fields
// are logged.
absl::Status CheckFields(const Json& value, absl::string_view path);

// docs/oci.md.
std::string FieldsDocument();

}  // namespace caisson::oci

#endif  // CAISSON_RUNSC_OCI_FIELDS_H_
