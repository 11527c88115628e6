// SOL_SOCKET options that every kind of socket has (socket(7)).
#ifndef CAISSON_NETSTACK_SOCKET_OPTIONS_H_
#define CAISSON_NETSTACK_SOCKET_OPTIONS_H_

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "base/result.h"
#include "vfs/call_context.h"

namespace caisson::netstack {

inline constexpr int kAfUnspec = 0, kAfUnix = 1, kAfInet = 2, kAfInet6 = 10, kAfNetlink = 16,
                     kAfPacket = 17;
inline constexpr int kSockStream = 1, kSockDgram = 2, kSockRaw = 3, kSockSeqpacket = 5;
inline constexpr int kSolSocket = 1;
inline constexpr int kSoDebug = 1, kSoReuseaddr = 2, kSoType = 3, kSoError = 4, kSoDontroute = 5,
                     kSoBroadcast = 6, kSoSndbuf = 7, kSoRcvbuf = 8, kSoKeepalive = 9,
                     kSoOobinline = 10, kSoNoCheck = 11, kSoPriority = 12, kSoLinger = 13,
                     kSoBsdcompat = 14, kSoReuseport = 15, kSoPasscred = 16, kSoPeercred = 17,
                     kSoRcvlowat = 18, kSoSndlowat = 19, kSoRcvtimeo = 20, kSoSndtimeo = 21,
                     kSoPeername = 28, kSoTimestamp = 29, kSoAcceptconn = 30, kSoPeersec = 31,
                     kSoSndbufforce = 32, kSoRcvbufforce = 33, kSoPasssec = 34,
                     kSoTimestampns = 35, kSoMark = 36, kSoProtocol = 38, kSoDomain = 39,
                     kSoPeekOff = 42, kSoCookie = 57, kSoPeergroups = 59, kSoRcvtimeoNew = 66,
                     kSoSndtimeoNew = 67;
inline constexpr uint32_t kDefaultBuffer = 212992;  // net.core.{r,w}mem_{default,max}.

// An int as option bytes, and back. EINVAL if `bytes` is too short.
std::string IntOption(int32_t value);
Result<int32_t> ParseIntOption(absl::string_view bytes);

// The values of one socket. Thread-safe.
class SocketOptions {
 public:
  // Nothing: not an option of this class (the socket's own, or ENOPROTOOPT).
  std::optional<Result<void>> Set(vfs::CallContext& ctx, int name, absl::string_view value);
  std::optional<Result<std::string>> Get(int name);

  uint32_t send_buffer() const;
  uint32_t receive_buffer() const;
  int64_t receive_timeout() const;  // ns, 0: none.
  int64_t send_timeout() const;
  bool flag(int name) const;

 private:
  mutable Mutex mu_;
  uint64_t flags_ ABSL_GUARDED_BY(mu_) = 0;  // Bit n: the boolean option n < 64.
  uint32_t send_buffer_ ABSL_GUARDED_BY(mu_) = kDefaultBuffer;
  uint32_t receive_buffer_ ABSL_GUARDED_BY(mu_) = kDefaultBuffer;
  int64_t receive_timeout_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t send_timeout_ ABSL_GUARDED_BY(mu_) = 0;
  int32_t priority_ ABSL_GUARDED_BY(mu_) = 0;
  int32_t receive_low_ ABSL_GUARDED_BY(mu_) = 1;
  int32_t mark_ ABSL_GUARDED_BY(mu_) = 0;
  int32_t linger_seconds_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace caisson::netstack

#endif  // CAISSON_NETSTACK_SOCKET_OPTIONS_H_
