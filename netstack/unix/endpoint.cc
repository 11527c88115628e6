#include "netstack/unix/endpoint.h"

#include <errno.h>

#include <utility>

#include "netstack/unix/namespace.h"

namespace caisson::netstack {

UnixMessage::~UnixMessage() {
  if (sender) sender->Uncharge(charge);
}

Endpoint::Endpoint(RefPtr<UnixNamespace> ns, int type, uint64_t ino)
    : max_datagram_queue_(ns->max_datagram_queue.load(std::memory_order_relaxed)),
      ns_(std::move(ns)), type_(type), ino_(ino) {
  ns_->Register(*this);
}

Endpoint::~Endpoint() { ns_->Unregister(*this); }

bool Endpoint::DatagramQueueFullLocked(const Endpoint& sender) const {
  return &sender != this && peer.get() != &sender && messages.size() > max_datagram_queue_;
}

void Endpoint::Uncharge(size_t n) {
  charged_.fetch_sub(n, std::memory_order_relaxed);
  if (Writable()) queue_.Notify(kWritable);
}

void Endpoint::AddRoomWaiterLocked(Endpoint& who) {
  room_waiters_.try_emplace(&who, RefPtr<Endpoint>(&who));
}

void Endpoint::WakeRoomWaiters() {
  absl::flat_hash_map<Endpoint*, RefPtr<Endpoint>> woken;
  {
    MutexLock lock(mu_);
    woken.swap(room_waiters_);
  }
  for (auto& [waiter, ref] : woken) waiter->queue().Notify(kWritable);
}

int Endpoint::TakeErrorLocked() { return std::exchange(error, 0); }

// unix_poll() and unix_dgram_poll().
EventMask Endpoint::Readiness() {
  EventMask events = 0;
  RefPtr<Endpoint> target;
  {
    MutexLock lock(mu_);
    if (error != 0) events |= kEventErr;
    if (shutdown == kShutBoth) events |= kEventHup;
    if ((shutdown & kShutReceive) != 0) events |= kEventRdHup | kReadable;
    if (!messages.empty() || !backlog.empty()) events |= kReadable;
    if (connection_based() && state == UnixState::kClosed) events |= kEventHup;
    if (state == UnixState::kListening || !Writable()) return events;
    if (!connection_based()) target = peer;
  }
  if (target) {
    MutexLock lock(target->mu_);
    if (target->DatagramQueueFullLocked(*this)) {
      target->AddRoomWaiterLocked(*this);
      return events;
    }
  }
  return events | kWritable | kEventWrBand;
}

void Endpoint::Release(bool embryo) {
  std::vector<UnixMessage> unread;
  std::deque<RefPtr<Endpoint>> embryos;
  RefPtr<Endpoint> partner;
  vfs::VfsPath where;
  std::string name;
  {
    MutexLock lock(mu_);
    if (dead) return;
    dead = true;
    shutdown = kShutBoth;
    state = UnixState::kClosed;
    for (UnixMessage& m : messages) unread.push_back(std::move(m));
    messages.clear();
    queued_bytes = 0;
    embryos.swap(backlog);
    partner = std::move(peer);
    std::swap(where, place);
    name = address;
  }
  ns_->Unregister(*this);
  if (name.size() > 2 && name[2] == '\0')
    ns_->UnbindAbstract(*this, absl::string_view(name).substr(3));
  if (partner && connection_based()) {
    {
      MutexLock lock(partner->mu_);
      partner->shutdown = kShutBoth;
      if (!unread.empty() || embryo) partner->error = ECONNRESET;
    }
    partner->queue().Notify(kReadable | kWritable | kEventHup | kEventRdHup | kEventErr);
  }
  for (const RefPtr<Endpoint>& e : embryos) e->Release(/*embryo=*/true);
  WakeRoomWaiters();
  UnixFlight& flight = ns_->flight();
  if (!unread.empty()) flight.Bury(std::move(unread));
  if (!embryo) flight.OnRelease();
}

}  // namespace caisson::netstack
