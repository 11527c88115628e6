#include "netstack/unix/unix_socket.h"

#include <cstring>

#include "auth/credentials.h"
#include "vfs/operations.h"

namespace caisson::netstack {
namespace {

constexpr uint32_t kFionread = 0x541b, kSiocoutq = 0x5411;

// What an inode keeps of a socket that is bound there: never the file itself, which must end when
// its last descriptor is closed.
class BoundEndpoint final : public vfs::FileDescription {
 public:
  explicit BoundEndpoint(RefPtr<Endpoint> e)
      : FileDescription(vfs::FileKind::kOther, vfs::VfsPath(), nullptr, 0), end(std::move(e)) {}
  Result<vfs::Attributes> GetAttributes(vfs::CallContext&) override { return Errno::kEBADF; }
  const RefPtr<Endpoint> end;
};

}  // namespace

std::string UnixAddressOf(absl::string_view path) {
  std::string address("\1\0", kUnixPathOffset);
  address.append(path.data(), path.size());
  return address;
}

bool IsAbstract(absl::string_view address) {
  return address.size() > kUnixPathOffset && address[kUnixPathOffset] == '\0';
}

Result<std::string> NormalizeUnixAddress(absl::string_view address) {
  if (address.size() <= kUnixPathOffset || address.size() > kUnixPathOffset + kUnixPathMax)
    return Errno::kEINVAL;
  if (address[0] != kAfUnix || address[1] != 0) return Errno::kEINVAL;
  if (IsAbstract(address)) return std::string(address);
  // unix_mkname_bsd(): the name ends at its 0 byte, which is added where it is missing.
  absl::string_view path = address.substr(kUnixPathOffset);
  path = path.substr(0, path.find('\0'));
  std::string out = UnixAddressOf(path);
  out.push_back('\0');
  return out;
}

std::shared_ptr<const PeerCredentials> CredentialsOf(vfs::CallContext& ctx) {
  auto creds = std::make_shared<PeerCredentials>();
  creds->process = ctx.process_id();
  creds->uid = ctx.creds().euid;
  creds->gid = ctx.creds().egid;
  creds->groups = ctx.creds().groups;
  return creds;
}

UnixSocket::UnixSocket(RefPtr<Endpoint> endpoint, RefPtr<SocketInode> inode,
                       RefPtr<SocketFileSystem> fs, uint32_t flags)
    : Socket(vfs::FileKind::kSocket, vfs::VfsPath(), inode,
             (flags & vfs::kOpenNonblock) | vfs::kOpenReadWrite),
      end_(std::move(endpoint)),
      fs_(std::move(fs)),
      socket_inode_(std::move(inode)) {
  end_->set_ino(socket_inode_->ino());
  MutexLock lock(end_->ns().flight().mutex());
  end_->file = this;
}

UnixSocket::~UnixSocket() {
  {
    MutexLock lock(end_->ns().flight().mutex());
    end_->file = nullptr;
  }
  end_->Release(/*embryo=*/false);
}

std::string UnixSocket::Describe() const { return socket_inode_->Describe(); }

Result<void> UnixSocket::Autobind() {
  {
    MutexLock lock(end_->mu_);
    if (!end_->address.empty()) return {};
  }
  std::string name = end_->ns().Autobind(*end_);
  if (name.empty()) return Errno::kENOSPC;
  {
    MutexLock lock(end_->mu_);
    if (end_->address.empty()) {
      end_->address = UnixAddressOf(std::string(1, '\0') + name);
      return {};
    }
  }
  end_->ns().UnbindAbstract(*end_, name);  // Another thread was faster.
  return {};
}

// unix_bind().
Result<void> UnixSocket::Bind(vfs::CallContext& ctx, absl::string_view address) {
  if (address.size() == kUnixPathOffset && address[0] == kAfUnix && address[1] == 0)
    return Autobind();
  std::string name = TRY(NormalizeUnixAddress(address));
  {
    MutexLock lock(end_->mu_);
    if (!end_->address.empty()) return Errno::kEINVAL;
  }
  if (!IsAbstract(name))
    return BindPath(ctx, name.substr(kUnixPathOffset, name.size() - kUnixPathOffset - 1));
  absl::string_view key = absl::string_view(name).substr(kUnixPathOffset + 1);
  if (!end_->ns().BindAbstract(*end_, key)) return Errno::kEADDRINUSE;
  {
    MutexLock lock(end_->mu_);
    if (end_->address.empty()) {
      end_->address = std::move(name);
      return {};
    }
  }
  end_->ns().UnbindAbstract(*end_, key);
  return Errno::kEINVAL;
}

Result<void> UnixSocket::BindPath(vfs::CallContext& ctx, std::string path) {
  vfs::FileMode permissions = 0777;
  {
    vfs::Attributes attr = TRY(socket_inode_->GetAttributes(ctx));
    permissions = attr.mode & vfs::kModePermissions;
  }
  vfs::VfsPath place =
      TRY(vfs::BindSocket(ctx, path, vfs::kModeSocket | (permissions & ~ctx.umask()),
                          MakeRef<BoundEndpoint>(end_)));
  std::string address = UnixAddressOf(path);
  address.push_back('\0');
  MutexLock lock(end_->mu_);
  // Linux differs: bound twice at once, the loser leaves a node behind.
  if (!end_->address.empty()) return Errno::kEINVAL;
  end_->address = std::move(address);
  end_->place = std::move(place);
  return {};
}

// unix_find_other().
Result<RefPtr<Endpoint>> UnixSocket::Find(vfs::CallContext& ctx, absl::string_view address) {
  std::string name = TRY(NormalizeUnixAddress(address));
  RefPtr<Endpoint> found;
  if (IsAbstract(name)) {
    found = end_->ns().FindAbstract(end_->type(),
                                    absl::string_view(name).substr(kUnixPathOffset + 1));
    if (!found) return Errno::kECONNREFUSED;
    return found;
  }
  absl::string_view path(name.data() + kUnixPathOffset, name.size() - kUnixPathOffset - 1);
  vfs::VfsPath place = TRY(vfs::Walk(ctx, ctx.cwd(), path, vfs::WalkOptions()));
  RefPtr<vfs::Inode> inode = place.dentry->inode();
  if (!inode) return Errno::kENOENT;
  TRY(inode->CheckPermission(ctx, vfs::kMayWrite));
  if (inode->type() != vfs::kModeSocket) return Errno::kECONNREFUSED;
  RefPtr<vfs::FileDescription> bound = inode->bound_object();
  if (!bound || bound->kind() != vfs::FileKind::kOther) return Errno::kECONNREFUSED;
  found = static_cast<BoundEndpoint*>(bound.get())->end;
  {
    MutexLock lock(found->mu_);
    if (found->dead) return Errno::kECONNREFUSED;
  }
  if (found->type() != end_->type()) return Errno::kEPROTOTYPE;
  return found;
}

Result<void> UnixSocket::Shutdown(vfs::CallContext&, int how) {
  if (how < 0 || how > 2) return Errno::kEINVAL;
  int mask = how + 1;
  RefPtr<Endpoint> partner;
  {
    MutexLock lock(end_->mu_);
    end_->shutdown |= mask;
    if (end_->connection_based()) partner = end_->peer;
  }
  constexpr EventMask kChanged = kReadable | kWritable | kEventHup | kEventRdHup;
  end_->queue().Notify(kChanged);
  end_->WakeRoomWaiters();
  if (partner) {
    int others = ((mask & kShutReceive) != 0 ? kShutSend : 0) |
                 ((mask & kShutSend) != 0 ? kShutReceive : 0);
    {
      MutexLock lock(partner->mu_);
      partner->shutdown |= others;
    }
    partner->queue().Notify(kChanged);
  }
  return {};
}

Result<std::string> UnixSocket::LocalAddress(vfs::CallContext&) {
  MutexLock lock(end_->mu_);
  return end_->address.empty() ? UnixAddressOf("") : end_->address;
}

Result<std::string> UnixSocket::PeerAddress(vfs::CallContext&) {
  RefPtr<Endpoint> partner;
  {
    MutexLock lock(end_->mu_);
    partner = end_->peer;
  }
  if (!partner) return Errno::kENOTCONN;
  MutexLock lock(partner->mu_);
  return partner->address.empty() ? UnixAddressOf("") : partner->address;
}

Result<size_t> UnixSocket::Read(vfs::CallContext& ctx, IoBuffer& to, uint32_t rwf) {
  vfs::ReceiveResult result =
      TRY(Receive(ctx, to, (rwf & vfs::kRwfNowait) != 0 ? vfs::kMsgDontwait : 0, false));
  return result.bytes;
}

Result<size_t> UnixSocket::Write(vfs::CallContext& ctx, IoBuffer& from, uint32_t) {
  return Send(ctx, from, 0, "", {});
}

Result<int64_t> UnixSocket::Ioctl(vfs::CallContext& ctx, uint32_t request, uint64_t arg) {
  int32_t value = 0;
  switch (request) {
    case kFionread: {
      MutexLock lock(end_->mu_);
      if (end_->state == UnixState::kListening) return Errno::kEINVAL;
      size_t n = end_->queued_bytes;
      if (!end_->connection_based()) n = end_->messages.empty() ? 0 : end_->messages.front().length;
      value = static_cast<int32_t>(n);
      break;
    }
    case kSiocoutq:
      value = static_cast<int32_t>(end_->sent_bytes());
      break;
    default:
      return Errno::kENOTTY;
  }
  TRY(ctx.CopyOutObject(GuestAddr(arg), value));
  return int64_t{0};
}

EventMask UnixSocket::Readiness(EventMask mask) {
  return end_->Readiness() & (mask | kEventErr | kEventHup);
}

}  // namespace caisson::netstack
