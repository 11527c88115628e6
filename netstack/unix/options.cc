// getsockopt(2) and setsockopt(2) of AF_UNIX sockets.
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "auth/credentials.h"
#include "netstack/unix/unix_socket.h"

namespace caisson::netstack {
namespace {

template <typename T>
std::string Bytes(const T* values, size_t n) {
  return std::string(reinterpret_cast<const char*>(values), n * sizeof(T));
}

std::string PeerCredBytes(vfs::CallContext& ctx, const PeerCredentials* creds) {
  const auth::UserNamespace& ns = *ctx.creds().user_ns;
  int32_t pid = creds != nullptr ? ctx.Shown(creds->process) : 0;
  uint32_t uid = creds != nullptr ? ns.FromKernelUid(creds->uid) : ~0u;
  uint32_t gid = creds != nullptr ? ns.FromKernelGid(creds->gid) : ~0u;
  return Bytes(&pid, 1) + Bytes(&uid, 1) + Bytes(&gid, 1);
}

}  // namespace

Result<std::string> UnixSocket::GetOption(vfs::CallContext& ctx, int level, int name,
                                          size_t max_length) {
  if (level != kSolSocket) return Errno::kEOPNOTSUPP;
  std::string value;
  switch (name) {
    case kSoType: value = IntOption(type()); break;
    case kSoDomain: value = IntOption(kAfUnix); break;
    case kSoProtocol: value = IntOption(0); break;
    case kSoError: {
      MutexLock lock(end_->mu_);
      value = IntOption(end_->TakeErrorLocked());
      break;
    }
    case kSoAcceptconn: {
      MutexLock lock(end_->mu_);
      value = IntOption(end_->state == UnixState::kListening ? 1 : 0);
      break;
    }
    case kSoPeekOff: {
      MutexLock lock(end_->mu_);
      value = IntOption(end_->peek_offset);
      break;
    }
    case kSoCookie: {
      uint64_t cookie = end_->ino();
      if (max_length < sizeof(cookie)) return Errno::kEINVAL;
      value = Bytes(&cookie, 1);
      break;
    }
    case kSoPeername:
      value = TRY(PeerAddress(ctx));
      if (max_length < value.size()) return Errno::kEINVAL;
      break;
    case kSoPeercred:
    case kSoPeergroups: {
      std::shared_ptr<const PeerCredentials> creds;
      {
        MutexLock lock(end_->mu_);
        // A listener shows its own (init_peercred()).
        creds = end_->state == UnixState::kListening ? end_->own_creds : end_->peer_creds;
      }
      if (name == kSoPeercred) {
        value = PeerCredBytes(ctx, creds.get());
        break;
      }
      if (!creds) return Errno::kENODATA;
      std::vector<uint32_t> groups;
      for (uint32_t g : creds->groups) groups.push_back(ctx.creds().user_ns->FromKernelGid(g));
      value = Bytes(groups.data(), groups.size());
      if (max_length < value.size()) return Errno::kERANGE;
      break;
    }
    default: {
      std::optional<Result<std::string>> common = end_->options().Get(name);
      if (!common) return Errno::kENOPROTOOPT;
      value = TRY(*std::move(common));
    }
  }
  if (value.size() > max_length) value.resize(max_length);
  return value;
}

Result<void> UnixSocket::SetOption(vfs::CallContext& ctx, int level, int name,
                                   absl::string_view value) {
  if (level != kSolSocket) return Errno::kEOPNOTSUPP;
  if (name == kSoPeekOff) {
    int32_t offset = TRY(ParseIntOption(value));
    MutexLock lock(end_->mu_);
    end_->peek_offset = offset < 0 ? -1 : offset;
    return {};
  }
  std::optional<Result<void>> common = end_->options().Set(ctx, name, value);
  if (!common) return Errno::kENOPROTOOPT;
  if (common->ok() && (name == kSoSndbuf || name == kSoSndbufforce)) end_->queue().Notify(kWritable);
  return *common;
}

}  // namespace caisson::netstack
