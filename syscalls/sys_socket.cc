// Sockets: the calls of socket(2) and their messages.
#include <algorithm>

#include "netstack/sockets/sockets.h"
#include "sentry/kernel/pidfd.h"
#include "syscalls/handlers.h"
#include "syscalls/io.h"
#include "syscalls/trace_names.h"
#include "vfs/socket.h"

namespace caisson::syscalls {
namespace {

constexpr uint32_t kSockTypeMask = 0xf, kSockCloexec = 02000000, kSockNonblock = 04000;
constexpr uint32_t kMaxAddress = 128;  // sizeof(sockaddr_storage).

struct SocketRef {
  RefPtr<vfs::FileDescription> file;
  vfs::Socket& operator*() const { return static_cast<vfs::Socket&>(*file); }
  vfs::Socket* operator->() const { return static_cast<vfs::Socket*>(file.get()); }
};

Result<SocketRef> GetSocket(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  if (file->kind() != vfs::FileKind::kSocket) return Errno::kENOTSOCK;
  return SocketRef{std::move(file)};
}

Result<std::string> ReadAddress(Task& task, GuestAddr address, uint32_t length) {
  if (length > kMaxAddress) return Errno::kEINVAL;
  std::string out(length, '\0');
  if (length != 0) TRY(task.CopyInBytes(address, absl::Span<char>(out.data(), length)));
  return out;
}

// Copies a name as far as the guest has room and stores its true length.
Result<void> WriteAddress(Task& task, absl::string_view name, GuestAddr out, GuestAddr length) {
  if (out.is_null()) return {};
  auto room = TRY(task.Read<int32_t>(length));
  if (room < 0) return Errno::kEINVAL;
  size_t n = std::min<size_t>(static_cast<size_t>(room), name.size());
  if (n != 0) TRY(task.CopyOutBytes(out, {name.data(), n}));
  return task.Write(length, static_cast<uint32_t>(name.size()));
}

bool WaitAllowed(const vfs::Socket& socket, int flags) {
  return !socket.nonblocking() && (flags & vfs::kMsgDontwait) == 0;
}

int64_t TimeoutDeadline(int64_t timeout) { return timeout > 0 ? DeadlineAfter(timeout) : time::kNever; }

// EAGAIN where a socket's timeout ended the wait; EINTR where one was set (signal(7)).
Errno WaitError(Errno e, int64_t timeout, Errno on_timeout = Errno::kEAGAIN) {
  if (e == Errno::kETIMEDOUT) return on_timeout;
  if (e == Errno::kERESTARTSYS && timeout > 0) return Errno::kEINTR;
  return e;
}

}  // namespace

SyscallResult Socket(Task& task, int32_t domain, int32_t type, int32_t protocol) {
  auto flags = static_cast<uint32_t>(type) & ~kSockTypeMask;
  if ((flags & ~(kSockCloexec | kSockNonblock)) != 0) return Errno::kEINVAL;
  auto socket = netstack::NewSocket(task, *task.namespaces().net, domain, type & kSockTypeMask, protocol,
                                    (flags & kSockNonblock) != 0 ? vfs::kOpenNonblock : 0);
  if (!socket.ok() && socket.error() == Errno::kEAFNOSUPPORT)
    task.kernel().NoteUnsupported(absl::StrCat("socket: family ", NameOf(kDomainNames, static_cast<uint32_t>(domain))));
  return InstallFile(task, TRY(std::move(socket)), (flags & kSockCloexec) != 0);
}

SyscallResult Socketpair(Task& task, int32_t domain, int32_t type, int32_t protocol, GuestAddr out) {
  auto flags = static_cast<uint32_t>(type) & ~kSockTypeMask;
  if ((flags & ~(kSockCloexec | kSockNonblock)) != 0) return Errno::kEINVAL;
  auto pair = TRY(netstack::NewSocketPair(task, *task.namespaces().net, domain, type & kSockTypeMask, protocol,
                                          (flags & kSockNonblock) != 0 ? vfs::kOpenNonblock : 0));
  const bool cloexec = (flags & kSockCloexec) != 0;
  int32_t fds[2];
  fds[0] = TRY(task.fd_table().Install(pair.first, 0, NofileLimit(task), cloexec));
  Result<int32_t> second = task.fd_table().Install(pair.second, 0, NofileLimit(task), cloexec);
  Result<void> stored;
  if (second.ok()) {
    fds[1] = *second;
    stored = task.CopyOutBytes(out, {reinterpret_cast<const char*>(fds), sizeof(fds)});
    if (stored.ok()) return 0;
    (void)task.fd_table().Remove(fds[1]);
  }
  (void)task.fd_table().Remove(fds[0]);
  return second.ok() ? stored.error() : second.error();
}

SyscallResult Bind(Task& task, Fd fd, GuestAddr address, uint32_t length) {
  SocketRef socket = TRY(GetSocket(task, fd));
  TRY(socket->Bind(task, TRY(ReadAddress(task, address, length))));
  return 0;
}

SyscallResult Listen(Task& task, Fd fd, int32_t backlog) {
  SocketRef socket = TRY(GetSocket(task, fd));
  TRY(socket->Listen(task, backlog));
  return 0;
}

SyscallResult Connect(Task& task, Fd fd, GuestAddr address, uint32_t length) {
  SocketRef socket = TRY(GetSocket(task, fd));
  std::string name = TRY(ReadAddress(task, address, length));
  const bool wait = !socket->nonblocking();
  const int64_t timeout = socket->send_timeout();
  Result<void> result =
      WaitForFile(task, *socket, kWritable, wait, TimeoutDeadline(timeout), [&] { return socket->Connect(task, name); });
  if (!result.ok() && result.error() == Errno::kEINPROGRESS && wait) {
    result = WaitForFile(task, *socket, kWritable, true, TimeoutDeadline(timeout),
                         [&] { return socket->FinishConnect(task); });
    if (!result.ok()) return WaitError(result.error(), timeout, Errno::kEINPROGRESS);
  }
  if (!result.ok()) return WaitError(result.error(), timeout);
  return 0;
}

SyscallResult Accept4(Task& task, Fd fd, GuestAddr address, GuestAddr length, Flags flags) {
  if ((flags.value & ~(kSockCloexec | kSockNonblock)) != 0) return Errno::kEINVAL;
  SocketRef socket = TRY(GetSocket(task, fd));
  std::string peer;
  const int64_t timeout = socket->receive_timeout();
  Result<RefPtr<vfs::Socket>> accepted =
      WaitForFile(task, *socket, kReadable, !socket->nonblocking(), TimeoutDeadline(timeout),
                  [&] { return socket->Accept(task, &peer); });
  if (!accepted.ok()) return WaitError(accepted.error(), timeout);
  RefPtr<vfs::Socket> connection = std::move(*accepted);
  if ((flags.value & kSockNonblock) != 0)
    TRY(connection->SetStatusFlags(task, connection->flags() | vfs::kOpenNonblock));
  TRY(WriteAddress(task, peer, address, length));
  return InstallFile(task, std::move(connection), (flags.value & kSockCloexec) != 0);
}
SyscallResult Accept(Task& task, Fd fd, GuestAddr address, GuestAddr length) {
  return Accept4(task, fd, address, length, Flags{0});
}

SyscallResult Shutdown(Task& task, Fd fd, int32_t how) {
  SocketRef socket = TRY(GetSocket(task, fd));
  if (how < 0 || how > 2) return Errno::kEINVAL;
  TRY(socket->Shutdown(task, how));
  return 0;
}

SyscallResult Getsockname(Task& task, Fd fd, GuestAddr address, GuestAddr length) {
  SocketRef socket = TRY(GetSocket(task, fd));
  TRY(WriteAddress(task, TRY(socket->LocalAddress(task)), address, length));
  return 0;
}
SyscallResult Getpeername(Task& task, Fd fd, GuestAddr address, GuestAddr length) {
  SocketRef socket = TRY(GetSocket(task, fd));
  TRY(WriteAddress(task, TRY(socket->PeerAddress(task)), address, length));
  return 0;
}

SyscallResult Setsockopt(Task& task, Fd fd, int32_t level, int32_t name, GuestAddr value, int32_t length) {
  constexpr int32_t kMaxValue = 65536;
  if (length < 0 || length > kMaxValue) return Errno::kEINVAL;
  SocketRef socket = TRY(GetSocket(task, fd));
  std::string bytes(static_cast<size_t>(length), '\0');
  if (length != 0) TRY(task.CopyInBytes(value, absl::Span<char>(bytes.data(), bytes.size())));
  Result<void> result = socket->SetOption(task, level, name, bytes);
  if (!result.ok() && result.error() == Errno::kENOPROTOOPT)
    task.kernel().NoteUnsupported(absl::StrCat("setsockopt: level ", NameOf(kLevelNames, static_cast<uint32_t>(level)), " option ", name));
  TRY(result);
  return 0;
}

SyscallResult Getsockopt(Task& task, Fd fd, int32_t level, int32_t name, GuestAddr value, GuestAddr length) {
  SocketRef socket = TRY(GetSocket(task, fd));
  int32_t room = TRY(task.Read<int32_t>(length));
  if (room < 0) return Errno::kEINVAL;
  Result<std::string> bytes = socket->GetOption(task, level, name, static_cast<size_t>(room));
  if (!bytes.ok() && bytes.error() == Errno::kENOPROTOOPT)
    task.kernel().NoteUnsupported(absl::StrCat("getsockopt: level ", NameOf(kLevelNames, static_cast<uint32_t>(level)), " option ", name));
  std::string text = TRY(bytes);
  size_t n = std::min<size_t>(text.size(), static_cast<size_t>(room));
  if (n != 0) TRY(task.CopyOutBytes(value, {text.data(), n}));
  TRY(task.Write(length, static_cast<int32_t>(n)));
  return 0;
}

// --- Messages ---

namespace {

struct Msghdr {
  uint64_t name;
  uint32_t name_length, pad0;
  uint64_t iov, iov_count, control, control_length;
  int32_t flags, pad1;
};
static_assert(sizeof(Msghdr) == 56);
struct Cmsghdr {
  uint64_t length;
  int32_t level, type;
};
static_assert(sizeof(Cmsghdr) == 16);
constexpr int32_t kSolSocket = 1, kScmRights = 1, kScmCredentials = 2;
constexpr size_t kScmMaxFds = 253;
struct Ucred {
  int32_t pid;
  uint32_t uid, gid;
};

uint64_t CmsgAlign(uint64_t n) { return (n + 7) & ~uint64_t{7}; }

// The sender's pid and ids must be its own, unless it has the capabilities to lie (unix(7)).
Result<vfs::ControlData::Creds> CheckCreds(Task& task, const Ucred& c) {
  const auth::Credentials& me = task.creds();
  auto uid = me.user_ns->ToKernelUid(c.uid);
  auto gid = me.user_ns->ToKernelGid(c.gid);
  if (!uid || !gid) return Errno::kEINVAL;
  // In the pid namespace's owner: whoever makes a user namespace may not name any process (scm_check_creds()).
  const bool pid_ok = c.pid == task.TgidIn(task.pid_namespace()) ||
                      me.HasCapability(auth::Capability::kSysAdmin, task.pid_namespace().user_ns());
  const bool uid_ok = *uid == me.ruid || *uid == me.euid || *uid == me.suid || me.HasCapability(auth::Capability::kSetuid);
  const bool gid_ok = *gid == me.rgid || *gid == me.egid || *gid == me.sgid || me.HasCapability(auth::Capability::kSetgid);
  if (!pid_ok || !uid_ok || !gid_ok) return Errno::kEPERM;
  RefPtr<kernel::Pid> pid = task.pid_namespace().Find(c.pid);
  if (!pid) return Errno::kESRCH;
  const int32_t number = pid->global();
  return vfs::ControlData::Creds{{number, std::move(pid)}, *uid, *gid};
}

Result<vfs::ControlData> ReadControl(Task& task, vfs::Socket& socket, GuestAddr address, uint64_t length) {
  constexpr uint64_t kMaxControl = 1 << 16;
  vfs::ControlData control;
  if (length == 0) return control;
  if (length > kMaxControl) return Errno::kENOBUFS;
  std::string bytes(length, '\0');
  TRY(task.CopyInBytes(address, absl::Span<char>(bytes.data(), length)));
  for (uint64_t at = 0; at + sizeof(Cmsghdr) <= length;) {
    Cmsghdr h;
    memcpy(&h, bytes.data() + at, sizeof(h));
    if (h.length < sizeof(h) || h.length > length - at) return Errno::kEINVAL;
    const char* data = bytes.data() + at + sizeof(h);
    uint64_t n = h.length - sizeof(h);
    if (h.level != kSolSocket || socket.domain() != 1) {
      control.raw.append(bytes.data() + at, h.length);
      control.raw.resize(CmsgAlign(control.raw.size()));
    } else if (h.type == kScmRights) {
      if (n / 4 > kScmMaxFds || control.files.size() + n / 4 > kScmMaxFds) return Errno::kEINVAL;
      for (uint64_t i = 0; i < n / 4; ++i) {
        int32_t fd;
        memcpy(&fd, data + i * 4, 4);
        control.files.push_back(TRY(task.fd_table().Get(fd)));
      }
    } else if (h.type == kScmCredentials) {
      if (n != sizeof(Ucred)) return Errno::kEINVAL;
      Ucred c;
      memcpy(&c, data, sizeof(c));
      control.creds = TRY(CheckCreds(task, c));
    } else {
      return Errno::kEINVAL;
    }
    at += CmsgAlign(h.length);
  }
  return control;
}

// Packs what was received, as far as there is room; what does not fit sets MSG_CTRUNC.
class ControlWriter {
 public:
  explicit ControlWriter(uint64_t room) : room_(room) {}
  // Room for a payload of n bytes at most: how many bytes of it fit (0: not even the header).
  uint64_t Fits(uint64_t n) const {
    if (out_.size() + sizeof(Cmsghdr) >= room_) return 0;
    return std::min(n, room_ - out_.size() - sizeof(Cmsghdr));
  }
  void Add(int32_t level, int32_t type, absl::string_view data) {
    Cmsghdr h{sizeof(Cmsghdr) + data.size(), level, type};
    out_.append(reinterpret_cast<const char*>(&h), sizeof(h));
    out_.append(data.data(), data.size());
    out_.resize(std::min<uint64_t>(CmsgAlign(out_.size()), room_));
  }
  std::string& bytes() { return out_; }

 private:
  const uint64_t room_;
  std::string out_;
};

std::string PackControl(Task& task, vfs::ControlData& control, uint64_t room, bool cloexec, int* flags) {
  ControlWriter writer(room);
  if (control.creds) {
    const auth::UserNamespace& ns = *task.creds().user_ns;
    Ucred c{task.Shown(control.creds->process), ns.FromKernelUid(control.creds->uid),
            ns.FromKernelGid(control.creds->gid)};
    if (writer.Fits(sizeof(c)) == sizeof(c)) writer.Add(kSolSocket, kScmCredentials, {reinterpret_cast<const char*>(&c), sizeof(c)});
    else *flags |= vfs::kMsgCtrunc;
  }
  if (!control.files.empty()) {
    size_t fit = writer.Fits(control.files.size() * 4) / 4;
    std::string numbers;
    for (size_t i = 0; i < fit; ++i) {
      Result<int32_t> fd = task.fd_table().Install(control.files[i], 0, NofileLimit(task), cloexec);
      if (!fd.ok()) break;
      numbers.append(reinterpret_cast<const char*>(&*fd), 4);
    }
    if (!numbers.empty()) writer.Add(kSolSocket, kScmRights, numbers);
    if (numbers.size() < control.files.size() * 4) *flags |= vfs::kMsgCtrunc;
  }
  if (!control.raw.empty()) {
    if (writer.bytes().size() + control.raw.size() <= room) writer.bytes() += control.raw;
    else *flags |= vfs::kMsgCtrunc;
  }
  return std::move(writer.bytes());
}

Result<int64_t> SendBuffer(Task& task, vfs::Socket& socket, IoBuffer& from, int flags, absl::string_view to,
                           vfs::ControlData control) {
  constexpr int kSockStream = 1;
  int64_t done = 0;
  const int64_t timeout = socket.send_timeout();
  const int64_t deadline = TimeoutDeadline(timeout);
  for (;;) {
    // Control data goes with the first bytes; an attempt that gives EAGAIN has not used it.
    auto attempt = [&]() -> Result<size_t> { return socket.Send(task, from, flags, to, control); };
    Result<size_t> n = WaitForFile(task, socket, kWritable, WaitAllowed(socket, flags), deadline, attempt);
    if (!n.ok()) {
      if (done != 0) return done;
      if (n.error() == Errno::kEPIPE && (flags & vfs::kMsgNosignal) == 0) task.SendSignal(signal::kSIGPIPE);
      return WaitError(n.error(), timeout);
    }
    done += static_cast<int64_t>(*n);
    if (socket.type() != kSockStream || from.remaining() == 0 || *n == 0 || !WaitAllowed(socket, flags))
      return done;
    control = {};
  }
}

Result<vfs::ReceiveResult> ReceiveBuffer(Task& task, vfs::Socket& socket, IoBuffer& to, int flags, bool control) {
  constexpr int kSockStream = 1;
  const int64_t timeout = socket.receive_timeout();
  const int64_t deadline = TimeoutDeadline(timeout);
  const bool wait = WaitAllowed(socket, flags);
  auto attempt = [&]() -> Result<vfs::ReceiveResult> { return socket.Receive(task, to, flags, control); };
  Result<vfs::ReceiveResult> first = WaitForFile(task, socket, kReadable, wait, deadline, attempt);
  if (!first.ok()) return WaitError(first.error(), timeout);
  vfs::ReceiveResult total = std::move(*first);
  if (socket.type() == kSockStream && (flags & vfs::kMsgWaitall) != 0 && (flags & vfs::kMsgPeek) == 0 && wait) {
    while (to.remaining() != 0 && total.bytes != 0 && total.control.files.empty()) {
      Result<vfs::ReceiveResult> more = WaitForFile(task, socket, kReadable, true, deadline, attempt);
      if (!more.ok() || more->bytes == 0) break;
      total.bytes += more->bytes;
    }
  }
  return total;
}

Result<int64_t> DoSendmsg(Task& task, vfs::Socket& socket, GuestAddr address, int flags) {
  Msghdr h = TRY(task.Read<Msghdr>(address));
  std::string name;
  if (h.name != 0) {
    if (static_cast<int32_t>(h.name_length) < 0) return Errno::kEINVAL;
    name = TRY(ReadAddress(task, GuestAddr(h.name), std::min(h.name_length, kMaxAddress)));
  }
  if (h.iov_count > kIovMax) return Errno::kEMSGSIZE;
  mm::GuestIoBuffer from(task.memory(), TRY(ReadIoVec(task, GuestAddr(h.iov), h.iov_count)));
  vfs::ControlData control;
  if (h.control != 0) control = TRY(ReadControl(task, socket, GuestAddr(h.control), h.control_length));
  return SendBuffer(task, socket, from, flags, name, std::move(control));
}

Result<int64_t> DoRecvmsg(Task& task, vfs::Socket& socket, GuestAddr address, int flags) {
  Msghdr h = TRY(task.Read<Msghdr>(address));
  if (h.iov_count > kIovMax) return Errno::kEMSGSIZE;
  if (h.name != 0 && static_cast<int32_t>(h.name_length) < 0) return Errno::kEINVAL;
  mm::GuestIoBuffer to(task.memory(), TRY(ReadIoVec(task, GuestAddr(h.iov), h.iov_count)));
  vfs::ReceiveResult r = TRY(ReceiveBuffer(task, socket, to, flags & ~vfs::kMsgCmsgCloexec, true));
  int out_flags = r.flags;
  uint64_t room = h.control == 0 ? 0 : std::min<uint64_t>(h.control_length, 1 << 16);
  std::string control = PackControl(task, r.control, room, (flags & vfs::kMsgCmsgCloexec) != 0, &out_flags);
  if (!control.empty()) TRY(task.CopyOutBytes(GuestAddr(h.control), control));
  h.control_length = control.size();
  if (h.name != 0) {
    size_t n = std::min<size_t>(r.address.size(), h.name_length);
    if (n != 0) TRY(task.CopyOutBytes(GuestAddr(h.name), {r.address.data(), n}));
    h.name_length = static_cast<uint32_t>(r.address.size());
  }
  h.flags = out_flags | ((flags & vfs::kMsgCmsgCloexec) != 0 ? vfs::kMsgCmsgCloexec : 0);
  TRY(task.Write(address, h));
  return static_cast<int64_t>(r.bytes);
}

}  // namespace

SyscallResult Sendto(Task& task, Fd fd, GuestAddr buffer, uint64_t length, int32_t flags, GuestAddr address,
                     uint32_t address_length) {
  SocketRef socket = TRY(GetSocket(task, fd));
  std::string name;
  if (!address.is_null()) name = TRY(ReadAddress(task, address, address_length));
  mm::GuestIoBuffer from(task.memory(), buffer, std::min(length, kMaxRwCount));
  return SendBuffer(task, *socket, from, flags, name, {});
}

SyscallResult Recvfrom(Task& task, Fd fd, GuestAddr buffer, uint64_t length, int32_t flags, GuestAddr address,
                       GuestAddr address_length) {
  SocketRef socket = TRY(GetSocket(task, fd));
  mm::GuestIoBuffer to(task.memory(), buffer, std::min(length, kMaxRwCount));
  vfs::ReceiveResult r = TRY(ReceiveBuffer(task, *socket, to, flags, false));
  TRY(WriteAddress(task, r.address, address, address_length));
  return static_cast<int64_t>(r.bytes);
}

SyscallResult Sendmsg(Task& task, Fd fd, GuestAddr message, int32_t flags) {
  SocketRef socket = TRY(GetSocket(task, fd));
  return DoSendmsg(task, *socket, message, flags);
}
SyscallResult Recvmsg(Task& task, Fd fd, GuestAddr message, int32_t flags) {
  SocketRef socket = TRY(GetSocket(task, fd));
  return DoRecvmsg(task, *socket, message, flags);
}

namespace {
constexpr uint64_t kMmsghdrSize = 64;  // msghdr, msg_len, padding.
}  // namespace

SyscallResult Sendmmsg(Task& task, Fd fd, GuestAddr messages, uint32_t count, int32_t flags) {
  SocketRef socket = TRY(GetSocket(task, fd));
  count = std::min<uint32_t>(count, kIovMax);
  uint32_t done = 0;
  for (; done < count; ++done) {
    GuestAddr at = messages + done * kMmsghdrSize;
    Result<int64_t> n = DoSendmsg(task, *socket, at, flags);
    if (!n.ok()) return done != 0 ? SyscallResult(int64_t{done}) : n;
    TRY(task.Write(at + sizeof(Msghdr), static_cast<uint32_t>(*n)));
  }
  return done;
}

SyscallResult Recvmmsg(Task& task, Fd fd, GuestAddr messages, uint32_t count, int32_t flags, GuestAddr timeout) {
  SocketRef socket = TRY(GetSocket(task, fd));
  int64_t deadline = time::kNever;
  if (!timeout.is_null()) deadline = DeadlineAfter(TRY(ReadTimespec(task, timeout)));
  count = std::min<uint32_t>(count, kIovMax);
  uint32_t done = 0;
  for (; done < count; ++done) {
    GuestAddr at = messages + done * kMmsghdrSize;
    int f = flags & ~vfs::kMsgWaitforone;
    if (done != 0 && (flags & vfs::kMsgWaitforone) != 0) f |= vfs::kMsgDontwait;
    Result<int64_t> n = DoRecvmsg(task, *socket, at, f);
    if (!n.ok()) return done != 0 ? SyscallResult(int64_t{done}) : n;
    TRY(task.Write(at + sizeof(Msghdr), static_cast<uint32_t>(*n)));
    // As Linux: the timeout is looked at only after each message (recvmmsg(2), "BUGS").
    if (time::MonotonicNow() >= deadline) return done + 1;
  }
  return done;
}

}  // namespace caisson::syscalls
