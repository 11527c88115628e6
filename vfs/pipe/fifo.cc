#include "vfs/fifo.h"

#include <utility>

#include "vfs/pipe/pipe_file.h"

namespace caisson::vfs {
namespace {

// What an S_IFIFO inode keeps in its bound object: the pipe, and nothing that could be used as a
// file. Holds neither inode nor path, so there is no cycle.
class FifoHolder final : public FileDescription {
 public:
  explicit FifoHolder(const CallContext& ctx)
      : FileDescription(FileKind::kOther, VfsPath(), nullptr, 0), pipe(MakeRef<Pipe>(ctx)) {}
  Result<Attributes> GetAttributes(CallContext&) override { return Errno::kEBADF; }
  const RefPtr<Pipe> pipe;
};

RefPtr<Pipe> PipeOf(const CallContext& ctx, Inode& inode) {
  // Two first openers must agree on one pipe. Guards no data of its own.
  static constinit Mutex first_open_mu;
  MutexLock lock(first_open_mu);
  if (RefPtr<FileDescription> bound = inode.bound_object())
    return static_cast<FifoHolder*>(bound.get())->pipe;
  auto holder = MakeRef<FifoHolder>(ctx);
  inode.set_bound_object(holder);
  return holder->pipe;
}

}  // namespace

// fifo(7); Linux fs/pipe.c, fifo_open().
Result<RefPtr<FileDescription>> OpenFifo(CallContext& ctx, const OpenArgs& args, Inode& inode) {
  // A pipe, reached through /proc/PID/fd: its inode has it.
  if (inode.fs().type_name() == kPipefsName) return inode.Open(ctx, args);
  RefPtr<Pipe> pipe = PipeOf(ctx, inode);
  uint32_t mode = args.flags & kOpenAccessMode;
  bool nonblock = (args.flags & kOpenNonblock) != 0;
  if (mode == kOpenWriteOnly && nonblock && pipe->readers() == 0) return Errno::kENXIO;
  auto file = MakeRef<PipeFile>(pipe, args.path, RefPtr<Inode>(&inode), args.flags);
  // Who was there when this end was added counts even if it goes at once: a writer that waited for
  // this reader may have written and closed by now. So does one that comes and goes meanwhile.
  const Pipe::Partner partner = file->partner();
  if (mode == kOpenReadWrite || partner.there) return RefPtr<FileDescription>(std::move(file));
  if (nonblock) {
    if (mode == kOpenReadOnly) file->ExpectFirstWriter(partner.opens);
    return RefPtr<FileDescription>(std::move(file));
  }
  TRY(WaitUntil(ctx, pipe->queue(), mode == kOpenReadOnly ? kReadable : kWritable, time::kNever,
                [&]() -> Result<void> {
                  const uint64_t opens =
                      mode == kOpenReadOnly ? pipe->writer_opens() : pipe->reader_opens();
                  if (opens == partner.opens) return Errno::kEAGAIN;
                  return {};
                }));
  return RefPtr<FileDescription>(std::move(file));
}

}  // namespace caisson::vfs
