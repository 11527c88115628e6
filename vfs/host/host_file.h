// Descriptors of the host as files of the guest: inherited standard input and output.
#ifndef CAISSON_VFS_HOST_HOST_FILE_H_
#define CAISSON_VFS_HOST_HOST_FILE_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vfs/file_description.h"
#include "vfs/host/host_poller.h"
#include "vfs/mount.h"

namespace caisson::vfs {

// One host descriptor, perhaps opened several times by the guest (/dev/stdout). It is shared with
// programs of the host, so its flags are never changed: reads and writes that could wait are tried
// with RWF_NOWAIT or MSG_DONTWAIT, else after poll(2). Thread-safe.
//
// The process must ignore SIGPIPE, SIGTTIN and SIGTTOU.
class HostObject final : public RefCounted<HostObject>, private HostPoller::Client {
 public:
  // `mode`: st_mode of the host.
  HostObject(HostPoller& poller, UniqueFd fd, FileMode mode);
  ~HostObject();

  int host_fd() const { return fd_.get(); }
  FileMode type() const { return type_; }
  bool is_terminal() const { return terminal_; }
  Result<size_t> Read(IoBuffer& to);
  Result<size_t> Write(IoBuffer& from);  // Errors: EPIPE (the caller sends SIGPIPE).
  EventMask Readiness(EventMask mask);
  WaitQueue* queue() { return pollable_ ? &queue_ : nullptr; }

 private:
  void OnHostEvent(EventMask events) override { queue_.Notify(events); }
  ssize_t TryRead(char* to, size_t n);
  ssize_t TryWrite(const char* from, size_t n);
  // What poll(2) says now; arms the poller for what of `mask` does not hold.
  EventMask Poll(EventMask mask);

  HostPoller& poller_;
  const UniqueFd fd_;
  const FileMode type_;
  const bool terminal_;
  bool pollable_ = false;                // Set by the constructor.
  std::atomic<bool> nowait_works_{true};  // Relaxed: a hint.
  WaitQueue queue_;
};

// Brings host descriptors into the guest: "hostfs" and its mount. One for each kernel; `poller`
// outlives it and all its files. Thread-safe.
class HostFiles {
 public:
  explicit HostFiles(HostPoller& poller);
  // Owner ids are what the guest sees (kernel ids), since the host's mean nothing here; engines
  // expect that the container's user owns its standard streams. Errors: EBADF, and EINVAL for
  // directories and block devices, which would lead out of the sandbox.
  Result<RefPtr<FileDescription>> Import(UniqueFd fd, uint32_t uid, uint32_t gid);

 private:
  HostPoller& poller_;
  const RefPtr<FileSystem> fs_;
  const RefPtr<Mount> mount_;
  std::atomic<uint64_t> next_{1};
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_HOST_HOST_FILE_H_
