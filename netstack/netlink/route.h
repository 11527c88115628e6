// NETLINK_ROUTE (rtnetlink(7)): questions about interfaces, and their answers.
#ifndef CAISSON_NETSTACK_NETLINK_ROUTE_H_
#define CAISSON_NETSTACK_NETLINK_ROUTE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "vfs/call_context.h"

namespace caisson::netstack {

struct InterfaceInfo {
  struct Address {
    uint8_t family;     // AF_INET, AF_INET6.
    std::string bytes;  // 4 or 16, network order.
    uint8_t prefix;
    uint8_t scope;      // RT_SCOPE_*.
  };
  int32_t index = 0;
  std::string name;
  uint16_t type = 0;   // ARPHRD_*.
  uint32_t flags = 0;  // IFF_*.
  uint32_t mtu = 0;
  std::string hardware_address, hardware_broadcast;
  std::vector<Address> addresses;
};

// What a network namespace has. Implementations are thread-safe.
class RouteSource {
 public:
  virtual ~RouteSource() = default;
  virtual std::vector<InterfaceInfo> Interfaces() const = 0;
};

// Nothing but "lo", up, with 127.0.0.1/8 and ::1/128.
class LoopbackOnly final : public RouteSource {
 public:
  std::vector<InterfaceInfo> Interfaces() const override;
};

// Answers one datagram of requests: datagrams for the receiver, whose port is `port`. Changes are
// refused: EPERM without CAP_NET_ADMIN, else EOPNOTSUPP, in an NLMSG_ERROR.
std::vector<std::string> AnswerRoute(vfs::CallContext& ctx, const RouteSource& source,
                                     absl::string_view request, uint32_t port);

}  // namespace caisson::netstack

#endif  // CAISSON_NETSTACK_NETLINK_ROUTE_H_
