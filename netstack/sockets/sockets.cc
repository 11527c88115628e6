#include "netstack/sockets/sockets.h"

#include "netstack/unix/unix_socket.h"

namespace caisson::netstack {
namespace {

constexpr int kSockMax = 11;

bool IsSocketType(int type) { return type >= 0 && type < kSockMax; }

}  // namespace

Result<RefPtr<vfs::Socket>> NewSocket(vfs::CallContext& ctx, NetNamespace& ns, int domain,
                                      int type, int protocol, uint32_t flags) {
  if (!IsSocketType(type)) return Errno::kEINVAL;
  if (domain == kAfUnix) return NewUnixSocket(ctx, ns.unix_sockets(), ns.fs(), type, protocol, flags);
  if (domain == kAfNetlink) return NewNetlinkSocket(ctx, ns.netlink(), *ns.fs(), type, protocol, flags);
  return Errno::kEAFNOSUPPORT;  // As a kernel without that family.
}

Result<std::pair<RefPtr<vfs::Socket>, RefPtr<vfs::Socket>>> NewSocketPair(
    vfs::CallContext& ctx, NetNamespace& ns, int domain, int type, int protocol,
    uint32_t flags) {
  if (!IsSocketType(type)) return Errno::kEINVAL;
  if (domain == kAfNetlink) return Errno::kEOPNOTSUPP;
  if (domain == kAfUnix) return NewUnixPair(ctx, ns.unix_sockets(), ns.fs(), type, protocol, flags);
  return Errno::kEAFNOSUPPORT;  // As a kernel without that family.
}

}  // namespace caisson::netstack
