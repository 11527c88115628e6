// Processes as what they leave behind names them: messages, segments, terminals.
#ifndef CAISSON_VFS_PROCESS_ID_H_
#define CAISSON_VFS_PROCESS_ID_H_

#include <cstdint>

#include "base/ref.h"

namespace caisson::vfs {

// While it lives its numbers belong to no other process, although their own may be gone (Linux struct pid).
class ProcessHold : public RefCounted<ProcessHold> {
 public:
  virtual ~ProcessHold() = default;
};

struct ProcessId {
  int32_t number = 0;        // In the sandbox's root pid namespace. 0: the kernel, or nobody.
  RefPtr<ProcessHold> hold;  // Null in tests, and of nobody.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_PROCESS_ID_H_
