#include "vfs/gofer/client.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/cpu_affinity.h"
#include "base/log.h"
#include "gofer/protocol/channel.h"

namespace caisson::vfs {

using caisson::gofer::kMaxMessage;
using caisson::gofer::Op;
using caisson::gofer::Writer;

Result<void> GoferReply::status() const {
  if (header.error == 0) return {};
  // A hostile gofer must not hand out restart codes and the like.
  if (header.error < 0 || header.error > 133) return Errno::kEIO;
  if (header.error == ESTALE) return Errno::kESTALE;
  return FromHostErrno(header.error);
}

GoferClient::GoferClient(UniqueFd socket)
    : socket_(std::move(socket)), buffer_(new char[kMaxMessage]) {}

bool GoferClient::broken() const {
  MutexLock lock(mu_);
  return broken_;
}

void GoferClient::BreakLocked() {
  if (broken_) return;
  broken_ = true;
  LOG_ERROR("gofer: the connection is gone; its files fail with EIO");
  // Whoever receives or sends wakes up.
  shutdown(socket_.get(), SHUT_RDWR);
  for (auto& [id, call] : pending_) {
    call->reply.header.error = EIO;
    call->done = true;
    call->cv.Signal();
  }
  pending_.clear();
}

void GoferClient::ReceiveOne() {
  UniqueFd fd;
  ssize_t n;
  mu_.Unlock();
  n = caisson::gofer::ReceivePacket(socket_.get(), buffer_.get(), kMaxMessage, &fd);
  mu_.Lock();
  caisson::gofer::Reader in(absl::string_view(buffer_.get(), n > 0 ? n : 0));
  caisson::gofer::ReplyHeader header;
  if (n <= 0 || !in.Take(&header) || header.size != static_cast<size_t>(n) ||
      ((header.flags & caisson::gofer::kReplyDescriptor) != 0) != fd.valid()) {
    BreakLocked();
    return;
  }
  auto it = pending_.find(header.id);
  if (it == pending_.end()) {
    BreakLocked();  // Nobody asked.
    return;
  }
  Pending& call = *it->second;
  pending_.erase(it);
  call.reply.header = header;
  call.reply.body.assign(in.rest().data(), in.rest().size());
  call.reply.fd = std::move(fd);
  call.done = true;
  call.cv.Signal();
}

Result<GoferReply> GoferClient::Call(Op op, Writer& message) {
  Pending call;
  caisson::gofer::RequestHeader header = {};
  header.op = static_cast<uint16_t>(op);
  header.size = static_cast<uint32_t>(message.size());
  if (message.size() > kMaxMessage) return Errno::kENAMETOOLONG;
  {
    MutexLock lock(mu_);
    if (broken_) return Errno::kEIO;
    header.id = next_id_++;
    pending_[header.id] = &call;
  }
  // The gofer's thread comes to this CPU, which is about to be free.
  const StayOnCpu stay;
  header.cpu = static_cast<uint16_t>(stay.cpu() + 1);
  message.Overwrite(0, header);
  int sent = caisson::gofer::SendPacket(socket_.get(), message.bytes(), -1);

  MutexLock lock(mu_);
  if (sent != 0) BreakLocked();
  while (!call.done) {
    if (receiving_) {
      call.waiting = true;
      call.cv.Wait(mu_);
      call.waiting = false;
      continue;
    }
    receiving_ = true;
    ReceiveOne();
    receiving_ = false;
  }
  // The receiver's place is free: somebody who waits has to take it. Those that still send will
  // look for themselves.
  if (!receiving_) {
    for (auto& [id, other] : pending_) {
      if (!other->waiting) continue;
      other->cv.Signal();
      break;
    }
  }
  if (broken_ && call.reply.header.error == EIO) return Errno::kEIO;
  return std::move(call.reply);
}

bool GoferClient::Post(Op op, Writer& message) {
  caisson::gofer::RequestHeader header = {};
  header.op = static_cast<uint16_t>(op);
  header.size = static_cast<uint32_t>(message.size());
  message.Overwrite(0, header);
  return caisson::gofer::SendPacket(socket_.get(), message.bytes(), -1, true) != EAGAIN;
}

}  // namespace caisson::vfs
