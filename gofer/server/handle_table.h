// What the client has handles of.
#ifndef CAISSON_GOFER_SERVER_HANDLE_TABLE_H_
#define CAISSON_GOFER_SERVER_HANDLE_TABLE_H_

#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/ref.h"
#include "base/unique_fd.h"

namespace caisson::gofer {

// A host file by an O_PATH descriptor, which pins the inode; its type and identity never change.
struct Object : public RefCounted<Object> {
  Object(UniqueFd fd, uint32_t type, uint64_t dev, uint64_t ino)
      : fd(std::move(fd)), type(type), dev(dev), ino(ino) {}
  ~Object() = default;

  const UniqueFd fd;
  const uint32_t type;  // S_IFMT part.
  const uint64_t dev;
  const uint64_t ino;

  Mutex mu;
  // A directory that is being read, from request to request: overlayfs merges it only once.
  UniqueFd stream ABSL_GUARDED_BY(mu);
  uint64_t stream_cookie ABSL_GUARDED_BY(mu) = 0;
};

// Handles are index and generation, so a released one is not mistaken for its successor.
// Thread-safe.
class HandleTable {
 public:
  // The root gets kRootHandle, which Release() leaves alone.
  HandleTable(RefPtr<Object> root, size_t limit);
  // 0 when `limit` handles exist.
  uint64_t Insert(RefPtr<Object> object) ABSL_LOCKS_EXCLUDED(mu_);
  RefPtr<Object> Get(uint64_t handle) const ABSL_LOCKS_EXCLUDED(mu_);
  void Release(uint64_t handle) ABSL_LOCKS_EXCLUDED(mu_);
  size_t limit() const { return limit_; }

 private:
  struct Slot {
    RefPtr<Object> object;
    uint32_t generation = 0;
  };
  const size_t limit_;
  mutable Mutex mu_;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mu_);  // Index 0 is never used.
  std::vector<uint32_t> free_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_SERVER_HANDLE_TABLE_H_
