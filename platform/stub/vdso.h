// Where the kernel has put its vDSO in this process.
#ifndef CAISSON_PLATFORM_STUB_VDSO_H_
#define CAISSON_PLATFORM_STUB_VDSO_H_

#include <cstdint>
#include <vector>

namespace caisson::platform::stub {

// One of the kernel's areas [vvar], [vvar_vclock], [vdso]: they are moved whole.
struct VdsoArea {
  uint64_t start;
  uint64_t end;
  bool is_code;  // [vdso] itself.
};

// In address order, in one piece; empty if there is none or /proc is not there.
std::vector<VdsoArea> FindVdsoAreas();

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_VDSO_H_
