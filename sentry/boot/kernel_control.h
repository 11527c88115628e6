// What the control server asks of the kernel. sentry/kernel implements it; tests have a fake.
#ifndef CAISSON_SENTRY_BOOT_KERNEL_CONTROL_H_
#define CAISSON_SENTRY_BOOT_KERNEL_CONTROL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "sentry/protocol/container.pb.h"
#include "sentry/protocol/control.pb.h"

namespace caisson::boot {

// Host descriptors of a process, close-on-exec, as the engine gave them: their flags and offsets
// are shared with others and are not to be changed.
struct ProcessFds {
  // Three, or one if process.terminal: the slave of the host's pty, in raw mode.
  std::vector<UniqueFd> stdio;
  std::vector<UniqueFd> preserved;  // process.preserved_fds of them: 3 and up in the guest.
};

// Thread-safe: each request runs on a thread of its own, and may block, but for Wait. Sizes are
// bounded by the server; names, pids and all else are the implementation's to check. A failure is a
// reply with a code other than OK and a text.
class KernelControl {
 public:
  virtual ~KernelControl() = default;

  // Makes mounts and the first process, which does not run yet. There is one socket to the gofer
  // for each GOFER mount, in order.
  virtual protocol::Reply CreateContainer(protocol::Container container,
                                          std::vector<UniqueFd> gofer_sockets, ProcessFds fds) = 0;
  virtual protocol::Reply StartContainer(const std::string& id) = 0;
  // The reply has the new process's pid.
  virtual protocol::Reply Exec(const std::string& id, protocol::Process process,
                               ProcessFds fds) = 0;

  // Calls `done` once, from any thread and maybe before it returns, with wait_status of `pid` (0:
  // the container's first process) when that has ended and all that it wrote is with the host.
  // Neither may block. Who asked last is told first: the monitor, which asked first, ends the sandbox
  // when it hears of its process's end. Asking again after the end gives the same answer until the container is
  // destroyed (for an exec'd process: until it has been given once).
  virtual void Wait(const std::string& id, int32_t pid,
                    std::function<void(protocol::Reply)> done) = 0;

  virtual protocol::Reply Signal(const protocol::SignalRequest& request) = 0;
  virtual protocol::Reply Ps(const std::string& id) = 0;
  virtual protocol::Reply SetWindowSize(const protocol::WindowSize& request) = 0;
  virtual protocol::Reply Pause(const protocol::PauseRequest& request) = 0;
  virtual protocol::Reply Resume(const std::string& id) = 0;
  virtual protocol::Reply Events(const std::string& id) = 0;
  virtual protocol::Reply Debug(const protocol::DebugRequest& request) = 0;
  virtual protocol::Reply Update(const protocol::UpdateRequest& request) = 0;
  virtual protocol::Reply State(const std::string& id) = 0;
  // Kills what runs in the container and frees it. Also called when the monitor of a container
  // other than the sandbox's first has gone.
  virtual protocol::Reply Destroy(const std::string& id) = 0;
};

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_KERNEL_CONTROL_H_
