// An open file: what several descriptors of several tasks may share.
#ifndef CAISSON_VFS_FILE_DESCRIPTION_H_
#define CAISSON_VFS_FILE_DESCRIPTION_H_

#include <atomic>
#include <string>

#include "base/io_buffer.h"
#include "base/ref.h"
#include "base/result.h"
#include "base/wait_queue.h"
#include "vfs/call_context.h"
#include "vfs/inode.h"
#include "vfs/types.h"

namespace caisson::vfs {

// O_* of open(2), x86-64.
inline constexpr uint32_t kOpenAccessMode = 3;
inline constexpr uint32_t kOpenReadOnly = 0;
inline constexpr uint32_t kOpenWriteOnly = 1;
inline constexpr uint32_t kOpenReadWrite = 2;
inline constexpr uint32_t kOpenCreate = 0100;
inline constexpr uint32_t kOpenExclusive = 0200;
inline constexpr uint32_t kOpenNoCtty = 0400;
inline constexpr uint32_t kOpenTruncate = 01000;
inline constexpr uint32_t kOpenAppend = 02000;
inline constexpr uint32_t kOpenNonblock = 04000;
inline constexpr uint32_t kOpenDsync = 010000;
inline constexpr uint32_t kOpenAsync = 020000;
inline constexpr uint32_t kOpenDirect = 040000;
inline constexpr uint32_t kOpenLargeFile = 0100000;
inline constexpr uint32_t kOpenDirectory = 0200000;
inline constexpr uint32_t kOpenNoFollow = 0400000;
inline constexpr uint32_t kOpenNoAtime = 01000000;
inline constexpr uint32_t kOpenCloexec = 02000000;
inline constexpr uint32_t kOpenSync = 04010000;
inline constexpr uint32_t kOpenPath = 010000000;
inline constexpr uint32_t kOpenTmpfile = 020200000;

// What an object behind a descriptor is, for calls that need one kind (there is no RTTI).
enum class FileKind : uint8_t {
  kRegular, kDirectory, kPath, kPipe, kSocket, kTty, kEpoll, kEventfd, kSignalfd, kTimerfd,
  kInotify, kPidfd, kMqueue, kNamespace, kCharDevice, kGenerated, kOther,
};

// Receives directory entries.
class DirectorySink {
 public:
  virtual ~DirectorySink() = default;
  // `next_offset` is the position after this entry (d_off). False when the sink is full: the entry
  // was not taken.
  virtual bool Add(absl::string_view name, uint64_t ino, FileMode type, int64_t next_offset) = 0;
};

// What mmap(2) of a file maps: a host descriptor, which the file description keeps open.
struct HostMapping {
  int host_fd = -1;
  uint64_t offset = 0;      // In the host file, of the requested start.
  bool anonymous = false;   // Private zero memory in place of a file (/dev/zero, MAP_PRIVATE).
  bool writable = true;     // False: MAP_SHARED may not become writable (mprotect gives EACCES).
};

// RWF_* of preadv2(2) that reach implementations.
inline constexpr uint32_t kRwfHipri = 1;
inline constexpr uint32_t kRwfDsync = 2;
inline constexpr uint32_t kRwfSync = 4;
inline constexpr uint32_t kRwfNowait = 8;
inline constexpr uint32_t kRwfAppend = 16;

// An open file. Thread-safe.
//
// Reads and writes never block on events: an implementation that would wait returns EAGAIN, and
// the system call layer waits for Readiness() on EventQueue() unless O_NONBLOCK (FIFO opens are
// the exception and use CallContext::Block). A partial transfer is a value.
class FileDescription : public RefCounted<FileDescription> {
 public:
  // `path` may be empty (pipes, sockets, anonymous inodes); `inode` may be null only if
  // GetAttributes() is overridden. A description opened for writing counts as a writer of the
  // inode from the moment vfs/operations.h opened it.
  FileDescription(FileKind kind, VfsPath path, RefPtr<Inode> inode, uint32_t flags);
  virtual ~FileDescription();

  FileKind kind() const { return kind_; }
  const VfsPath& path() const { return path_; }
  Inode* inode() const { return inode_.get(); }
  RefPtr<Inode> inode_ref() const { return inode_; }
  // Status flags and access mode, as fcntl(F_GETFL) reports them.
  uint32_t flags() const { return flags_.load(std::memory_order_relaxed); }
  // Replaces O_APPEND, O_ASYNC, O_DIRECT, O_NOATIME, O_NONBLOCK (F_SETFL).
  virtual Result<void> SetStatusFlags(CallContext& ctx, uint32_t flags);
  bool readable() const;  // Opened for reading.
  bool writable() const;
  bool nonblocking() const { return (flags() & kOpenNonblock) != 0; }

  // At the file position. Errors: EINVAL if not readable by kind, EISDIR, EAGAIN, EFAULT, EIO.
  virtual Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf);
  virtual Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint32_t rwf);
  // At `offset`, which stays below 2^63 with the length added. Errors: ESPIPE where there is no
  // position.
  virtual Result<size_t> PRead(CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t rwf);
  virtual Result<size_t> PWrite(CallContext& ctx, IoBuffer& from, uint64_t offset, uint32_t rwf);
  // lseek(2). Errors: ESPIPE, EINVAL, ENXIO.
  virtual Result<int64_t> Seek(CallContext& ctx, int64_t offset, int whence);
  // getdents64(2) from the file position, "." and ".." included. Errors: ENOTDIR.
  virtual Result<void> Iterate(CallContext& ctx, DirectorySink& sink);

  // Errors: ENOTTY. `arg` is a number or a guest address, read with ctx.CopyInObject().
  virtual Result<int64_t> Ioctl(CallContext& ctx, uint32_t request, uint64_t arg);
  // Prepares [offset, offset + length) for a mapping. Errors: ENODEV, EACCES, ENXIO, ENOMEM.
  virtual Result<HostMapping> Map(CallContext& ctx, uint64_t offset, uint64_t length, bool shared,
                                  bool write);
  virtual Result<void> Sync(CallContext& ctx, bool data_only);           // Errors: EINVAL.
  virtual Result<void> Allocate(CallContext& ctx, int mode, uint64_t offset, uint64_t length);
  virtual Result<Attributes> GetAttributes(CallContext& ctx);
  virtual Result<void> SetAttributes(CallContext& ctx, const struct SetAttributes& change);
  virtual Result<FsStatistics> Statistics(CallContext& ctx);

  // --- Events. Files that are always ready keep the defaults. ---
  // The events of `mask` (and kEventErr, kEventHup) that hold now.
  virtual EventMask Readiness(EventMask mask);
  // Where changes of Readiness() are announced; null if it never changes (epoll then refuses the
  // file with EPERM).
  virtual WaitQueue* EventQueue() { return nullptr; }

  // Each close(2) of a descriptor (before the last reference may go): POSIX locks of ctx.tgid()
  // are dropped by the caller; implementations flush. Its errors are close(2)'s.
  virtual Result<void> OnClose(CallContext& ctx) { return {}; }
  // Text after "/proc/PID/fd/N ->" for files without a path: "pipe:[42]", "anon_inode:[eventpoll]".
  virtual std::string Describe() const { return ""; }
  // Extra lines of /proc/PID/fdinfo/N.
  virtual std::string FdInfo() { return ""; }

  // F_SETOWN, F_SETSIG: kept here, used by AsyncNotify of the kernel.
  struct AsyncOwner {
    int32_t type = 0;  // F_OWNER_*.
    int32_t pid = 0;
    int signo = 0;     // 0: SIGIO without information.
    uint32_t uid = 0, euid = 0;
  };
  AsyncOwner async_owner() const;
  void set_async_owner(const AsyncOwner& owner);
  // Open credentials: what matters for later use of an inherited descriptor (f_cred).
  RefPtr<const auth::Credentials> opener() const { return opener_; }
  void set_opener(RefPtr<const auth::Credentials> c) { opener_ = std::move(c); }
  // Counted in inode()->AddWriter(); undone by the destructor.
  void set_counts_as_writer() { counts_as_writer_ = true; }
  // Number of descriptors that hold it, over all fd tables (for AF_UNIX garbage collection).
  uint64_t id() const { return id_; }

 protected:
  void ReplaceFlags(uint32_t flags) { flags_.store(flags, std::memory_order_relaxed); }

 private:
  const FileKind kind_;
  const VfsPath path_;
  const RefPtr<Inode> inode_;
  std::atomic<uint32_t> flags_;  // Relaxed: single word, no ordering with other data.
  const uint64_t id_;
  bool counts_as_writer_ = false;
  RefPtr<const auth::Credentials> opener_;
  mutable Mutex async_mu_;
  AsyncOwner async_owner_ ABSL_GUARDED_BY(async_mu_);
};

// Base for files with a position: turns Read and Write into PRead and PWrite at an offset that
// it guards (Linux f_pos_lock), and gives Seek for SEEK_SET, SEEK_CUR and SEEK_END.
class SeekableFile : public FileDescription {
 public:
  using FileDescription::FileDescription;
  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  // With O_APPEND (or RWF_APPEND) writes go through Append().
  Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint32_t rwf) override;
  Result<int64_t> Seek(CallContext& ctx, int64_t offset, int whence) override;

 protected:
  // Writes at the end, atomically with other appends, and returns the bytes; *end is the position
  // after them.
  virtual Result<size_t> Append(CallContext& ctx, IoBuffer& from, uint32_t rwf, uint64_t* end);
  // SEEK_DATA and SEEK_HOLE. The default: one extent of data up to the size.
  virtual Result<int64_t> SeekExtent(CallContext& ctx, int64_t offset, bool hole);

  Mutex position_mu_;
  int64_t position_ ABSL_GUARDED_BY(position_mu_) = 0;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_FILE_DESCRIPTION_H_
