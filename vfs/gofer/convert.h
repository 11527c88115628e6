// Between the protocol's structs and ours.
#ifndef CAISSON_VFS_GOFER_CONVERT_H_
#define CAISSON_VFS_GOFER_CONVERT_H_

#include <sys/stat.h>

#include "gofer/protocol/messages.h"
#include "vfs/types.h"

namespace caisson::vfs {

// Which host file: what inodes are keyed by.
struct HostId {
  uint64_t dev = 0;
  uint64_t ino = 0;
  friend bool operator==(const HostId&, const HostId&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const HostId& id) {
    return H::combine(std::move(h), id.dev, id.ino);
  }
};

// False if no file could have these: an unknown type, a negative size.
bool IsPlausible(const caisson::gofer::WireAttributes& wire);
// Without `dev`, which the file system decides.
Attributes FromWire(const caisson::gofer::WireAttributes& wire);
caisson::gofer::WireAttributes ToWire(const Attributes& attr, const HostId& id);
// What changes through an open descriptor: size, blocks, times, links. Owner and mode as the
// sentry sees them are not the container's.
void UpdateFromHost(const struct stat& st, Attributes* attr);

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_GOFER_CONVERT_H_
