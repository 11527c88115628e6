// "sockfs": the inodes of sockets.
#ifndef CAISSON_NETSTACK_SOCKET_INODE_H_
#define CAISSON_NETSTACK_SOCKET_INODE_H_

#include <atomic>
#include <string>

#include "base/mutex.h"
#include "base/ref.h"
#include "vfs/inode.h"

namespace caisson::netstack {

// A socket's attributes: S_IFSOCK | 0777, owned by who made it. Not opened again: ENXIO.
class SocketInode final : public vfs::Inode {
 public:
  SocketInode(vfs::FileSystem& fs, uint64_t ino, uint32_t uid, uint32_t gid);
  uint64_t ino() const { return ino_; }
  std::string Describe() const;  // "socket:[ino]".
  Result<vfs::Attributes> GetAttributes(vfs::CallContext& ctx) override;
  Result<void> SetAttributes(vfs::CallContext& ctx, const struct vfs::SetAttributes& change) override;
  Result<RefPtr<vfs::FileDescription>> Open(vfs::CallContext& ctx,
                                            const vfs::OpenArgs& args) override;

 private:
  const uint64_t ino_;
  Mutex mu_;
  vfs::Attributes attr_ ABSL_GUARDED_BY(mu_);
};

// One for each kernel.
class SocketFileSystem final : public vfs::FileSystem {
 public:
  SocketFileSystem();
  RefPtr<vfs::Inode> root() override;
  Result<vfs::FsStatistics> Statistics(vfs::CallContext& ctx) override;
  // For a socket that `ctx` makes.
  RefPtr<SocketInode> NewInode(vfs::CallContext& ctx);

 private:
  std::atomic<uint64_t> next_ino_{1};  // Relaxed: only uniqueness counts.
};

}  // namespace caisson::netstack

#endif  // CAISSON_NETSTACK_SOCKET_INODE_H_
