#include "netstack/socket_options.h"

#include <algorithm>

#include "auth/credentials.h"

namespace caisson::netstack {
namespace {

constexpr uint32_t kMinSend = 4608, kMinReceive = 2304;
constexpr int64_t kSecond = 1'000'000'000;

bool IsFlag(int name) {
  switch (name) {
    case kSoDebug:
    case kSoReuseaddr:
    case kSoDontroute:
    case kSoBroadcast:
    case kSoKeepalive:
    case kSoOobinline:
    case kSoNoCheck:
    case kSoReuseport:
    case kSoPasscred:
    case kSoTimestamp:
    case kSoTimestampns:
    case kSoPasssec:
      return true;
    default:
      return false;
  }
}

// sock_set_timeout(): struct timeval. A negative one is no patience at all.
Result<int64_t> ParseTimeout(absl::string_view bytes) {
  int64_t tv[2];
  if (bytes.size() < sizeof(tv)) return Errno::kEINVAL;
  memcpy(tv, bytes.data(), sizeof(tv));
  if (tv[1] < 0 || tv[1] >= 1'000'000) return Errno::kEDOM;
  if (tv[0] < 0) return int64_t{1};
  if (tv[0] > INT64_MAX / kSecond - 1) return int64_t{0};
  return tv[0] * kSecond + tv[1] * 1000;
}

std::string TimeoutBytes(int64_t ns) {
  int64_t tv[2] = {ns / kSecond, ns % kSecond / 1000};
  return std::string(reinterpret_cast<const char*>(tv), sizeof(tv));
}

// sock_setsockopt(), SO_SNDBUF: doubled for the overhead of bookkeeping.
// Linux differs: SO_*BUFFORCE is bounded, since what a queue holds is our memory, not the guest's.
constexpr uint32_t kMaxForced = 16u << 20;

uint32_t BufferSize(int32_t asked, bool force, uint32_t minimum) {
  uint32_t value = asked < 0 ? 0 : static_cast<uint32_t>(asked);
  value = std::min<uint32_t>(value, force ? kMaxForced : kDefaultBuffer);
  return std::max(value * 2, minimum);
}

}  // namespace

std::string IntOption(int32_t value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

Result<int32_t> ParseIntOption(absl::string_view bytes) {
  int32_t value;
  if (bytes.size() < sizeof(value)) return Errno::kEINVAL;
  memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

std::optional<Result<void>> SocketOptions::Set(vfs::CallContext& ctx, int name,
                                               absl::string_view value) {
  // Buffers past their limits, priorities and marks are the sandbox's: nested namespaces have no say.
  auto has = [&ctx](auth::Capability c) { return ctx.creds().HasRootCapability(c); };
  if (name == kSoRcvtimeo || name == kSoRcvtimeoNew || name == kSoSndtimeo ||
      name == kSoSndtimeoNew) {
    Result<int64_t> ns = ParseTimeout(value);
    if (!ns.ok()) return Result<void>(ns.error());
    MutexLock lock(mu_);
    (name == kSoRcvtimeo || name == kSoRcvtimeoNew ? receive_timeout_ : send_timeout_) = *ns;
    return Result<void>();
  }
  Result<int32_t> parsed = ParseIntOption(value);
  if (!parsed.ok()) return Result<void>(parsed.error());
  int32_t number = *parsed;
  if (IsFlag(name)) {
    if (name == kSoDebug && number != 0 && !has(auth::Capability::kNetAdmin))
      return Result<void>(Errno::kEACCES);
    MutexLock lock(mu_);
    flags_ = (flags_ & ~(uint64_t{1} << name)) | (uint64_t{number != 0} << name);
    return Result<void>();
  }
  switch (name) {
    case kSoSndbufforce:
    case kSoRcvbufforce:
      if (!has(auth::Capability::kNetAdmin)) return Result<void>(Errno::kEPERM);
      [[fallthrough]];
    case kSoSndbuf:
    case kSoRcvbuf: {
      bool force = name == kSoSndbufforce || name == kSoRcvbufforce;
      MutexLock lock(mu_);
      if (name == kSoSndbuf || name == kSoSndbufforce) {
        send_buffer_ = BufferSize(number, force, kMinSend);
      } else {
        receive_buffer_ = BufferSize(number, force, kMinReceive);
      }
      return Result<void>();
    }
    case kSoPriority: {
      if ((number < 0 || number > 6) && !has(auth::Capability::kNetAdmin))
        return Result<void>(Errno::kEPERM);
      MutexLock lock(mu_);
      priority_ = number;
      return Result<void>();
    }
    case kSoRcvlowat: {
      MutexLock lock(mu_);
      receive_low_ = number < 0 ? INT32_MAX : std::max(number, 1);
      return Result<void>();
    }
    case kSoMark: {
      if (!has(auth::Capability::kNetAdmin)) return Result<void>(Errno::kEPERM);
      MutexLock lock(mu_);
      mark_ = number;
      return Result<void>();
    }
    case kSoLinger: {
      int32_t linger[2];
      if (value.size() < sizeof(linger)) return Result<void>(Errno::kEINVAL);
      memcpy(linger, value.data(), sizeof(linger));
      MutexLock lock(mu_);
      flags_ = (flags_ & ~(uint64_t{1} << kSoLinger)) | (uint64_t{linger[0] != 0} << kSoLinger);
      if (linger[0] != 0) linger_seconds_ = linger[1];
      return Result<void>();
    }
    case kSoBsdcompat:
      return Result<void>();  // Linux: a warning, and no effect since 2.2.
    default:
      return std::nullopt;
  }
}

std::optional<Result<std::string>> SocketOptions::Get(int name) {
  MutexLock lock(mu_);
  if (IsFlag(name)) return Result<std::string>(IntOption((flags_ >> name) & 1));
  switch (name) {
    case kSoSndbuf: return Result<std::string>(IntOption(static_cast<int32_t>(send_buffer_)));
    case kSoRcvbuf: return Result<std::string>(IntOption(static_cast<int32_t>(receive_buffer_)));
    case kSoPriority: return Result<std::string>(IntOption(priority_));
    case kSoRcvlowat: return Result<std::string>(IntOption(receive_low_));
    case kSoSndlowat: return Result<std::string>(IntOption(1));
    case kSoMark: return Result<std::string>(IntOption(mark_));
    case kSoBsdcompat: return Result<std::string>(IntOption(0));
    case kSoRcvtimeo:
    case kSoRcvtimeoNew:
      return Result<std::string>(TimeoutBytes(receive_timeout_));
    case kSoSndtimeo:
    case kSoSndtimeoNew:
      return Result<std::string>(TimeoutBytes(send_timeout_));
    case kSoLinger:
      return Result<std::string>(IntOption((flags_ >> kSoLinger) & 1) + IntOption(linger_seconds_));
    default: return std::nullopt;
  }
}

uint32_t SocketOptions::send_buffer() const {
  MutexLock lock(mu_);
  return send_buffer_;
}
uint32_t SocketOptions::receive_buffer() const {
  MutexLock lock(mu_);
  return receive_buffer_;
}
int64_t SocketOptions::receive_timeout() const {
  MutexLock lock(mu_);
  return receive_timeout_;
}
int64_t SocketOptions::send_timeout() const {
  MutexLock lock(mu_);
  return send_timeout_;
}
bool SocketOptions::flag(int name) const {
  MutexLock lock(mu_);
  return ((flags_ >> name) & 1) != 0;
}

}  // namespace caisson::netstack
