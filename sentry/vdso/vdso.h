// The guest's vDSO: its image, and the page of data that belongs to a time namespace (README.md).
#ifndef CAISSON_SENTRY_VDSO_VDSO_H_
#define CAISSON_SENTRY_VDSO_VDSO_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/guest_addr.h"
#include "base/ref.h"
#include "base/result.h"
#include "sentry/vdso/guest/data.h"
#include "vfs/file_description.h"

namespace caisson::vdso {

// What a mapping of the vDSO shows: sealed files, so what a guest changes is its own copy.
struct Files {
  RefPtr<vfs::FileDescription> image;  // [vdso], readable and executable.
  RefPtr<vfs::FileDescription> data;   // [vvar], one page directly below it.
  uint64_t image_length = 0;           // Whole pages.
};

// Thread-safe: it does not change.
class Vdso {
 public:
  // `host`: where guests have the host's vDSO (Platform::vdso_range()); empty if nowhere: then the
  // image's functions make system calls. Errors: ENOMEM, EMFILE.
  static Result<Vdso> New(AddrRange host);

  // What is added to the clocks, in ns. Errors: ENOMEM, EMFILE.
  Result<Files> ForOffsets(int64_t monotonic, int64_t boottime) const;

 private:
  Vdso() = default;
  VdsoData functions_{};
  RefPtr<vfs::FileDescription> image_;
  uint64_t image_length_ = 0;
};

// For tests: the ELF file, not padded to pages.
absl::string_view Image();
// The value of function `name` in the ELF image at `image`, which is trusted; 0 if it has none.
uint64_t FindSymbol(const char* image, absl::string_view name);

}  // namespace caisson::vdso

#endif  // CAISSON_SENTRY_VDSO_VDSO_H_
