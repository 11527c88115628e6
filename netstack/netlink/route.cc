#include "netstack/netlink/route.h"

#include <algorithm>
#include <cstring>

#include "auth/credentials.h"
#include "netstack/socket_options.h"

namespace caisson::netstack {
namespace {

struct Header {
  uint32_t length;
  uint16_t type;
  uint16_t flags;
  uint32_t sequence;
  uint32_t port;
};
struct InterfaceMessage {
  uint8_t family, pad;
  uint16_t type;
  int32_t index;
  uint32_t flags, change;
};
struct AddressMessage {
  uint8_t family, prefix, flags, scope;
  uint32_t index;
};
static_assert(sizeof(Header) == 16 && sizeof(InterfaceMessage) == 16 &&
              sizeof(AddressMessage) == 8);

constexpr uint16_t kNoop = 1, kError = 2, kDone = 3, kNewLink = 16, kGetLink = 18, kNewAddr = 20,
                   kGetAddr = 22, kGetRoute = 26, kGetNeigh = 30, kGetRule = 34, kFirstRoute = 16;
constexpr uint16_t kRequest = 1, kMulti = 2, kAck = 4, kDump = 0x300;
constexpr uint16_t kIflaAddress = 1, kIflaBroadcast = 2, kIflaIfname = 3, kIflaMtu = 4,
                   kIflaQdisc = 6, kIflaTxqlen = 13, kIflaOperstate = 16, kIflaLinkmode = 17,
                   kIflaStats64 = 23, kIflaGroup = 27, kIflaCarrier = 33, kIfaAddress = 1,
                   kIfaLocal = 2, kIfaLabel = 3, kIfaFlags = 8;
constexpr uint32_t kPermanent = 0x80;  // IFA_F_PERMANENT.
constexpr size_t kStats64Bytes = 24 * 8;
constexpr size_t kDatagram = 8192;  // Of a dump, at most.

size_t Align(size_t n) { return (n + 3) & ~size_t{3}; }

template <typename T>
absl::string_view Raw(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// One message under construction.
class Message {
 public:
  Message(uint16_t type, uint16_t flags, const Header& request, uint32_t port)
      : header_{0, type, flags, request.sequence, port}, text_(sizeof(Header), '\0') {}
  void Append(absl::string_view bytes) {
    text_.append(bytes.data(), bytes.size());
    text_.resize(Align(text_.size()));
  }
  void Attribute(uint16_t type, absl::string_view value) {
    uint16_t head[2] = {static_cast<uint16_t>(sizeof(head) + value.size()), type};
    text_.append(reinterpret_cast<const char*>(head), sizeof(head));
    Append(value);
  }
  std::string Finish() {
    header_.length = static_cast<uint32_t>(text_.size());
    memcpy(text_.data(), &header_, sizeof(header_));
    return std::move(text_);
  }

 private:
  Header header_;
  std::string text_;
};

std::string ErrorMessage(const Header& request, absl::string_view original, int error,
                         uint32_t port) {
  Message m(kError, 0, request, port);
  int32_t code = -error;
  std::string body(Raw(code));
  // An acknowledgement carries the header alone.
  body.append(original.data(), error != 0 ? original.size() : sizeof(Header));
  m.Append(body);
  return m.Finish();
}

std::string LinkMessage(const InterfaceInfo& i, const Header& request, uint16_t flags,
                        uint32_t port) {
  constexpr uint32_t kUp = 1, kLoopback = 8;
  Message m(kNewLink, flags, request, port);
  m.Append(Raw(InterfaceMessage{kAfUnspec, 0, i.type, i.index, i.flags, 0}));
  m.Attribute(kIflaIfname, absl::string_view(i.name.c_str(), i.name.size() + 1));
  m.Attribute(kIflaTxqlen, Raw(uint32_t{1000}));
  // IF_OPER_UNKNOWN for lo, else UP or DOWN.
  uint8_t state = (i.flags & kLoopback) != 0 ? 0 : (i.flags & kUp) != 0 ? 6 : 2;
  m.Attribute(kIflaOperstate, Raw(state));
  m.Attribute(kIflaLinkmode, Raw(uint8_t{0}));
  m.Attribute(kIflaMtu, Raw(i.mtu));
  m.Attribute(kIflaGroup, Raw(uint32_t{0}));
  m.Attribute(kIflaCarrier, Raw(uint8_t{1}));
  m.Attribute(kIflaQdisc, absl::string_view("noqueue", 8));
  m.Attribute(kIflaAddress, i.hardware_address);
  m.Attribute(kIflaBroadcast, i.hardware_broadcast);
  m.Attribute(kIflaStats64, std::string(kStats64Bytes, '\0'));
  return m.Finish();
}

std::string AddrMessage(const InterfaceInfo& i, const InterfaceInfo::Address& a,
                        const Header& request, uint32_t port) {
  Message m(kNewAddr, kMulti, request, port);
  m.Append(Raw(AddressMessage{a.family, a.prefix, static_cast<uint8_t>(kPermanent), a.scope,
                              static_cast<uint32_t>(i.index)}));
  m.Attribute(kIfaAddress, a.bytes);
  if (a.family == kAfInet) {
    m.Attribute(kIfaLocal, a.bytes);
    m.Attribute(kIfaLabel, absl::string_view(i.name.c_str(), i.name.size() + 1));
  }
  m.Attribute(kIfaFlags, Raw(kPermanent));
  return m.Finish();
}

// RTM_GETLINK for one interface, by index or name. Null if there is none.
const InterfaceInfo* FindLink(const std::vector<InterfaceInfo>& all, absl::string_view body) {
  InterfaceMessage wanted;
  if (body.size() < sizeof(wanted)) return nullptr;
  memcpy(&wanted, body.data(), sizeof(wanted));
  std::string name;
  body.remove_prefix(sizeof(wanted));
  while (body.size() >= 4) {
    uint16_t head[2];
    memcpy(head, body.data(), sizeof(head));
    if (head[0] < sizeof(head) || head[0] > body.size()) break;
    if (head[1] == kIflaIfname) {
      absl::string_view value = body.substr(sizeof(head), head[0] - sizeof(head));
      name = std::string(value.substr(0, value.find('\0')));
    }
    body.remove_prefix(std::min(Align(head[0]), body.size()));
  }
  for (const InterfaceInfo& i : all) {
    if (wanted.index > 0 ? i.index == wanted.index : i.name == name) return &i;
  }
  return nullptr;
}

class Answer {
 public:
  Answer(vfs::CallContext& ctx, const RouteSource& source, uint32_t port)
      : ctx_(ctx), all_(source.Interfaces()), port_(port) {}

  void Handle(const Header& h, absl::string_view whole) {
    absl::string_view body = whole.substr(sizeof(Header));
    if ((h.flags & kRequest) == 0 || h.type < kFirstRoute) {
      if ((h.flags & kAck) != 0) out_.push_back(ErrorMessage(h, whole, 0, port_));
      return;
    }
    int error = 0;
    // Every fourth is a question (RTM_GET*), the others change something.
    bool question = (h.type - kFirstRoute) % 4 == 2;
    if (!question) {
      bool allowed = ctx_.creds().HasCapability(auth::Capability::kNetAdmin);
      error = static_cast<int>(allowed ? Errno::kEOPNOTSUPP : Errno::kEPERM);
    } else if ((h.flags & kDump) == kDump || h.type != kGetLink) {
      if ((h.flags & kDump) == 0) {
        error = static_cast<int>(Errno::kEOPNOTSUPP);
      } else if (Dump(h, body)) {
        return;  // NLMSG_DONE is the acknowledgement.
      } else {
        error = static_cast<int>(Errno::kEOPNOTSUPP);
      }
    } else if (const InterfaceInfo* link = FindLink(all_, body)) {
      out_.push_back(LinkMessage(*link, h, 0, port_));
    } else {
      error = static_cast<int>(Errno::kENODEV);
    }
    if (error != 0 || (h.flags & kAck) != 0) out_.push_back(ErrorMessage(h, whole, error, port_));
  }
  std::vector<std::string> Take() { return std::move(out_); }

 private:
  bool Dump(const Header& h, absl::string_view body) {
    uint8_t family = body.empty() ? uint8_t{kAfUnspec} : static_cast<uint8_t>(body[0]);
    std::vector<std::string> messages;
    switch (h.type) {
      case kGetLink:
        for (const InterfaceInfo& i : all_) messages.push_back(LinkMessage(i, h, kMulti, port_));
        break;
      case kGetAddr:
        for (const InterfaceInfo& i : all_) {
          for (const InterfaceInfo::Address& a : i.addresses) {
            if (family == kAfUnspec || family == a.family)
              messages.push_back(AddrMessage(i, a, h, port_));
          }
        }
        break;
      case kGetRoute:  // There are none without a network.
      case kGetNeigh:
      case kGetRule:
        break;
      default:
        return false;
    }
    std::string datagram;
    for (std::string& m : messages) {
      if (!datagram.empty() && datagram.size() + m.size() > kDatagram)
        out_.push_back(std::exchange(datagram, ""));
      datagram += m;
    }
    if (!datagram.empty()) out_.push_back(std::move(datagram));
    Message done(kDone, kMulti, h, port_);
    done.Append(Raw(int32_t{0}));
    out_.push_back(done.Finish());
    return true;
  }

  vfs::CallContext& ctx_;
  const std::vector<InterfaceInfo> all_;
  const uint32_t port_;
  std::vector<std::string> out_;
};

}  // namespace

std::vector<InterfaceInfo> LoopbackOnly::Interfaces() const {
  constexpr uint32_t kUpLoopbackRunningLowerUp = 0x10049;
  InterfaceInfo lo;
  lo.index = 1;
  lo.name = "lo";
  lo.type = 772;
  lo.flags = kUpLoopbackRunningLowerUp;
  lo.mtu = 65536;
  lo.hardware_address = lo.hardware_broadcast = std::string(6, '\0');
  constexpr uint8_t kScopeHost = 254;
  lo.addresses.push_back({kAfInet, std::string("\x7f\0\0\x01", 4), 8, kScopeHost});
  lo.addresses.push_back({kAfInet6, std::string(15, '\0') + '\1', 128, kScopeHost});
  return {lo};
}

std::vector<std::string> AnswerRoute(vfs::CallContext& ctx, const RouteSource& source,
                                     absl::string_view request, uint32_t port) {
  Answer answer(ctx, source, port);
  while (request.size() >= sizeof(Header)) {
    Header h;
    memcpy(&h, request.data(), sizeof(h));
    if (h.length < sizeof(Header) || h.length > request.size()) break;
    if (h.type != kNoop) answer.Handle(h, request.substr(0, h.length));
    request.remove_prefix(std::min(Align(h.length), request.size()));
  }
  return answer.Take();
}

}  // namespace caisson::netstack
