// A terminal of the guest whose other end is on the host (docker run -t).
#ifndef CAISSON_VFS_TTY_HOST_TERMINAL_H_
#define CAISSON_VFS_TTY_HOST_TERMINAL_H_

#include <cstdint>
#include <memory>

#include "base/ref.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "vfs/tty/devpts.h"
#include "vfs/tty/tty.h"

namespace caisson::vfs::tty {

// Couples a new terminal of a devpts instance with a host descriptor that carries raw bytes: the
// slave of a host pty (in raw mode: the caller has set it), or any stream. Two threads move the
// bytes; they wait in poll(2), a condition or a write to the host, never while holding a lock. The
// line discipline is the guest's: echo, ^C and the like happen here.
class HostTerminal {
 public:
  // `uid` and `gid` own the node in devpts. Takes over the size of the host's window. Errors:
  // ENOSPC.
  static Result<std::unique_ptr<HostTerminal>> Start(RefPtr<DevptsFileSystem> devpts, UniqueFd host,
                                                     uint32_t uid, uint32_t gid);
  // Hangs up the guest's end. A writer that is stuck on the host ends when the host lets it.
  ~HostTerminal();

  Tty& tty() const;
  // The slave, for the kernel to put at descriptors 0 to 2: without a name, so a program finds none
  // by ttyname(3); opening "/dev/pts/N" (tty().index()) gives one with a name. Never controlling:
  // TIOCSCTTY or MaybeBecomeControlling() does that.
  Result<RefPtr<FileDescription>> OpenSlave(CallContext& ctx, uint32_t flags);
  // The host's window may have changed: SIGWINCH of the host, or a control call. Also looked at
  // with every input.
  void OnHostResize();
  // Waits until what the guest has written is with the host, or `deadline` (ns, CLOCK_MONOTONIC).
  // False on the deadline.
  bool Drain(int64_t deadline);

 private:
  class Core;
  explicit HostTerminal(RefPtr<Core> core);
  const RefPtr<Core> core_;
};

}  // namespace caisson::vfs::tty

#endif  // CAISSON_VFS_TTY_HOST_TERMINAL_H_
