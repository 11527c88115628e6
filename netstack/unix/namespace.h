// The AF_UNIX sockets of one network namespace.
#ifndef CAISSON_NETSTACK_UNIX_NAMESPACE_H_
#define CAISSON_NETSTACK_UNIX_NAMESPACE_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "netstack/unix/endpoint.h"

namespace caisson::netstack {

// Counts files that are in messages, and ends sockets that only such messages refer to. Shared by
// all namespaces of a kernel, since a message may carry sockets of any. Thread-safe.
class UnixFlight : public RefCounted<UnixFlight> {
 public:
  // Counts the files of `message` in; collects first if many sockets are in flight. Errors: ETOOMANYREFS where the user has more in flight than
  // RLIMIT_NOFILE, and neither CAP_SYS_RESOURCE nor CAP_SYS_ADMIN.
  Result<void> Enter(vfs::CallContext& ctx, UnixMessage& message) ABSL_LOCKS_EXCLUDED(mu_);
  // Counts the files out and hands them over.
  std::vector<RefPtr<vfs::FileDescription>> Leave(UnixMessage& message) ABSL_LOCKS_EXCLUDED(mu_);
  // Drops messages: a chain of sockets, each in a message to the next, is taken down in a loop
  // rather than by recursion.
  void Bury(std::vector<UnixMessage> messages) ABSL_LOCKS_EXCLUDED(mu_);
  // unix_gc().
  void Collect() ABSL_LOCKS_EXCLUDED(mu_);
  // A socket has gone, perhaps the last way to others: collects, at once if few sockets are in
  // flight, else every so many times, so that the cost of each call stays bounded.
  void OnRelease() ABSL_LOCKS_EXCLUDED(mu_);
  // Held by whoever moves a message with files into or out of a queue.
  Mutex& mutex() ABSL_LOCK_RETURNED(mu_) { return mu_; }
  int64_t files() const;

 private:
  bool CollectOnce() ABSL_LOCKS_EXCLUDED(mu_);
  void CountLocked(UnixMessage& message, int by) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;  // Before endpoints' locks.
  int64_t files_ ABSL_GUARDED_BY(mu_) = 0;
  absl::flat_hash_map<uint32_t, int64_t> by_user_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<Endpoint*> sockets_ ABSL_GUARDED_BY(mu_);  // With in_flight != 0.
  static constexpr size_t kCollectAtLeast = 256;
  size_t collect_at_ ABSL_GUARDED_BY(mu_) = kCollectAtLeast;  // So many sockets in flight.
  bool collecting_ ABSL_GUARDED_BY(mu_) = false;
  bool collect_again_ ABSL_GUARDED_BY(mu_) = false;
  size_t releases_ ABSL_GUARDED_BY(mu_) = 0;  // Since the last collection.
  Mutex grave_mu_;
  std::vector<UnixMessage> grave_ ABSL_GUARDED_BY(grave_mu_);
  bool burying_ ABSL_GUARDED_BY(grave_mu_) = false;
  bool collect_after_burial_ ABSL_GUARDED_BY(grave_mu_) = false;
};

class UnixNamespace : public RefCounted<UnixNamespace> {
 public:
  // `flight` is the kernel's.
  explicit UnixNamespace(RefPtr<UnixFlight> flight) : flight_(std::move(flight)) {}
  virtual ~UnixNamespace() = default;
  UnixFlight& flight() { return *flight_; }

  // net.core.somaxconn and net.unix.max_dgram_qlen. Relaxed: limits.
  std::atomic<uint32_t> max_backlog{4096};
  std::atomic<uint32_t> max_datagram_queue{kMaxDatagramQueue};

  // /proc/net/unix.
  std::string Snapshot() ABSL_LOCKS_EXCLUDED(mu_);

  // --- For endpoints. ---
  void Register(Endpoint& endpoint);
  void Unregister(Endpoint& endpoint);
  // Abstract names (without the leading 0 byte) belong to a type of socket, as on Linux. False if
  // taken.
  bool BindAbstract(Endpoint& endpoint, absl::string_view name);
  void UnbindAbstract(Endpoint& endpoint, absl::string_view name);
  RefPtr<Endpoint> FindAbstract(int type, absl::string_view name);
  // A free five-digit name, bound. Empty if there is none (ENOSPC).
  std::string Autobind(Endpoint& endpoint);

 private:
  using Name = std::pair<int, std::string>;
  const RefPtr<UnixFlight> flight_;
  Mutex mu_;  // Before endpoints' locks.
  // Weak: endpoints leave in Release() and their destructor.
  absl::flat_hash_map<Name, Endpoint*> names_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<Endpoint*> endpoints_ ABSL_GUARDED_BY(mu_);
  uint32_t next_autobind_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace caisson::netstack

#endif  // CAISSON_NETSTACK_UNIX_NAMESPACE_H_
