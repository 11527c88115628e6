#include "vfs/tty/pty.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "vfs/dentry.h"
#include "vfs/mount.h"

namespace caisson::vfs::tty {

Result<RefPtr<FileDescription>> PtySlave::Open(CallContext& ctx, RefPtr<Tty> tty, VfsPath path,
                                               RefPtr<Inode> inode, uint32_t flags, bool no_ctty) {
  uint64_t generation = TRY(tty->OpenSlave(ctx));
  auto file = MakeRef<PtySlave>(tty, std::move(path), std::move(inode), flags, generation);
  if (!no_ctty) tty->MaybeBecomeControlling(ctx, file->readable());
  return RefPtr<FileDescription>(std::move(file));
}

Result<size_t> PtySlave::Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) {
  bool nonblock = nonblocking() || (rwf & kRwfNowait) != 0;
  return tty_->Read(ctx, to, generation_, nonblock, (rwf & kRwfTimedOut) != 0);
}

Result<size_t> PtySlave::Write(CallContext& ctx, IoBuffer& from, uint32_t) {
  return tty_->Write(ctx, from, generation_);
}

Result<int64_t> PtySlave::Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) {
  return tty_->Ioctl(ctx, request, arg, false, generation_, readable());
}

EventMask PtySlave::Readiness(EventMask mask) {
  return tty_->SlaveReadiness(generation_) & (mask | kEventErr | kEventHup);
}

std::string PtySlave::Describe() const {
  return path() ? "" : absl::StrCat("/dev/pts/", tty_->index());
}

PtyMaster::PtyMaster(RefPtr<DevptsFileSystem> devpts, RefPtr<Tty> tty, VfsPath path,
                     RefPtr<Inode> inode, uint32_t flags)
    : TtyFile(std::move(tty), std::move(path), std::move(inode), flags, true),
      devpts_(std::move(devpts)) {}

PtyMaster::~PtyMaster() {
  devpts_->Remove(tty_->index());  // As pty_close(): gone for whoever hears of it.
  tty_->CloseMaster();
}

Result<RefPtr<FileDescription>> PtyMaster::OpenPeer(CallContext& ctx, uint32_t flags) {
  RefPtr<Inode> inode = devpts_->SlaveInode(tty_->index());
  if (!inode) return Errno::kEIO;
  // The slave's name, if the master was opened in the file system that has it.
  VfsPath path;
  if (const VfsPath& own = this->path(); own && &own.mount->fs() == devpts_.get()) {
    Result<RefPtr<Dentry>> name =
        own.mount->root()->LookupChild(ctx, absl::StrCat(tty_->index()));
    if (name.ok() && (*name)->inode() == inode) path = VfsPath(own.mount, *name);
  }
  constexpr uint32_t kKept = kOpenAccessMode | kOpenNonblock | kOpenAppend | kOpenAsync;
  return PtySlave::Open(ctx, tty_, std::move(path), std::move(inode), flags & kKept,
                        (flags & kOpenNoCtty) != 0);
}

Result<size_t> PtyMaster::Read(CallContext&, IoBuffer& to, uint32_t) {
  return tty_->ReadMaster(to);
}

Result<size_t> PtyMaster::Write(CallContext&, IoBuffer& from, uint32_t) {
  return tty_->WriteMaster(from);
}

Result<int64_t> PtyMaster::Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) {
  return tty_->Ioctl(ctx, request, arg, true, 0, readable());
}

EventMask PtyMaster::Readiness(EventMask mask) {
  return tty_->MasterReadiness() & (mask | kEventErr | kEventHup);
}

std::string PtyMaster::FdInfo() { return absl::StrCat("tty-index:\t", tty_->index(), "\n"); }

Result<RefPtr<FileDescription>> OpenControllingTty(CallContext& ctx, JobControl& jobs,
                                                   const OpenArgs& args, Inode& inode) {
  RefPtr<Tty> tty = jobs.ControllingTty(ctx);
  if (!tty) return Errno::kENXIO;
  return PtySlave::Open(ctx, std::move(tty), args.path, RefPtr<Inode>(&inode), args.flags,
                        /*no_ctty=*/true);
}

}  // namespace caisson::vfs::tty
