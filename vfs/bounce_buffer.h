// Sentry memory between guest memory and a file's own, so that no lock is held while guest memory
// is touched.
#ifndef CAISSON_VFS_BOUNCE_BUFFER_H_
#define CAISSON_VFS_BOUNCE_BUFFER_H_

#include <algorithm>
#include <cstddef>

#include "absl/types/span.h"

namespace caisson::vfs {

// At least min(want, max) bytes, uninitialized and aligned to pages (O_DIRECT): small ones are on
// the stack, large ones come from a few that the sandbox keeps. Fresh memory for each call would cost
// as many page faults as the transfer has pages, several times the copy itself.
class BounceBuffer {
 public:
  static constexpr size_t kSmall = 8192;
  static constexpr size_t kLarge = size_t{256} << 10;

  BounceBuffer(size_t want, size_t max = kLarge)
      : size_(std::min({want, max, kLarge})), large_(size_ > kSmall ? TakeLarge() : nullptr) {}
  ~BounceBuffer() {
    if (large_ != nullptr) GiveBack(large_);
  }
  BounceBuffer(const BounceBuffer&) = delete;
  BounceBuffer& operator=(const BounceBuffer&) = delete;
  char* data() { return large_ != nullptr ? large_ : small_; }
  size_t size() const { return size_; }
  absl::Span<char> first(size_t n) { return {data(), std::min(n, size_)}; }

 private:
  static char* TakeLarge();
  static void GiveBack(char* large);

  const size_t size_;
  char* const large_;
  alignas(4096) char small_[kSmall];
};
// Declares one without the zeroing that hardened builds do to automatic variables.
#define CAISSON_BOUNCE_BUFFER(name, ...) \
  __attribute__((uninitialized)) ::caisson::vfs::BounceBuffer name(__VA_ARGS__)

// A device that makes its bytes up needs no more than fits a cache.
inline constexpr size_t kReadBounce = size_t{64} << 10;

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_BOUNCE_BUFFER_H_
