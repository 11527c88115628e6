// AF_NETLINK sockets (netlink(7)).
#ifndef CAISSON_NETSTACK_NETLINK_NETLINK_SOCKET_H_
#define CAISSON_NETSTACK_NETLINK_NETLINK_SOCKET_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"
#include "netstack/netlink/route.h"
#include "netstack/socket_inode.h"
#include "netstack/socket_options.h"
#include "vfs/socket.h"

namespace caisson::netstack {

// The ports of one network namespace, and what its sockets answer from. Thread-safe.
class NetlinkNamespace : public RefCounted<NetlinkNamespace> {
 public:
  explicit NetlinkNamespace(std::unique_ptr<RouteSource> source) : source_(std::move(source)) {}
  virtual ~NetlinkNamespace() = default;
  const RouteSource& source() const { return *source_; }
  bool TakePort(uint32_t port);       // False if in use.
  uint32_t TakeAnyPort(int32_t tgid);  // The caller's tgid if that is free.
  void FreePort(uint32_t port);

 private:
  const std::unique_ptr<RouteSource> source_;
  Mutex mu_;
  absl::flat_hash_set<uint32_t> ports_ ABSL_GUARDED_BY(mu_);
  uint32_t next_ ABSL_GUARDED_BY(mu_) = ~0u;
};

// A NETLINK_ROUTE socket: what it sends is answered at once into its own queue. It joins groups, on
// which nothing happens yet. Thread-safe.
class NetlinkSocket final : public vfs::Socket {
 public:
  NetlinkSocket(RefPtr<NetlinkNamespace> ns, RefPtr<SocketInode> inode, int type, uint32_t flags);
  ~NetlinkSocket() override;

  int domain() const override { return kAfNetlink; }
  int type() const override { return type_; }
  int protocol() const override { return 0; }
  Result<void> Bind(vfs::CallContext& ctx, absl::string_view address) override;
  Result<void> Connect(vfs::CallContext& ctx, absl::string_view address) override;
  Result<void> Listen(vfs::CallContext&, int) override { return Errno::kEOPNOTSUPP; }
  Result<RefPtr<vfs::Socket>> Accept(vfs::CallContext&, std::string*) override {
    return Errno::kEOPNOTSUPP;
  }
  Result<size_t> Send(vfs::CallContext& ctx, IoBuffer& from, int flags, absl::string_view to,
                      vfs::ControlData control) override;
  Result<vfs::ReceiveResult> Receive(vfs::CallContext& ctx, IoBuffer& to, int flags,
                                     bool want_control) override;
  Result<void> Shutdown(vfs::CallContext&, int) override { return Errno::kEOPNOTSUPP; }
  Result<std::string> LocalAddress(vfs::CallContext& ctx) override;
  Result<std::string> PeerAddress(vfs::CallContext& ctx) override;
  Result<std::string> GetOption(vfs::CallContext& ctx, int level, int name,
                                size_t max_length) override;
  Result<void> SetOption(vfs::CallContext& ctx, int level, int name,
                         absl::string_view value) override;
  int64_t receive_timeout() const override { return options_.receive_timeout(); }
  int64_t send_timeout() const override { return options_.send_timeout(); }
  Result<size_t> Read(vfs::CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  Result<size_t> Write(vfs::CallContext& ctx, IoBuffer& from, uint32_t rwf) override;
  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override { return &queue_; }
  std::string Describe() const override { return socket_inode_->Describe(); }

 private:
  uint32_t Port(vfs::CallContext& ctx) ABSL_LOCKS_EXCLUDED(mu_);

  const RefPtr<NetlinkNamespace> ns_;
  const RefPtr<SocketInode> socket_inode_;
  const int type_;
  SocketOptions options_;
  mutable Mutex mu_;
  uint32_t port_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t groups_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t flags_ ABSL_GUARDED_BY(mu_) = 0;  // SOL_NETLINK options, bit n for option n.
  std::deque<std::string> answers_ ABSL_GUARDED_BY(mu_);
  size_t queued_ ABSL_GUARDED_BY(mu_) = 0;
  bool overrun_ ABSL_GUARDED_BY(mu_) = false;  // ENOBUFS is due.
  WaitQueue queue_;
};

// socket(2). Errors: ESOCKTNOSUPPORT, EPROTONOSUPPORT (all but NETLINK_ROUTE).
Result<RefPtr<vfs::Socket>> NewNetlinkSocket(vfs::CallContext& ctx, RefPtr<NetlinkNamespace> ns,
                                             SocketFileSystem& fs, int type, int protocol,
                                             uint32_t flags);

}  // namespace caisson::netstack

#endif  // CAISSON_NETSTACK_NETLINK_NETLINK_SOCKET_H_
