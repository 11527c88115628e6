// The ends of a terminal as open files.
#ifndef CAISSON_VFS_TTY_PTY_H_
#define CAISSON_VFS_TTY_PTY_H_

#include <string>

#include "vfs/file_description.h"
#include "vfs/tty/devpts.h"
#include "vfs/tty/tty.h"

namespace caisson::vfs::tty {

// An open terminal, of either end: what FileKind::kTty is.
class TtyFile : public FileDescription {
 public:
  TtyFile(RefPtr<Tty> tty, VfsPath path, RefPtr<Inode> inode, uint32_t flags, bool master)
      : FileDescription(FileKind::kTty, std::move(path), std::move(inode), flags),
        tty_(std::move(tty)),
        master_(master) {}
  Tty& tty() const { return *tty_; }
  RefPtr<Tty> tty_ref() const { return tty_; }
  bool is_master() const { return master_; }

 protected:
  const RefPtr<Tty> tty_;

 private:
  const bool master_;
};

// Null unless `file` is a terminal.
inline TtyFile* AsTty(FileDescription& file) {
  return file.kind() == FileKind::kTty ? static_cast<TtyFile*>(&file) : nullptr;
}

// Counts as an open slave from construction (after Tty::OpenSlave()) to destruction.
class PtySlave final : public TtyFile {
 public:
  // Errors: Tty::OpenSlave()'s. Unless `no_ctty` it may become the caller's controlling terminal.
  static Result<RefPtr<FileDescription>> Open(CallContext& ctx, RefPtr<Tty> tty, VfsPath path,
                                              RefPtr<Inode> inode, uint32_t flags, bool no_ctty);
  PtySlave(RefPtr<Tty> tty, VfsPath path, RefPtr<Inode> inode, uint32_t flags, uint64_t generation)
      : TtyFile(std::move(tty), std::move(path), std::move(inode), flags, false),
        generation_(generation) {}
  ~PtySlave() override { tty_->CloseSlave(); }

  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint32_t rwf) override;
  Result<int64_t> Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) override;
  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override { return &tty_->slave_queue(); }
  int64_t ReadDeadline(int64_t since) override { return tty_->ReadDeadline(since, generation_); }
  std::string Describe() const override;

 private:
  const uint64_t generation_;  // Of the last hang-up when it was opened.
};

// The end of a terminal emulator in the guest. Its end hangs up the slave.
class PtyMaster final : public TtyFile {
 public:
  PtyMaster(RefPtr<DevptsFileSystem> devpts, RefPtr<Tty> tty, VfsPath path, RefPtr<Inode> inode,
            uint32_t flags);
  ~PtyMaster() override;

  // TIOCGPTPEER, which the system call layer turns into a descriptor: opens the slave with O_*
  // `flags`. Errors: EIO.
  Result<RefPtr<FileDescription>> OpenPeer(CallContext& ctx, uint32_t flags);

  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint32_t rwf) override;
  Result<int64_t> Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) override;
  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override { return &tty_->master_queue(); }
  std::string FdInfo() override;

 private:
  const RefPtr<DevptsFileSystem> devpts_;
};

// Opens /dev/tty: the caller's controlling terminal. Errors: ENXIO if it has none.
Result<RefPtr<FileDescription>> OpenControllingTty(CallContext& ctx, JobControl& jobs,
                                                   const OpenArgs& args, Inode& inode);

}  // namespace caisson::vfs::tty

#endif  // CAISSON_VFS_TTY_PTY_H_
