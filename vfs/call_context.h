// What a file operation may know of its caller. `vfs` has never heard of tasks.
#ifndef CAISSON_VFS_CALL_CONTEXT_H_
#define CAISSON_VFS_CALL_CONTEXT_H_

#include <cstdint>

#include "absl/types/span.h"
#include "auth/credentials.h"
#include "auth/user_counts.h"
#include "base/guest_addr.h"
#include "base/result.h"
#include "base/wait_queue.h"
#include "time/clock.h"
#include "vfs/process_id.h"
#include "vfs/types.h"

namespace caisson::vfs {

// The caller of an operation: a task, the kernel itself at boot, or a test. Used by one thread,
// but for Wake().
class CallContext {
 public:
  virtual ~CallContext() = default;

  virtual const auth::Credentials& creds() const = 0;
  virtual VfsPath root() const = 0;  // fs_struct root (chroot).
  virtual VfsPath cwd() const = 0;
  virtual MountNamespace& mount_namespace() const = 0;
  virtual FileMode umask() const = 0;
  virtual uint64_t file_size_limit() const = 0;  // RLIMIT_FSIZE, bytes.
  virtual uint64_t open_file_limit() const { return ~uint64_t{0}; }  // RLIMIT_NOFILE.
  // Where things are counted that are limited by user; null for the kernel and in tests.
  virtual RefPtr<auth::UserCounts> user_counts() const { return nullptr; }
  // Identity for locks, owners and /proc/self; in the sandbox's root pid namespace. 0: the kernel.
  virtual int32_t tgid() const = 0;
  // For what is kept; and such an id as the caller's pid namespace numbers it, 0 if it is not visible there.
  virtual ProcessId process_id() const { return {tgid(), nullptr}; }
  virtual int32_t Shown(const ProcessId& id) const { return id.number; }
  virtual int32_t tid() const = 0;

  // Sleeps until Wake(), `deadline` (ns, CLOCK_MONOTONIC) or an interruption. A Wake() since the
  // last Block() returns at once. Errors: ETIMEDOUT; kERESTARTSYS when a signal is pending.
  virtual Result<void> Block(int64_t deadline) = 0;
  // The caller is about to end (Linux fatal_signal_pending()): long work without Block() gives up.
  virtual bool IsEnding() const { return false; }
  virtual void Wake() = 0;  // From any thread, also under a wait queue's lock.
  // Wake() in two steps: Parker::Ring() of the result, without the locks under which this was called,
  // ends the sleep. Until then the sleeper may go on or not, after that it does. The caller may be gone meanwhile.
  virtual const void* MarkWoken() {
    Wake();
    return nullptr;
  }

  // Sends a signal that the operation causes to the caller (SIGPIPE, SIGXFSZ, SIGTTIN to its
  // process group where `to_group`).
  virtual void SendSignal(int signo, bool to_group = false) = 0;

  // Guest memory for ioctl arguments and the like. Errors: EFAULT.
  virtual Result<void> CopyInBytes(GuestAddr from, absl::Span<char> to) = 0;
  virtual Result<void> CopyOutBytes(GuestAddr to, absl::Span<const char> from) = 0;

  // The kernel object behind the caller (a sentry::Task), for files that the sentry registers
  // (/proc/self and magic links). Null for the kernel and in tests.
  virtual void* owner() const { return nullptr; }

  template <typename T>
  Result<T> CopyInObject(GuestAddr from) {
    T value;
    TRY(CopyInBytes(from, absl::Span<char>(reinterpret_cast<char*>(&value), sizeof(T))));
    return value;
  }
  template <typename T>
  Result<void> CopyOutObject(GuestAddr to, const T& value) {
    return CopyOutBytes(to, {reinterpret_cast<const char*>(&value), sizeof(T)});
  }
};

// A registration whose event wakes the context: put it on a WaitQueue, then alternate checking the
// condition and Block().
class ContextWaiter final : public WaitEntry {
 public:
  explicit ContextWaiter(CallContext& ctx) : ctx_(ctx) {}

 protected:
  void OnEvent(EventMask) override { ctx_.Wake(); }

 private:
  CallContext& ctx_;
};

// Calls `attempt` (returning a Result) until it gives something other than EAGAIN, sleeping on
// `queue` between calls. Errors: attempt's; ETIMEDOUT and restart codes as Block().
template <typename F>
auto WaitUntil(CallContext& ctx, WaitQueue& queue, EventMask mask, int64_t deadline, F attempt)
    -> decltype(attempt()) {
  auto result = attempt();
  if (result.ok() || result.error() != Errno::kEAGAIN) return result;
  ContextWaiter waiter(ctx);
  queue.Add(waiter, mask);
  for (;;) {
    result = attempt();
    if (result.ok() || result.error() != Errno::kEAGAIN) break;
    if (Result<void> slept = ctx.Block(deadline); !slept.ok()) {
      result = slept.error();
      break;
    }
  }
  queue.Remove(waiter);
  return result;
}

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_CALL_CONTEXT_H_
