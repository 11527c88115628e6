#include "netstack/socket_inode.h"

#include "absl/strings/str_cat.h"
#include "auth/credentials.h"
#include "time/clock.h"
#include "vfs/file_description.h"

namespace caisson::netstack {
namespace {
constexpr uint64_t kSockfsMagic = 0x534f434b;
}  // namespace

SocketInode::SocketInode(vfs::FileSystem& fs, uint64_t ino, uint32_t uid, uint32_t gid)
    : Inode(fs, vfs::kModeSocket), ino_(ino) {
  attr_.ino = ino;
  attr_.mode = vfs::kModeSocket | 0777;
  attr_.uid = uid;
  attr_.gid = gid;
  attr_.dev = fs.device();
  attr_.atime = attr_.mtime = attr_.ctime = vfs::Timestamp::FromNanoseconds(time::RealtimeNow());
}

std::string SocketInode::Describe() const { return absl::StrCat("socket:[", ino_, "]"); }

Result<vfs::Attributes> SocketInode::GetAttributes(vfs::CallContext&) {
  MutexLock lock(mu_);
  return attr_;
}

Result<void> SocketInode::SetAttributes(vfs::CallContext&, const struct vfs::SetAttributes& change) {
  if (change.size) return Errno::kEINVAL;
  MutexLock lock(mu_);
  if (change.mode) attr_.mode = vfs::kModeSocket | (*change.mode & vfs::kModePermissions);
  if (change.uid) attr_.uid = *change.uid;
  if (change.gid) attr_.gid = *change.gid;
  attr_.ctime = vfs::Timestamp::FromNanoseconds(time::RealtimeNow());
  return {};
}

Result<RefPtr<vfs::FileDescription>> SocketInode::Open(vfs::CallContext&, const vfs::OpenArgs&) {
  return Errno::kENXIO;
}

SocketFileSystem::SocketFileSystem() : FileSystem("sockfs") {}

RefPtr<vfs::Inode> SocketFileSystem::root() {
  return MakeRef<SocketInode>(*this, uint64_t{0}, 0u, 0u);
}

Result<vfs::FsStatistics> SocketFileSystem::Statistics(vfs::CallContext&) {
  vfs::FsStatistics s;
  s.type = kSockfsMagic;
  return s;
}

RefPtr<SocketInode> SocketFileSystem::NewInode(vfs::CallContext& ctx) {
  return MakeRef<SocketInode>(*this, next_ino_.fetch_add(1, std::memory_order_relaxed),
                              ctx.creds().fsuid, ctx.creds().fsgid);
}

}  // namespace caisson::netstack
