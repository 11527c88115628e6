// Walks that go again from the start (Linux fs/namei.c, filename_lookup(), path_openat(): LOOKUP_REVAL).
#ifndef CAISSON_VFS_STALE_H_
#define CAISSON_VFS_STALE_H_

#include <cstdint>

#include "base/errno.h"

namespace caisson::vfs {

// A file system that finds objects by names which others can change (vfs/gofer) calls this when it answers ENOENT
// for one that a walk has been at already: where Linux would say ESTALE. It tells only the calling thread, whose
// walk or open may have met two states of the tree; for everybody else ENOENT is the answer.
void NoteStale();

// One path operation: `attempt` is made again while it meets such objects, a bounded number of times. It must have
// changed nothing where it fails with ENOENT or ENOTDIR.
class StaleRetry {
 public:
  StaleRetry() : before_(Count()) {}
  // Whether an attempt that gave `error` is to be made again.
  bool Again(Errno error) {
    const uint64_t now = Count();
    if ((error != Errno::kENOENT && error != Errno::kENOTDIR) || now == before_ || ++tries_ > kMaxTries)
      return false;
    before_ = now;
    return true;
  }
  // fn() until it need not be made again.
  template <typename Fn>
  static auto Run(Fn fn) {
    StaleRetry retry;
    for (;;) {
      auto result = fn();
      if (result.ok() || !retry.Again(result.error())) return result;
    }
  }

 private:
  // Linux goes once more, and then says ESTALE; but there only a path is out of date, not what it led to.
  static constexpr int kMaxTries = 64;
  static uint64_t Count();

  uint64_t before_;
  int tries_ = 0;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_STALE_H_
