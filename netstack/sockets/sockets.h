// socket(2) and socketpair(2) by address family.
#ifndef CAISSON_NETSTACK_SOCKETS_SOCKETS_H_
#define CAISSON_NETSTACK_SOCKETS_SOCKETS_H_

#include <atomic>
#include <memory>
#include <utility>

#include "netstack/netlink/netlink_socket.h"
#include "netstack/netlink/route.h"
#include "netstack/socket_inode.h"
#include "netstack/unix/namespace.h"
#include "vfs/socket.h"

namespace caisson::netstack {

// What belongs to one network namespace (network_namespaces(7)). Immutable once made.
class NetNamespace : public RefCounted<NetNamespace> {
 public:
  // `flight` and `fs` are the kernel's.
  NetNamespace(RefPtr<UnixFlight> flight, RefPtr<SocketFileSystem> fs, uint64_t inode_number)
      : flight_(flight), unix_(MakeRef<UnixNamespace>(flight)),
        netlink_(MakeRef<NetlinkNamespace>(std::make_unique<LoopbackOnly>())), fs_(std::move(fs)), inode_number_(inode_number) {}
  const RefPtr<UnixFlight>& flight() const { return flight_; }
  const RefPtr<UnixNamespace>& unix_sockets() const { return unix_; }
  const RefPtr<NetlinkNamespace>& netlink() const { return netlink_; }
  const RefPtr<SocketFileSystem>& fs() const { return fs_; }
  uint64_t inode_number() const { return inode_number_; }
  // net.ipv4.* that belong to the namespace; what opens INET sockets asks for them. Relaxed.
  std::atomic<uint32_t> unprivileged_port_start{1024};
  std::atomic<uint64_t> ping_group_range{uint64_t{1} << 32};   // First group << 32 | last group: none.
  std::atomic<uint64_t> local_port_range{uint64_t{32768} << 32 | 60999};

 private:
  const RefPtr<UnixFlight> flight_;
  const RefPtr<UnixNamespace> unix_;
  const RefPtr<NetlinkNamespace> netlink_;
  const RefPtr<SocketFileSystem> fs_;
  const uint64_t inode_number_;
};

// `type` is SOCK_STREAM and so on without flags; `flags` are O_NONBLOCK or 0.
// Errors: EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EINVAL.
Result<RefPtr<vfs::Socket>> NewSocket(vfs::CallContext& ctx, NetNamespace& ns, int domain,
                                      int type, int protocol, uint32_t flags);
// Errors: as above; EOPNOTSUPP for a family without pairs.
Result<std::pair<RefPtr<vfs::Socket>, RefPtr<vfs::Socket>>> NewSocketPair(
    vfs::CallContext& ctx, NetNamespace& ns, int domain, int type, int protocol,
    uint32_t flags);

}  // namespace caisson::netstack

#endif  // CAISSON_NETSTACK_SOCKETS_SOCKETS_H_
