// Receiving on AF_UNIX sockets.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "netstack/unix/unix_socket.h"

namespace caisson::netstack {
namespace {

using Parts = absl::InlinedVector<UnixMessage, 4>;

bool SameSender(const vfs::ControlData::Creds& a, const vfs::ControlData::Creds& b) {
  return a.process.number == b.process.number && a.uid == b.uid && a.gid == b.gid;
}

// What goes to the receiver besides data; says MSG_CTRUNC where it could not be taken.
void FillControl(vfs::ReceiveResult* result, bool want_control, bool pass_creds,
                 const vfs::ControlData::Creds& creds,
                 std::vector<RefPtr<vfs::FileDescription>> files) {
  if (!want_control) {
    if (pass_creds || !files.empty()) result->flags |= vfs::kMsgCtrunc;
    return;  // Files are dropped here, as by scm_destroy().
  }
  if (pass_creds) result->control.creds = creds;
  result->control.files = std::move(files);
}

}  // namespace

Result<size_t> UnixSocket::NothingToReceive(int flags) {
  if (int error = end_->TakeErrorLocked(); error != 0) return static_cast<Errno>(error);
  if ((end_->shutdown & kShutReceive) == 0) return Errno::kEAGAIN;
  // A datagram socket says so only to those who would wait (__skb_wait_for_more_packets()).
  if (type() == kSockDgram && (nonblocking() || (flags & vfs::kMsgDontwait) != 0))
    return Errno::kEAGAIN;
  return size_t{0};
}

Result<vfs::ReceiveResult> UnixSocket::Receive(vfs::CallContext& ctx, IoBuffer& to, int flags,
                                               bool want_control) {
  if ((flags & vfs::kMsgOob) != 0) return Errno::kEOPNOTSUPP;
  if ((flags & vfs::kMsgErrqueue) != 0) return Errno::kEAGAIN;  // Nothing ever is there.
  if (type() == kSockStream) return ReceiveStream(ctx, to, flags, want_control);
  return ReceiveDatagram(ctx, to, flags, want_control);
}

// __unix_dgram_recvmsg().
Result<vfs::ReceiveResult> UnixSocket::ReceiveDatagram(vfs::CallContext&, IoBuffer& to, int flags,
                                                       bool want_control) {
  const bool peek = (flags & vfs::kMsgPeek) != 0;
  const bool pass_creds = end_->options().flag(kSoPasscred);
  vfs::ReceiveResult result;
  UnixMessage m;
  size_t skip = 0;
  {
    MutexLock lock(end_->mu_);
    if (type() == kSockSeqpacket && end_->state != UnixState::kConnected) return Errno::kENOTCONN;
    if (end_->messages.empty()) {
      result.bytes = TRY(NothingToReceive(flags));
      return result;
    }
    if (!peek) {
      m = std::move(end_->messages.front());
      end_->messages.pop_front();
      end_->queued_bytes -= m.length;
      if (end_->peek_offset > 0)
        end_->peek_offset = std::max<int64_t>(end_->peek_offset - static_cast<int64_t>(m.length), 0);
    } else {
      size_t index = 0;
      if (end_->peek_offset > 0) {
        skip = static_cast<size_t>(end_->peek_offset);
        while (index + 1 < end_->messages.size() && skip >= end_->messages[index].length)
          skip -= end_->messages[index++].length;
        if (skip >= end_->messages[index].length && end_->messages[index].length != 0) {
          return Errno::kEAGAIN;  // All that is there was looked at.
        }
      }
      const UnixMessage& seen = end_->messages[index];
      size_t n = std::min(seen.length - std::min(skip, seen.length), to.remaining());
      m.data.reset(new char[seen.length + 1]);
      memcpy(m.data.get() + skip, seen.data.get() + seen.offset + skip, n);
      m.length = seen.length;
      m.from = seen.from;
      m.creds = seen.creds;
      m.files = seen.files;
      if (end_->peek_offset >= 0) end_->peek_offset += static_cast<int32_t>(n);
    }
  }
  std::vector<RefPtr<vfs::FileDescription>> files;
  if (peek) {
    files = std::exchange(m.files, {});  // Copies, which were never counted as in flight.
  } else {
    files = end_->ns().flight().Leave(m);
    end_->WakeRoomWaiters();
  }
  size_t whole = m.length - std::min(skip, m.length);
  size_t n = std::min(whole, to.remaining());
  if (n != 0) {
    size_t put = TRY(to.Put({m.data.get() + m.offset + skip, n}));
    if (put < n) return Errno::kEFAULT;
  }
  if (n < whole) result.flags |= vfs::kMsgTrunc;
  result.bytes = (flags & vfs::kMsgTrunc) != 0 ? whole : n;
  result.address = std::move(m.from);
  FillControl(&result, want_control, pass_creds, m.creds, std::move(files));
  return result;
}

namespace {

// What of a stream's queue goes to one call. Messages that are used up are moved here whole, with
// their charge; of the last one a part may be copied.
struct StreamPiece {
  Parts parts;
  vfs::ControlData::Creds creds;
  std::string address;
  // Files of parts[files_part], which is the last; still counted as in flight if taken.
  UnixMessage carrier;
  size_t files_part = ~size_t{0};
};

UnixMessage CopyPart(const UnixMessage& m, size_t skip, size_t n) {
  UnixMessage part;
  part.data.reset(new char[n]);
  memcpy(part.data.get(), m.data.get() + m.offset + skip, n);
  part.length = n;
  part.from = m.from;
  part.creds = m.creds;
  return part;
}

// Whether `m` may follow what is in `piece`: where the receiver looks at senders, their bytes are
// not mixed.
bool MayFollow(const StreamPiece& piece, const UnixMessage& m, bool pass_creds) {
  return piece.parts.empty() || !pass_creds || SameSender(piece.creds, m.creds);
}

void TakeStream(Endpoint& end, size_t want, bool pass_creds, StreamPiece* piece)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(end.mu_) {
  size_t got = 0;
  while (got < want && !end.messages.empty()) {
    UnixMessage& m = end.messages.front();
    if (!MayFollow(*piece, m, pass_creds)) break;
    if (piece->parts.empty()) {
      piece->creds = m.creds;
      piece->address = m.from;
    }
    bool with_files = !m.files.empty();
    if (with_files) {
      piece->carrier.files.swap(m.files);
      piece->carrier.flight_user = m.flight_user;
      piece->files_part = piece->parts.size();
    }
    size_t n = std::min(m.length, want - got);
    got += n;
    if (n == m.length) {
      piece->parts.push_back(std::move(m));
      end.messages.pop_front();
    } else {
      piece->parts.push_back(CopyPart(m, 0, n));
      m.offset += n;
      m.length -= n;
    }
    if (with_files) break;
  }
  end.queued_bytes -= got;
  if (end.peek_offset > 0)
    end.peek_offset = static_cast<int32_t>(
        std::max<int64_t>(end.peek_offset - static_cast<int64_t>(got), 0));
}

void PeekStream(Endpoint& end, size_t want, bool pass_creds, StreamPiece* piece)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(end.mu_) {
  size_t got = 0, skip = end.peek_offset > 0 ? static_cast<size_t>(end.peek_offset) : 0;
  for (const UnixMessage& m : end.messages) {
    if (got == want) break;
    if (skip >= m.length) {
      skip -= m.length;
      continue;
    }
    if (!MayFollow(*piece, m, pass_creds)) break;
    if (piece->parts.empty()) {
      piece->creds = m.creds;
      piece->address = m.from;
    }
    size_t n = std::min(m.length - skip, want - got);
    piece->parts.push_back(CopyPart(m, skip, n));
    got += n;
    skip = 0;
    if (!m.files.empty()) {
      piece->carrier.files = m.files;
      break;
    }
  }
  if (end.peek_offset >= 0) end.peek_offset += static_cast<int32_t>(got);
}

// Guest memory faulted: what is left of `piece` from `index` on goes back.
void ReturnStream(Endpoint& end, StreamPiece& piece, size_t index) ABSL_LOCKS_EXCLUDED(end.mu_) {
  if (piece.files_part != ~size_t{0} && piece.files_part >= index &&
      piece.parts[piece.files_part].offset == 0) {
    UnixMessage& m = piece.parts[piece.files_part];
    m.files.swap(piece.carrier.files);
    m.flight_user = piece.carrier.flight_user;
  }
  MutexLock lock(end.mu_);
  for (size_t i = piece.parts.size(); i-- > index;) {
    end.queued_bytes += piece.parts[i].length;
    end.messages.push_front(std::move(piece.parts[i]));
  }
}

}  // namespace

// unix_stream_read_generic(). What is received leaves the queue before it is copied to the guest,
// exactly as much as was asked for, so that concurrent readers see it neither twice nor disordered.
Result<vfs::ReceiveResult> UnixSocket::ReceiveStream(vfs::CallContext&, IoBuffer& to, int flags,
                                                     bool want_control) {
  const bool peek = (flags & vfs::kMsgPeek) != 0;
  const bool pass_creds = end_->options().flag(kSoPasscred);
  vfs::ReceiveResult result;
  StreamPiece piece;
  {
    MutexLock lock(end_->mu_);
    if (end_->state != UnixState::kConnected) return Errno::kEINVAL;
    if (to.remaining() == 0) return result;
    if (peek) {
      PeekStream(*end_, to.remaining(), pass_creds, &piece);
    } else {
      TakeStream(*end_, to.remaining(), pass_creds, &piece);
    }
    if (piece.parts.empty()) {
      result.bytes = TRY(NothingToReceive(flags));
      return result;
    }
  }
  for (size_t i = 0; i < piece.parts.size(); ++i) {
    UnixMessage& m = piece.parts[i];
    Result<size_t> put = to.Put({m.data.get() + m.offset, m.length});
    size_t n = put.ok() ? *put : 0;
    result.bytes += n;
    if (n == m.length) continue;
    m.offset += n;
    m.length -= n;
    if (!peek) ReturnStream(*end_, piece, i);
    if (result.bytes == 0) return put.ok() ? Errno::kEFAULT : put.error();
    break;
  }
  result.address = std::move(piece.address);
  std::vector<RefPtr<vfs::FileDescription>> files =
      peek ? std::move(piece.carrier.files) : end_->ns().flight().Leave(piece.carrier);
  FillControl(&result, want_control, pass_creds, piece.creds, std::move(files));
  return result;
}

}  // namespace caisson::netstack
