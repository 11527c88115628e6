// Where files without a name live: eventfd, epoll, timerfd and what else the sentry adds.
#ifndef CAISSON_VFS_ANON_ANON_INODE_H_
#define CAISSON_VFS_ANON_ANON_INODE_H_

#include "base/ref.h"
#include "vfs/inode.h"

namespace caisson::vfs {

// "anon_inodefs". One for each kernel.
class AnonFileSystem final : public FileSystem {
 public:
  AnonFileSystem();
  // As on Linux, all anonymous files share one inode (st_mode 0600 without a type). It is not
  // opened again: ENXIO. Each call makes an object; a kernel asks once.
  RefPtr<Inode> root() override;
  Result<FsStatistics> Statistics(CallContext& ctx) override;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_ANON_ANON_INODE_H_
