// Serves control connections: parses bounded requests, runs each on a thread of its own, answers.
#ifndef CAISSON_SENTRY_BOOT_CONTROL_SERVER_H_
#define CAISSON_SENTRY_BOOT_CONTROL_SERVER_H_

#include <memory>

#include "base/unique_fd.h"
#include "sentry/boot/kernel_control.h"

namespace caisson::boot {

// Most connections at a time; more are closed as they come. Each exec holds two.
inline constexpr size_t kMaxConnections = 4096;

// One thread (that of Run) waits for all connections; an idle sandbox has no other of ours. A
// WaitRequest takes no thread while it is outstanding.
class ControlServer {
 public:
  // `listener` is a listening SOCK_SEQPACKET socket, or invalid.
  ControlServer(KernelControl& kernel, UniqueFd listener);
  // Waits for requests that still run.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // A connection that exists already. The sandbox ends with the one that `owns_sandbox`. Before
  // Run only.
  void AddConnection(UniqueFd socket, bool owns_sandbox);

  // Returns when a connection that owns the sandbox has closed.
  void Run();

 private:
  class Connection;
  class Poller;
  using ConnectionPtr = std::shared_ptr<Connection>;

  // Reads one request and answers it, or ends the connection.
  void Serve(const ConnectionPtr& connection);
  void BeginWait(const ConnectionPtr& connection, const protocol::WaitRequest& wait);
  // Forgets the connection and kills what belongs to it.
  void End(const ConnectionPtr& connection);

  KernelControl& kernel_;
  UniqueFd listener_;
  std::shared_ptr<Poller> poller_;
};

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_CONTROL_SERVER_H_
