// How AF_UNIX sockets come into being and find each other.
#include <errno.h>

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "netstack/unix/unix_socket.h"

namespace caisson::netstack {
namespace {

Result<int> CheckType(int type, int protocol) {
  if (protocol != 0 && protocol != kAfUnix) return Errno::kEPROTONOSUPPORT;
  switch (type) {
    case kSockStream:
    case kSockDgram:
    case kSockSeqpacket:
      return type;
    case kSockRaw:
      return kSockDgram;  // As Linux: "believe it or not BSD has AF_UNIX, SOCK_RAW".
    default:
      return Errno::kESOCKTNOSUPPORT;
  }
}

}  // namespace

Result<RefPtr<vfs::Socket>> NewUnixSocket(vfs::CallContext& ctx, RefPtr<UnixNamespace> ns,
                                          RefPtr<SocketFileSystem> fs, int type, int protocol,
                                          uint32_t flags) {
  int kind = TRY(CheckType(type, protocol));
  RefPtr<SocketInode> inode = fs->NewInode(ctx);
  auto end = MakeRef<Endpoint>(std::move(ns), kind, inode->ino());
  return RefPtr<vfs::Socket>(
      MakeRef<UnixSocket>(std::move(end), std::move(inode), std::move(fs), flags));
}

Result<std::pair<RefPtr<vfs::Socket>, RefPtr<vfs::Socket>>> NewUnixPair(
    vfs::CallContext& ctx, RefPtr<UnixNamespace> ns, RefPtr<SocketFileSystem> fs, int type,
    int protocol, uint32_t flags) {
  RefPtr<vfs::Socket> a = TRY(NewUnixSocket(ctx, ns, fs, type, protocol, flags));
  RefPtr<vfs::Socket> b = TRY(NewUnixSocket(ctx, ns, fs, type, protocol, flags));
  std::shared_ptr<const PeerCredentials> creds = CredentialsOf(ctx);
  auto join = [&creds](UnixSocket& one, UnixSocket& other) {
    MutexLock lock(one.endpoint()->mu_);
    one.endpoint()->state = UnixState::kConnected;
    one.endpoint()->peer = other.endpoint();
    one.endpoint()->peer_creds = creds;
  };
  join(static_cast<UnixSocket&>(*a), static_cast<UnixSocket&>(*b));
  join(static_cast<UnixSocket&>(*b), static_cast<UnixSocket&>(*a));
  return std::make_pair(std::move(a), std::move(b));
}

Result<void> UnixSocket::Listen(vfs::CallContext& ctx, int backlog) {
  if (!end_->connection_based()) return Errno::kEOPNOTSUPP;
  std::shared_ptr<const PeerCredentials> creds = CredentialsOf(ctx);
  {
    MutexLock lock(end_->mu_);
    if (end_->address.empty()) return Errno::kEINVAL;
    if (end_->state != UnixState::kClosed && end_->state != UnixState::kListening)
      return Errno::kEINVAL;
    end_->state = UnixState::kListening;
    end_->max_backlog = std::min(static_cast<uint32_t>(backlog), end_->ns().max_backlog.load(std::memory_order_relaxed));
    end_->own_creds = std::move(creds);
  }
  end_->WakeRoomWaiters();
  return {};
}

Result<void> UnixSocket::Connect(vfs::CallContext& ctx, absl::string_view address) {
  return end_->connection_based() ? ConnectStream(ctx, address) : ConnectDatagram(ctx, address);
}

// unix_stream_connect(). The states of both sides change one after the other; kConnecting keeps
// other calls away from ours meanwhile.
Result<void> UnixSocket::ConnectStream(vfs::CallContext& ctx, absl::string_view address) {
  TRY(NormalizeUnixAddress(address));
  if (end_->options().flag(kSoPasscred)) TRY(Autobind());
  // The name first, then the state (unix_stream_connect()).
  RefPtr<Endpoint> listener = TRY(Find(ctx, address));
  {
    MutexLock lock(end_->mu_);
    if (end_->state == UnixState::kConnected) return Errno::kEISCONN;
    if (end_->state == UnixState::kConnecting) return Errno::kEALREADY;
    if (end_->state != UnixState::kClosed) return Errno::kEINVAL;
    end_->state = UnixState::kConnecting;
  }
  absl::Cleanup undo = [this] {
    MutexLock lock(end_->mu_);
    end_->state = UnixState::kClosed;
  };
  auto embryo = MakeRef<Endpoint>(RefPtr<UnixNamespace>(&end_->ns()), end_->type(), uint64_t{0});
  {
    std::string name;
    {
      MutexLock lock(listener->mu_);
      name = listener->address;
    }
    MutexLock lock(embryo->mu_);
    embryo->state = UnixState::kConnected;
    embryo->peer = end_;
    embryo->address = std::move(name);
    embryo->peer_creds = CredentialsOf(ctx);
  }
  std::shared_ptr<const PeerCredentials> creds;
  {
    MutexLock lock(listener->mu_);
    if (listener->dead || listener->state != UnixState::kListening ||
        (listener->shutdown & kShutReceive) != 0)
      return Errno::kECONNREFUSED;
    if (listener->backlog.size() > listener->max_backlog) {
      listener->AddRoomWaiterLocked(*end_);
      return Errno::kEAGAIN;
    }
    listener->backlog.push_back(embryo);
    creds = listener->own_creds;
  }
  std::move(undo).Cancel();
  {
    MutexLock lock(end_->mu_);
    end_->state = UnixState::kConnected;
    end_->peer = embryo;
    end_->peer_creds = std::move(creds);
  }
  listener->queue().Notify(kReadable);
  end_->queue().Notify(kWritable);
  return {};
}

// unix_dgram_connect().
Result<void> UnixSocket::ConnectDatagram(vfs::CallContext& ctx, absl::string_view address) {
  if (address.size() < 2) return Errno::kEINVAL;
  RefPtr<Endpoint> target;
  if (address[0] != kAfUnspec || address[1] != 0) {
    TRY(NormalizeUnixAddress(address));
    if (end_->options().flag(kSoPasscred)) TRY(Autobind());
    target = TRY(Find(ctx, address));
    MutexLock lock(target->mu_);
    if (target->dead) return Errno::kECONNREFUSED;
    if (target->peer && target->peer.get() != end_.get()) return Errno::kEPERM;
  }
  RefPtr<Endpoint> old;
  std::vector<UnixMessage> dropped;
  {
    MutexLock lock(end_->mu_);
    old = std::exchange(end_->peer, target);
    end_->state = target ? UnixState::kConnected : UnixState::kClosed;
    if (old && old != target) {
      // unix_dgram_disconnected(): what the former peer sent is not for the new one.
      for (UnixMessage& m : end_->messages) dropped.push_back(std::move(m));
      end_->messages.clear();
      end_->queued_bytes = 0;
    }
  }
  if (old && old != target) {
    bool told = false;
    {
      MutexLock lock(old->mu_);
      if (!old->dead && old->peer.get() == end_.get()) {
        old->error = ECONNRESET;
        told = true;
      }
    }
    if (told) old->queue().Notify(kEventErr | kReadable | kWritable);
    end_->ns().flight().Bury(std::move(dropped));
  }
  end_->queue().Notify(kWritable);
  return {};
}

Result<RefPtr<vfs::Socket>> UnixSocket::Accept(vfs::CallContext& ctx, std::string* peer_address) {
  if (!end_->connection_based()) return Errno::kEOPNOTSUPP;
  RefPtr<Endpoint> embryo, client;
  {
    MutexLock lock(end_->mu_);
    if (end_->state != UnixState::kListening) return Errno::kEINVAL;
    if (end_->backlog.empty()) {
      if ((end_->shutdown & kShutReceive) != 0) return Errno::kEINVAL;
      return Errno::kEAGAIN;
    }
    embryo = std::move(end_->backlog.front());
    end_->backlog.pop_front();
  }
  end_->WakeRoomWaiters();
  {
    MutexLock lock(embryo->mu_);
    client = embryo->peer;
  }
  if (peer_address != nullptr) {
    *peer_address = UnixAddressOf("");
    if (client) {
      MutexLock lock(client->mu_);
      if (!client->address.empty()) *peer_address = client->address;
    }
  }
  return RefPtr<vfs::Socket>(
      MakeRef<UnixSocket>(std::move(embryo), fs_->NewInode(ctx), fs_, uint32_t{0}));
}

}  // namespace caisson::netstack
