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
  // If set, the mapping is of this file instead, from its start: the VMA keeps it in place of the
  // one that was asked (a shared mapping of /dev/zero; Linux shmem_zero_setup()).
  RefPtr<FileDescription> replacement;
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
// Never from a guest: ReadDeadline() has passed, so Read() returns what it has, perhaps nothing.
inline constexpr uint32_t kRwfTimedOut = 1u << 31;

// Something that watches a file without keeping it alive (an epoll registration). Thread-safe by
// its owner; on one file's list at a time.
class FileWatcher : public RefCounted<FileWatcher> {
 public:
  virtual ~FileWatcher() = default;
  // The file's last reference has gone but no destructor has run. Must see to it that the watcher
  // has left the file's event queue and list before it returns.
  virtual void OnFileRelease() = 0;

 private:
  friend class FileDescription;
  FileWatcher* prev_ = nullptr;
  FileWatcher* next_ = nullptr;
  bool linked_ = false;
};

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
  // Writes at the end of file wherever the position is, and leaves that alone (pwrite(2) of an
  // O_APPEND file). Errors: ESPIPE.
  virtual Result<size_t> PAppend(CallContext& ctx, IoBuffer& from, uint32_t rwf);
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
  // Until when (ns, CLOCK_MONOTONIC) a read that gave EAGAIN and has been waiting since `since`
  // goes on waiting: VTIME of termios(3). Asked again after each EAGAIN; once it has passed the
  // system call layer calls Read() with kRwfTimedOut.
  virtual int64_t ReadDeadline(int64_t since) { return time::kNever; }
  // Watchers are told when the last reference goes (vfs/file_watcher.cc).
  void AddWatcher(FileWatcher& watcher);
  void RemoveWatcher(FileWatcher& watcher);  // No effect if it is not on the list.
  void OnLastRelease() const;                // Called by DecRef() alone.

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
  // Counted in inode()->AddWriter() and in the mount's BeginWrite(); both are undone by the
  // destructor. Set by vfs/operations.h only.
  void set_counts_as_writer() { counts_as_writer_ = true; }
  // Opened by a path: inotify is told of the last close.
  void set_notifies_close() { notifies_close_ = true; }
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
  bool notifies_close_ = false;
  RefPtr<const auth::Credentials> opener_;
  mutable Mutex async_mu_;
  AsyncOwner async_owner_ ABSL_GUARDED_BY(async_mu_);
  FileWatcher* watchers_ ABSL_GUARDED_BY(async_mu_) = nullptr;
  std::atomic<bool> was_watched_{false};  // Written under async_mu_; never false again.
};

// RLIMIT_FSIZE and the largest offset for a write to a regular file at `position`: shortens `from`,
// or sends SIGXFSZ and fails (Linux mm/filemap.c, generic_write_check_limits()). FilePWrite() and
// SeekableFile call it. Errors: EFBIG.
Result<void> LimitWrite(CallContext& ctx, uint64_t position, IoBuffer& from);

// Base for files with a position: turns Read and Write into PRead and PWrite at an offset that
// it guards (Linux f_pos_lock), and gives Seek for SEEK_SET, SEEK_CUR and SEEK_END.
class SeekableFile : public FileDescription {
 public:
  using FileDescription::FileDescription;
  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  // With O_APPEND (or RWF_APPEND) writes go through Append().
  Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint32_t rwf) override;
  Result<int64_t> Seek(CallContext& ctx, int64_t offset, int whence) override;
  Result<size_t> PAppend(CallContext& ctx, IoBuffer& from, uint32_t rwf) override;
  // FIONREAD of regular files: the bytes from the position to the end.
  Result<int64_t> Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) override;

 protected:
  // Writes at the end, atomically with other appends, and returns the bytes; *end is the position
  // after them. The default asks for the size and calls PWrite(): atomic only for this description.
  virtual Result<size_t> Append(CallContext& ctx, IoBuffer& from, uint32_t rwf, uint64_t* end);
  // SEEK_DATA and SEEK_HOLE. The default: one extent of data up to the size.
  virtual Result<int64_t> SeekExtent(CallContext& ctx, int64_t offset, bool hole);

  // Held across the transfer, guest memory included, as Linux's f_pos_lock: nothing that a fault
  // could need is taken after it.
  Mutex position_mu_;
  int64_t position_ ABSL_GUARDED_BY(position_mu_) = 0;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_FILE_DESCRIPTION_H_
