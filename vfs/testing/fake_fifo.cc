// OpenFifo() for tests that do not link vfs/pipe.
#include "vfs/fifo.h"

namespace caisson::vfs {

Result<RefPtr<FileDescription>> OpenFifo(CallContext&, const OpenArgs&, Inode&) {
  return Errno::kENXIO;
}

}  // namespace caisson::vfs
