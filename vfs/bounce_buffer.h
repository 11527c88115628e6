// Sentry memory between guest memory and a file's own, so that no lock is held while guest memory
// is touched.
#ifndef CAISSON_VFS_BOUNCE_BUFFER_H_
#define CAISSON_VFS_BOUNCE_BUFFER_H_

#include <algorithm>
#include <cstddef>
#include <memory>

#include "absl/types/span.h"

namespace caisson::vfs {

// At least min(want, max) bytes, uninitialized; small ones are on the stack.
class BounceBuffer {
 public:
  BounceBuffer(size_t want, size_t max) : size_(std::min(want, max)) {
    if (size_ > sizeof(inline_)) heap_.reset(new char[size_]);
  }
  BounceBuffer(const BounceBuffer&) = delete;
  BounceBuffer& operator=(const BounceBuffer&) = delete;
  char* data() { return heap_ != nullptr ? heap_.get() : inline_; }
  size_t size() const { return size_; }
  absl::Span<char> first(size_t n) { return {data(), std::min(n, size_)}; }

 private:
  const size_t size_;
  std::unique_ptr<char[]> heap_;
  char inline_[4096];
};
// Declares one without the zeroing that hardened builds do to automatic variables.
#define CAISSON_BOUNCE_BUFFER(name, want, max) \
  __attribute__((uninitialized)) ::caisson::vfs::BounceBuffer name((want), (max))

inline constexpr size_t kReadBounce = size_t{64} << 10;
inline constexpr size_t kWriteBounce = size_t{1} << 20;

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_BOUNCE_BUFFER_H_
