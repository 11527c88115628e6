// What socket calls need of a file description; implemented by netstack.
#ifndef CAISSON_VFS_SOCKET_H_
#define CAISSON_VFS_SOCKET_H_

#include <optional>
#include <string>
#include <vector>

#include "vfs/file_description.h"
#include "vfs/process_id.h"

namespace caisson::vfs {

// MSG_* of send(2) and recv(2), Linux's values.
inline constexpr int kMsgOob = 1, kMsgPeek = 2, kMsgDontRoute = 4, kMsgCtrunc = 8, kMsgTrunc = 0x20,
                     kMsgDontwait = 0x40, kMsgEor = 0x80, kMsgWaitall = 0x100, kMsgConfirm = 0x800,
                     kMsgErrqueue = 0x2000, kMsgNosignal = 0x4000, kMsgMore = 0x8000,
                     kMsgWaitforone = 0x10000, kMsgCmsgCloexec = 0x40000000;

// Ancillary data, decoded: descriptors and credentials leave and enter the fd table and the ids'
// namespaces in the system call layer.
struct ControlData {
  std::vector<RefPtr<FileDescription>> files;  // SCM_RIGHTS.
  struct Creds {
    ProcessId process;
    uint32_t uid = 0, gid = 0;  // Kernel ids.
  };
  std::optional<Creds> creds;      // SCM_CREDENTIALS.
  std::string raw;                 // Other messages, as cmsg bytes.
};

struct ReceiveResult {
  size_t bytes = 0;        // As recvmsg(2) returns them.
  int flags = 0;           // msg_flags.
  std::string address;     // Sender, a sockaddr; may be empty.
  ControlData control;
};

// A socket. Addresses are sockaddr bytes as copied from the guest (at most 128). Calls never wait:
// EAGAIN (or EINPROGRESS for Connect) and the caller waits on EventQueue(), then calls again;
// FinishConnect() tells how a connection attempt ended.
class Socket : public FileDescription {
 public:
  using FileDescription::FileDescription;
  virtual int domain() const = 0;
  virtual int type() const = 0;
  virtual int protocol() const = 0;
  virtual Result<void> Bind(CallContext& ctx, absl::string_view address) = 0;
  // EAGAIN: the listener's queue is full (AF_UNIX): wait and call again. EINPROGRESS: wait for
  // kEventOut, then FinishConnect().
  virtual Result<void> Connect(CallContext& ctx, absl::string_view address) = 0;
  virtual Result<void> FinishConnect(CallContext& ctx) { return {}; }
  virtual Result<void> Listen(CallContext& ctx, int backlog) = 0;
  virtual Result<RefPtr<Socket>> Accept(CallContext& ctx, std::string* peer_address) = 0;
  virtual Result<size_t> Send(CallContext& ctx, IoBuffer& from, int flags, absl::string_view to,
                              ControlData control) = 0;
  virtual Result<ReceiveResult> Receive(CallContext& ctx, IoBuffer& to, int flags,
                                        bool want_control) = 0;
  virtual Result<void> Shutdown(CallContext& ctx, int how) = 0;
  virtual Result<std::string> LocalAddress(CallContext& ctx) = 0;
  virtual Result<std::string> PeerAddress(CallContext& ctx) = 0;  // Errors: ENOTCONN.
  // Values as the guest's bytes. Errors: ENOPROTOOPT.
  virtual Result<std::string> GetOption(CallContext& ctx, int level, int name, size_t max_length) = 0;
  virtual Result<void> SetOption(CallContext& ctx, int level, int name, absl::string_view value) = 0;
  // SO_RCVTIMEO and SO_SNDTIMEO in ns; 0 is none.
  virtual int64_t receive_timeout() const { return 0; }
  virtual int64_t send_timeout() const { return 0; }
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_SOCKET_H_
