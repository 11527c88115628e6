// What stays of an AF_UNIX socket when its file is gone: peers and messages refer to endpoints.
#ifndef CAISSON_NETSTACK_UNIX_ENDPOINT_H_
#define CAISSON_NETSTACK_UNIX_ENDPOINT_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/wait_queue.h"
#include "netstack/socket_options.h"
#include "vfs/socket.h"
#include "vfs/types.h"

namespace caisson::netstack {

class Endpoint;
class UnixNamespace;
class UnixSocket;

// Who made a connection possible: SO_PEERCRED, SO_PEERGROUPS. Immutable.
struct PeerCredentials {
  vfs::ProcessId process;
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups;
};

// A datagram, or what one send() put into a stream. Owned by one queue or call at a time.
struct UnixMessage {
  std::unique_ptr<char[]> data;
  size_t offset = 0, length = 0;  // What is left of it.
  size_t charge = 0;              // Bytes of the sender's buffer that it holds.
  RefPtr<Endpoint> sender;
  std::string from;               // The sender's address when it sent; empty if unnamed.
  vfs::ControlData::Creds creds;
  std::vector<RefPtr<vfs::FileDescription>> files;
  uint32_t flight_user = 0;       // Whose limit the files count against.

  UnixMessage() = default;
  UnixMessage(UnixMessage&&) = default;
  UnixMessage& operator=(UnixMessage&&) = default;
  // Gives the charge back. Files must have been taken out or counted out by then (gc.h).
  ~UnixMessage();
};

enum class UnixState : uint8_t { kClosed, kConnecting, kConnected, kListening };

inline constexpr int kShutReceive = 1, kShutSend = 2, kShutBoth = 3;
inline constexpr size_t kMaxDatagramQueue = 10;  // net.unix.max_dgram_qlen.
inline constexpr size_t kMessageOverhead = 512;  // Of bookkeeping, counted as data.

// Linux struct unix_sock. Thread-safe: mu_ guards what is marked, is taken for one endpoint at a
// time (after the namespace's lock), and is never held across guest memory, a path walk or the
// release of a file. WaitQueues are notified without it.
class Endpoint final : public RefCounted<Endpoint> {
 public:
  Endpoint(RefPtr<UnixNamespace> ns, int type, uint64_t ino);
  ~Endpoint();

  UnixNamespace& ns() const { return *ns_; }
  int type() const { return type_; }
  bool connection_based() const { return type_ != kSockDgram; }
  uint64_t ino() const { return ino_.load(std::memory_order_relaxed); }  // 0 before accept(2).
  void set_ino(uint64_t ino) { ino_.store(ino, std::memory_order_relaxed); }
  SocketOptions& options() { return options_; }
  WaitQueue& queue() { return queue_; }
  EventMask Readiness() ABSL_LOCKS_EXCLUDED(mu_);

  // unix_release_sock(): the file has gone (`embryo`: there never was one, the listener has gone).
  void Release(bool embryo) ABSL_LOCKS_EXCLUDED(mu_);

  // --- Send buffer. ---
  size_t sent_bytes() const { return charged_.load(std::memory_order_relaxed); }
  bool HasSendRoom() const { return sent_bytes() < options_.send_buffer(); }
  void Charge(size_t n) { charged_.fetch_add(n, std::memory_order_relaxed); }
  void Uncharge(size_t n);
  // Polls as writable: a quarter used at most.
  bool Writable() const { return sent_bytes() * 4 <= options_.send_buffer(); }

  // Wakes those who wait for room in queue or backlog here.
  void WakeRoomWaiters() ABSL_LOCKS_EXCLUDED(mu_);
  // `who` is told by kWritable on its queue when there is room; also when this endpoint ends.
  void AddRoomWaiterLocked(Endpoint& who) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A datagram sender that is not our peer has to wait.
  bool DatagramQueueFullLocked(const Endpoint& sender) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The pending error, which is cleared; 0 if none.
  int TakeErrorLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Mutex mu_;
  UnixState state ABSL_GUARDED_BY(mu_) = UnixState::kClosed;
  bool dead ABSL_GUARDED_BY(mu_) = false;
  int shutdown ABSL_GUARDED_BY(mu_) = 0;  // kShut*.
  int error ABSL_GUARDED_BY(mu_) = 0;     // errno.
  RefPtr<Endpoint> peer ABSL_GUARDED_BY(mu_);
  std::string address ABSL_GUARDED_BY(mu_);  // sockaddr_un bytes; empty if unnamed.
  vfs::VfsPath place ABSL_GUARDED_BY(mu_);   // Of a bound path: keeps its inode.
  std::shared_ptr<const PeerCredentials> own_creds ABSL_GUARDED_BY(mu_);   // Of a listener.
  std::shared_ptr<const PeerCredentials> peer_creds ABSL_GUARDED_BY(mu_);
  std::deque<UnixMessage> messages ABSL_GUARDED_BY(mu_);
  size_t queued_bytes ABSL_GUARDED_BY(mu_) = 0;
  std::deque<RefPtr<Endpoint>> backlog ABSL_GUARDED_BY(mu_);  // Connections not accepted yet.
  uint32_t max_backlog ABSL_GUARDED_BY(mu_) = 0;
  int32_t peek_offset ABSL_GUARDED_BY(mu_) = -1;  // SO_PEEK_OFF.

  // net.unix.max_dgram_qlen when it was made (Linux sk_max_ack_backlog).
  const size_t max_datagram_queue_;

  // Guarded by the namespace's flight lock (gc.cc): how many times the socket's file is in
  // messages, and the file while it exists.
  int64_t in_flight = 0;
  UnixSocket* file = nullptr;
  // Scratch of the collector.
  int64_t external = 0;
  bool reachable = false;

 private:
  const RefPtr<UnixNamespace> ns_;
  const int type_;
  std::atomic<uint64_t> ino_;
  SocketOptions options_;
  std::atomic<size_t> charged_{0};  // Relaxed: a limit, not an order.
  absl::flat_hash_map<Endpoint*, RefPtr<Endpoint>> room_waiters_ ABSL_GUARDED_BY(mu_);
  WaitQueue queue_;
};

}  // namespace caisson::netstack

#endif  // CAISSON_NETSTACK_UNIX_ENDPOINT_H_
