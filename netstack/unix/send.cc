// Sending on AF_UNIX sockets.
#include <algorithm>
#include <utility>

#include "auth/credentials.h"
#include "netstack/unix/unix_socket.h"

namespace caisson::netstack {
namespace {

constexpr int kSigpipe = 13;
constexpr size_t kMaxPart = 32 << 10;  // Of a stream, in one message.
constexpr size_t kMaxFiles = 253;      // SCM_MAX_FD.

vfs::ControlData::Creds SenderOf(vfs::CallContext& ctx, const vfs::ControlData& control) {
  if (control.creds) return *control.creds;
  return {ctx.process_id(), ctx.creds().ruid, ctx.creds().rgid};
}

}  // namespace

Result<size_t> UnixSocket::Send(vfs::CallContext& ctx, IoBuffer& from, int flags,
                                absl::string_view to, vfs::ControlData control) {
  if ((flags & vfs::kMsgOob) != 0) return Errno::kEOPNOTSUPP;
  if (control.files.size() > kMaxFiles) return Errno::kEINVAL;
  if (type() == kSockStream) {
    if (!to.empty()) {
      MutexLock lock(end_->mu_);
      return end_->state == UnixState::kConnected ? Errno::kEISCONN : Errno::kEOPNOTSUPP;
    }
    Result<size_t> sent = SendStream(ctx, from, flags, std::move(control));
    if (!sent.ok() && sent.error() == Errno::kEPIPE && (flags & vfs::kMsgNosignal) == 0)
      ctx.SendSignal(kSigpipe);
    return sent;
  }
  if (type() == kSockSeqpacket) {
    MutexLock lock(end_->mu_);
    if (end_->state != UnixState::kConnected) return Errno::kENOTCONN;
    to = "";
  }
  return SendDatagram(ctx, from, to, std::move(control));
}

// unix_stream_sendmsg().
Result<size_t> UnixSocket::SendStream(vfs::CallContext& ctx, IoBuffer& from, int,
                                      vfs::ControlData control) {
  RefPtr<Endpoint> partner;
  std::string own;
  {
    MutexLock lock(end_->mu_);
    if (!end_->peer) return Errno::kENOTCONN;
    if ((end_->shutdown & kShutSend) != 0) return Errno::kEPIPE;
    partner = end_->peer;
    own = end_->address;
  }
  UnixFlight& flight = end_->ns().flight();
  size_t sent = 0;
  Errno failed = Errno::kEAGAIN;
  while (from.remaining() != 0) {
    if (!end_->HasSendRoom()) break;
    size_t want = std::min({from.remaining(), kMaxPart,
                            static_cast<size_t>(end_->options().send_buffer() / 2 - 64)});
    UnixMessage m;
    m.data.reset(new char[want]);
    Result<size_t> taken = from.Take({m.data.get(), want});
    if (!taken.ok() || *taken == 0) {
      failed = taken.ok() ? Errno::kEFAULT : taken.error();
      break;
    }
    m.length = *taken;
    m.from = own;
    m.creds = SenderOf(ctx, control);
    m.files = std::move(control.files);
    control.files.clear();
    if (!m.files.empty()) {
      if (Result<void> entered = flight.Enter(ctx, m); !entered.ok()) {
        from.Rewind(m.length);
        return entered.error();
      }
    }
    bool broken;
    {
      MutexLock lock(partner->mu_);
      broken = partner->dead || (partner->shutdown & kShutReceive) != 0;
      if (!broken) {
        m.sender = end_;
        m.charge = m.length + kMessageOverhead;
        end_->Charge(m.charge);
        partner->queued_bytes += m.length;
        sent += m.length;
        partner->messages.push_back(std::move(m));
      }
    }
    if (broken) {
      from.Rewind(m.length);
      flight.Leave(m);
      failed = Errno::kEPIPE;
      break;
    }
    partner->queue().Notify(kReadable);
    if (*taken < want) break;  // A later part of the buffer faults.
  }
  if (sent == 0 && from.remaining() != 0) return failed;
  return sent;
}

// unix_dgram_sendmsg().
Result<size_t> UnixSocket::SendDatagram(vfs::CallContext& ctx, IoBuffer& from,
                                        absl::string_view to, vfs::ControlData control) {
  if (end_->options().flag(kSoPasscred)) TRY(Autobind());
  RefPtr<Endpoint> target;
  if (!to.empty()) target = TRY(Find(ctx, to));
  UnixMessage m;
  {
    MutexLock lock(end_->mu_);
    if (!target) target = end_->peer;
    if (!target) return Errno::kENOTCONN;
    if (int error = end_->TakeErrorLocked(); error != 0) return static_cast<Errno>(error);
    if ((end_->shutdown & kShutSend) != 0) return Errno::kEPIPE;
    m.from = end_->address;
  }
  size_t length = from.remaining();
  if (length > end_->options().send_buffer() - 32) return Errno::kEMSGSIZE;
  if (!end_->HasSendRoom()) return Errno::kEAGAIN;
  m.data.reset(new char[length + 1]);
  size_t taken = TRY(from.Take({m.data.get(), length}));
  if (taken != length) return Errno::kEFAULT;
  m.length = length;
  m.creds = SenderOf(ctx, control);
  m.files = std::move(control.files);
  UnixFlight& flight = end_->ns().flight();
  if (!m.files.empty()) TRY(flight.Enter(ctx, m));

  std::optional<Errno> failed;
  bool gone = false;
  {
    MutexLock lock(target->mu_);
    if (target->dead) {
      gone = true;
      failed = type() == kSockSeqpacket ? Errno::kEPIPE : Errno::kECONNREFUSED;
    } else if (!end_->connection_based() && target->peer && target->peer.get() != end_.get()) {
      failed = Errno::kEPERM;
    } else if ((target->shutdown & kShutReceive) != 0) {
      failed = Errno::kEPIPE;
    } else if (!end_->connection_based() && target->DatagramQueueFullLocked(*end_)) {
      target->AddRoomWaiterLocked(*end_);
      failed = Errno::kEAGAIN;
    } else {
      m.sender = end_;
      m.charge = length + kMessageOverhead;
      end_->Charge(m.charge);
      target->queued_bytes += length;
      target->messages.push_back(std::move(m));
    }
  }
  if (failed) {
    from.Rewind(length);
    flight.Leave(m);
    if (gone && !end_->connection_based()) {
      // A peer that has gone is no peer any more.
      MutexLock lock(end_->mu_);
      if (end_->peer == target) {
        end_->peer = nullptr;
        end_->state = UnixState::kClosed;
      }
    }
    return *failed;
  }
  target->queue().Notify(kReadable);
  return length;
}

}  // namespace caisson::netstack
