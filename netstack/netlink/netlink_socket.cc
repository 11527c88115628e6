#include "netstack/netlink/netlink_socket.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace caisson::netstack {
namespace {

constexpr size_t kAddressBytes = 12;
constexpr int kSolNetlink = 270, kAddMembership = 1, kDropMembership = 2, kListMemberships = 9,
              kLastFlag = 12;
constexpr size_t kMaxRequest = 32 << 10;

struct SocketAddress {
  uint16_t family = kAfNetlink, pad = 0;
  uint32_t port = 0, groups = 0;
  std::string Bytes() const {
    return std::string(reinterpret_cast<const char*>(this), sizeof(*this));
  }
};
static_assert(sizeof(SocketAddress) == kAddressBytes);

Result<SocketAddress> Parse(absl::string_view address) {
  SocketAddress a;
  if (address.size() < sizeof(a)) return Errno::kEINVAL;
  memcpy(static_cast<void*>(&a), address.data(), sizeof(a));
  if (a.family != kAfNetlink) return Errno::kEINVAL;
  return a;
}

}  // namespace

bool NetlinkNamespace::TakePort(uint32_t port) {
  MutexLock lock(mu_);
  return ports_.insert(port).second;
}

uint32_t NetlinkNamespace::TakeAnyPort(int32_t tgid) {
  MutexLock lock(mu_);
  uint32_t port = static_cast<uint32_t>(tgid);
  // netlink_autobind(): then some from the top, which no tgid has.
  while (port == 0 || !ports_.insert(port).second) port = next_--;
  return port;
}

void NetlinkNamespace::FreePort(uint32_t port) {
  MutexLock lock(mu_);
  ports_.erase(port);
}

NetlinkSocket::NetlinkSocket(RefPtr<NetlinkNamespace> ns, RefPtr<SocketInode> inode, int type,
                             uint32_t flags)
    : Socket(vfs::FileKind::kSocket, vfs::VfsPath(), inode,
             (flags & vfs::kOpenNonblock) | vfs::kOpenReadWrite),
      ns_(std::move(ns)),
      socket_inode_(std::move(inode)),
      type_(type) {}

NetlinkSocket::~NetlinkSocket() {
  if (port_ != 0) ns_->FreePort(port_);
}

uint32_t NetlinkSocket::Port(vfs::CallContext& ctx) {
  MutexLock lock(mu_);
  if (port_ == 0) port_ = ns_->TakeAnyPort(ctx.tgid());
  return port_;
}

// netlink_bind().
Result<void> NetlinkSocket::Bind(vfs::CallContext& ctx, absl::string_view address) {
  SocketAddress a = TRY(Parse(address));
  {
    MutexLock lock(mu_);
    if (port_ != 0 && a.port != 0 && a.port != port_) return Errno::kEINVAL;
    if (port_ == 0 && a.port != 0) {
      if (!ns_->TakePort(a.port)) return Errno::kEADDRINUSE;
      port_ = a.port;
    }
    groups_ = a.groups;
  }
  Port(ctx);
  return {};
}

// The kernel is the only one to talk to.
Result<void> NetlinkSocket::Connect(vfs::CallContext& ctx, absl::string_view address) {
  if (address.size() >= 2 && address[0] == kAfUnspec && address[1] == 0) return {};
  SocketAddress a = TRY(Parse(address));
  if (a.port != 0 || a.groups != 0) return Errno::kEPERM;
  Port(ctx);
  return {};
}

Result<size_t> NetlinkSocket::Send(vfs::CallContext& ctx, IoBuffer& from, int flags,
                                   absl::string_view to, vfs::ControlData) {
  if ((flags & vfs::kMsgOob) != 0) return Errno::kEOPNOTSUPP;
  if (!to.empty()) {
    SocketAddress a = TRY(Parse(to));
    if (a.groups != 0) return Errno::kEPERM;
    if (a.port != 0) return Errno::kECONNREFUSED;
  }
  uint32_t port = Port(ctx);
  if (from.remaining() > kMaxRequest) return Errno::kEMSGSIZE;
  std::string request(from.remaining(), '\0');
  size_t taken = TRY(from.Take(absl::MakeSpan(request)));
  if (taken != request.size()) return Errno::kEFAULT;
  std::vector<std::string> answers = AnswerRoute(ctx, ns_->source(), request, port);
  {
    MutexLock lock(mu_);
    for (std::string& a : answers) {
      if (queued_ >= options_.receive_buffer()) {
        overrun_ = true;
        break;
      }
      queued_ += a.size();
      answers_.push_back(std::move(a));
    }
  }
  queue_.Notify(kReadable);
  return taken;
}

Result<vfs::ReceiveResult> NetlinkSocket::Receive(vfs::CallContext&, IoBuffer& to, int flags,
                                                  bool) {
  if ((flags & vfs::kMsgOob) != 0) return Errno::kEOPNOTSUPP;
  std::string message;
  {
    MutexLock lock(mu_);
    if (answers_.empty()) {
      if (std::exchange(overrun_, false)) return Errno::kENOBUFS;
      return Errno::kEAGAIN;
    }
    if ((flags & vfs::kMsgPeek) != 0) {
      message = answers_.front();
    } else {
      message = std::move(answers_.front());
      answers_.pop_front();
      queued_ -= message.size();
    }
  }
  vfs::ReceiveResult result;
  size_t n = std::min(message.size(), to.remaining());
  if (n != 0) {
    size_t put = TRY(to.Put({message.data(), n}));
    if (put != n) return Errno::kEFAULT;
  }
  if (n < message.size()) result.flags |= vfs::kMsgTrunc;
  result.bytes = (flags & vfs::kMsgTrunc) != 0 ? message.size() : n;
  result.address = SocketAddress().Bytes();
  return result;
}

Result<std::string> NetlinkSocket::LocalAddress(vfs::CallContext&) {
  SocketAddress a;
  MutexLock lock(mu_);
  a.port = port_;
  a.groups = groups_;
  return a.Bytes();
}

Result<std::string> NetlinkSocket::PeerAddress(vfs::CallContext&) {
  return SocketAddress().Bytes();
}

Result<std::string> NetlinkSocket::GetOption(vfs::CallContext&, int level, int name,
                                             size_t max_length) {
  std::string value;
  if (level == kSolNetlink) {
    MutexLock lock(mu_);
    if (name == kListMemberships) {
      value = IntOption(static_cast<int32_t>(groups_));
    } else if (name > kDropMembership && name <= kLastFlag) {
      value = IntOption((flags_ >> name) & 1);
    } else {
      return Errno::kENOPROTOOPT;
    }
  } else if (level == kSolSocket) {
    switch (name) {
      case kSoType: value = IntOption(type_); break;
      case kSoDomain: value = IntOption(kAfNetlink); break;
      case kSoProtocol: value = IntOption(0); break;
      case kSoError: value = IntOption(0); break;
      case kSoAcceptconn: value = IntOption(0); break;
      default: {
        std::optional<Result<std::string>> common = options_.Get(name);
        if (!common) return Errno::kENOPROTOOPT;
        value = TRY(*std::move(common));
      }
    }
  } else {
    return Errno::kENOPROTOOPT;
  }
  if (value.size() > max_length) value.resize(max_length);
  return value;
}

Result<void> NetlinkSocket::SetOption(vfs::CallContext& ctx, int level, int name,
                                      absl::string_view value) {
  if (level == kSolSocket) {
    std::optional<Result<void>> common = options_.Set(ctx, name, value);
    if (!common) return Errno::kENOPROTOOPT;
    return *common;
  }
  if (level != kSolNetlink) return Errno::kENOPROTOOPT;
  int32_t number = TRY(ParseIntOption(value));
  MutexLock lock(mu_);
  if (name == kAddMembership || name == kDropMembership) {
    // Groups past 32 exist, but nothing is ever told to any.
    if (number < 1 || number > 64) return Errno::kEINVAL;
    uint32_t bit = number <= 32 ? 1u << (number - 1) : 0;
    groups_ = name == kAddMembership ? groups_ | bit : groups_ & ~bit;
    return {};
  }
  if (name < 0 || name > kLastFlag || name == kListMemberships) return Errno::kENOPROTOOPT;
  flags_ = (flags_ & ~(1u << name)) | (uint32_t{number != 0} << name);
  return {};
}

Result<size_t> NetlinkSocket::Read(vfs::CallContext& ctx, IoBuffer& to, uint32_t) {
  vfs::ReceiveResult result = TRY(Receive(ctx, to, 0, false));
  return result.bytes;
}

Result<size_t> NetlinkSocket::Write(vfs::CallContext& ctx, IoBuffer& from, uint32_t) {
  return Send(ctx, from, 0, "", {});
}

EventMask NetlinkSocket::Readiness(EventMask mask) {
  MutexLock lock(mu_);
  EventMask events = kWritable;
  if (!answers_.empty()) events |= kReadable;
  if (overrun_) events |= kEventErr;
  return events & (mask | kEventErr);
}

Result<RefPtr<vfs::Socket>> NewNetlinkSocket(vfs::CallContext& ctx, RefPtr<NetlinkNamespace> ns,
                                             SocketFileSystem& fs, int type, int protocol,
                                             uint32_t flags) {
  if (type != kSockRaw && type != kSockDgram) return Errno::kESOCKTNOSUPPORT;
  if (protocol != 0) return Errno::kEPROTONOSUPPORT;
  return RefPtr<vfs::Socket>(
      MakeRef<NetlinkSocket>(std::move(ns), fs.NewInode(ctx), type, flags));
}

}  // namespace caisson::netstack
