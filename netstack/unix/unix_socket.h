// AF_UNIX sockets (unix(7)).
#ifndef CAISSON_NETSTACK_UNIX_UNIX_SOCKET_H_
#define CAISSON_NETSTACK_UNIX_UNIX_SOCKET_H_

#include <cstdint>
#include <string>
#include <utility>

#include "netstack/socket_inode.h"
#include "netstack/unix/endpoint.h"
#include "netstack/unix/namespace.h"
#include "vfs/socket.h"

namespace caisson::netstack {

// The file of an endpoint. Thread-safe. Calls never wait: see vfs/socket.h. Stream receives return
// what is there: the system call layer repeats Receive() for MSG_WAITALL, and Send() until all is
// sent or O_NONBLOCK or MSG_DONTWAIT says otherwise (ancillary data goes with the first part).
class UnixSocket final : public vfs::Socket {
 public:
  UnixSocket(RefPtr<Endpoint> endpoint, RefPtr<SocketInode> inode, RefPtr<SocketFileSystem> fs,
             uint32_t flags);
  ~UnixSocket() override;

  const RefPtr<Endpoint>& endpoint() const { return end_; }

  int domain() const override { return kAfUnix; }
  int type() const override { return end_->type(); }
  int protocol() const override { return 0; }
  Result<void> Bind(vfs::CallContext& ctx, absl::string_view address) override;
  Result<void> Connect(vfs::CallContext& ctx, absl::string_view address) override;
  Result<void> Listen(vfs::CallContext& ctx, int backlog) override;
  Result<RefPtr<vfs::Socket>> Accept(vfs::CallContext& ctx, std::string* peer_address) override;
  Result<size_t> Send(vfs::CallContext& ctx, IoBuffer& from, int flags, absl::string_view to,
                      vfs::ControlData control) override;
  Result<vfs::ReceiveResult> Receive(vfs::CallContext& ctx, IoBuffer& to, int flags,
                                     bool want_control) override;
  Result<void> Shutdown(vfs::CallContext& ctx, int how) override;
  Result<std::string> LocalAddress(vfs::CallContext& ctx) override;
  Result<std::string> PeerAddress(vfs::CallContext& ctx) override;
  Result<std::string> GetOption(vfs::CallContext& ctx, int level, int name,
                                size_t max_length) override;
  Result<void> SetOption(vfs::CallContext& ctx, int level, int name,
                         absl::string_view value) override;
  int64_t receive_timeout() const override { return end_->options().receive_timeout(); }
  int64_t send_timeout() const override { return end_->options().send_timeout(); }

  Result<size_t> Read(vfs::CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  Result<size_t> Write(vfs::CallContext& ctx, IoBuffer& from, uint32_t rwf) override;
  Result<int64_t> Ioctl(vfs::CallContext& ctx, uint32_t request, uint64_t arg) override;
  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override { return &end_->queue(); }
  std::string Describe() const override;

 private:
  Result<void> Autobind();
  Result<void> BindPath(vfs::CallContext& ctx, std::string path);
  // The bound endpoint that `address` names for `type`. Errors: ECONNREFUSED, EPROTOTYPE, EACCES
  // and those of the walk.
  Result<RefPtr<Endpoint>> Find(vfs::CallContext& ctx, absl::string_view address);
  Result<void> ConnectStream(vfs::CallContext& ctx, absl::string_view address);
  Result<void> ConnectDatagram(vfs::CallContext& ctx, absl::string_view address);
  Result<size_t> SendStream(vfs::CallContext& ctx, IoBuffer& from, int flags,
                            vfs::ControlData control);
  Result<size_t> SendDatagram(vfs::CallContext& ctx, IoBuffer& from, absl::string_view to,
                              vfs::ControlData control);
  Result<vfs::ReceiveResult> ReceiveStream(vfs::CallContext& ctx, IoBuffer& to, int flags,
                                           bool want_control);
  Result<vfs::ReceiveResult> ReceiveDatagram(vfs::CallContext& ctx, IoBuffer& to, int flags,
                                             bool want_control);
  // Why there is nothing to receive: 0 is the end of the stream.
  Result<size_t> NothingToReceive(int flags) ABSL_EXCLUSIVE_LOCKS_REQUIRED(end_->mu_);

  const RefPtr<Endpoint> end_;
  const RefPtr<SocketFileSystem> fs_;
  const RefPtr<SocketInode> socket_inode_;
};

// socket(2): `type` without SOCK_* flags; `flags` are O_* (O_NONBLOCK).
// Errors: ESOCKTNOSUPPORT, EPROTONOSUPPORT.
Result<RefPtr<vfs::Socket>> NewUnixSocket(vfs::CallContext& ctx, RefPtr<UnixNamespace> ns,
                                          RefPtr<SocketFileSystem> fs, int type, int protocol,
                                          uint32_t flags);
// socketpair(2).
Result<std::pair<RefPtr<vfs::Socket>, RefPtr<vfs::Socket>>> NewUnixPair(
    vfs::CallContext& ctx, RefPtr<UnixNamespace> ns, RefPtr<SocketFileSystem> fs, int type,
    int protocol, uint32_t flags);

// Addresses: a family of two bytes and what of sun_path was given.
inline constexpr size_t kUnixPathOffset = 2, kUnixPathMax = 108;
std::string UnixAddressOf(absl::string_view path);
bool IsAbstract(absl::string_view address);
// unix_validate_addr(), and for a path the name up to its 0 byte. EINVAL.
Result<std::string> NormalizeUnixAddress(absl::string_view address);
std::shared_ptr<const PeerCredentials> CredentialsOf(vfs::CallContext& ctx);

}  // namespace caisson::netstack

#endif  // CAISSON_NETSTACK_UNIX_UNIX_SOCKET_H_
