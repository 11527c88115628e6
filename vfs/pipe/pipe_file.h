// Ends of pipes as open files, and the file system they belong to.
#ifndef CAISSON_VFS_PIPE_PIPE_FILE_H_
#define CAISSON_VFS_PIPE_PIPE_FILE_H_

#include <atomic>
#include <string>
#include <utility>

#include "vfs/file_description.h"
#include "vfs/mount.h"
#include "vfs/pipe/pipe.h"

namespace caisson::vfs {

// One open end (or both: O_RDWR) of a pipe or FIFO. Counts as reader and writer by its access mode
// from construction to destruction.
class PipeFile final : public FileDescription {
 public:
  PipeFile(RefPtr<Pipe> pipe, VfsPath path, RefPtr<Inode> inode, uint32_t flags);
  ~PipeFile() override;

  Pipe& pipe() { return *pipe_; }

  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  // EPIPE sends SIGPIPE too.
  Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint32_t rwf) override;
  Result<int64_t> Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) override;
  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override { return &pipe_->queue(); }
  std::string Describe() const override { return description_; }
  // The lack of a writer is no hang-up until one has come (FIFOs opened with O_NONBLOCK).
  // The other end when this one was opened.
  const Pipe::Partner& partner() const { return partner_; }
  void ExpectFirstWriter(uint64_t writer_opens) {
    no_writer_yet_.store(writer_opens, std::memory_order_relaxed);
  }
  void set_description(std::string text) { description_ = std::move(text); }

 private:
  const RefPtr<Pipe> pipe_;
  Pipe::Partner partner_{};  // Of one that is open for one direction only.
  std::atomic<uint64_t> no_writer_yet_{~uint64_t{0}};
  std::string description_;  // Set before the file is shared.
};

// Null unless `file` is a PipeFile.
inline PipeFile* AsPipe(FileDescription& file) {
  return file.kind() == FileKind::kPipe ? static_cast<PipeFile*>(&file) : nullptr;
}

// fcntl(2) F_SETPIPE_SZ: the new capacity, a power of two of pages not below `bytes`. `max_bytes`
// is /proc/sys/fs/pipe-max-size, which CAP_SYS_RESOURCE may exceed (up to 2 GiB).
// Errors: EINVAL, EPERM, EBUSY.
Result<int64_t> SetPipeSize(CallContext& ctx, PipeFile& file, uint64_t bytes, uint64_t max_bytes);
int64_t GetPipeSize(PipeFile& file);  // F_GETPIPE_SZ.

inline constexpr char kPipefsName[] = "pipefs";

// Makes pipes: "pipefs" and its mount. One for each kernel. Thread-safe.
class PipeFactory {
 public:
  PipeFactory();
  // pipe2(2): reading end first. `flags`: O_NONBLOCK, O_DIRECT; O_CLOEXEC belongs to the
  // descriptor. The files have a path, so that /proc/PID/fd/N opens the pipe again; what the link
  // shows is Describe().
  std::pair<RefPtr<FileDescription>, RefPtr<FileDescription>> NewPipe(CallContext& ctx,
                                                                      uint32_t flags);
  FileSystem& file_system() { return *fs_; }

 private:
  const RefPtr<FileSystem> fs_;
  const RefPtr<Mount> mount_;
  std::atomic<uint64_t> next_ino_{2};  // Relaxed: only uniqueness counts.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_PIPE_PIPE_FILE_H_
