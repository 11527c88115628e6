// Files in flight, and what to do with sockets that only each other's messages refer to (Linux
// net/unix/garbage.c).
#include <algorithm>
#include <utility>
#include <vector>

#include "auth/credentials.h"
#include "netstack/unix/namespace.h"
#include "netstack/unix/unix_socket.h"

namespace caisson::netstack {
namespace {

// The endpoint behind a file, if that is an AF_UNIX socket.
Endpoint* EndpointOf(vfs::FileDescription& file) {
  if (file.kind() != vfs::FileKind::kSocket) return nullptr;
  if (static_cast<vfs::Socket&>(file).domain() != kAfUnix) return nullptr;
  return static_cast<UnixSocket&>(file).endpoint().get();
}

// References that the collector takes: let go of without its lock, since they may be the last ones.
using Kept = std::vector<RefPtr<Endpoint>>;

// Calls `f` for each endpoint whose socket is in a message to `to`, or to a connection that waits
// at it to be accepted. Such connections are kept in `kept`.
template <typename F>
void ForEachChild(Endpoint& to, Kept* kept, F f) {
  auto scan = [&f](const std::deque<UnixMessage>& messages) {
    for (const UnixMessage& m : messages) {
      for (const auto& file : m.files) {
        if (Endpoint* child = EndpointOf(*file)) f(*child);
      }
    }
  };
  const size_t first = kept->size();
  {
    MutexLock lock(to.mu_);
    scan(to.messages);
    kept->insert(kept->end(), to.backlog.begin(), to.backlog.end());
  }
  for (size_t i = first; i < kept->size(); ++i) {
    Endpoint& embryo = *(*kept)[i];
    MutexLock lock(embryo.mu_);
    scan(embryo.messages);
  }
}

void TakeMessagesWithFiles(Endpoint& from, std::vector<UnixMessage>* out) {
  MutexLock lock(from.mu_);
  std::deque<UnixMessage> kept;
  for (UnixMessage& m : from.messages) {
    if (m.files.empty()) {
      kept.push_back(std::move(m));
    } else {
      from.queued_bytes -= m.length;
      out->push_back(std::move(m));
    }
  }
  from.messages.swap(kept);
}

}  // namespace

int64_t UnixFlight::files() const {
  MutexLock lock(mu_);
  return files_;
}

void UnixFlight::CountLocked(UnixMessage& message, int by) {
  int64_t n = static_cast<int64_t>(message.files.size()) * by;
  files_ += n;
  int64_t& of_user = by_user_[message.flight_user];
  of_user += n;
  if (of_user == 0) by_user_.erase(message.flight_user);
  for (const auto& file : message.files) {
    Endpoint* end = EndpointOf(*file);
    if (end == nullptr) continue;
    end->in_flight += by;
    if (end->in_flight == 0) {
      sockets_.erase(end);
    } else {
      sockets_.insert(end);
    }
  }
}

Result<void> UnixFlight::Enter(vfs::CallContext& ctx, UnixMessage& message) {
  const auth::Credentials& creds = ctx.creds();
  message.flight_user = creds.ruid;
  bool collect;
  {
    MutexLock lock(mu_);
    collect = sockets_.size() >= collect_at_;
  }
  // Where sockets go into flight together, both ends of each, none is ever released (Linux wait_for_unix_gc()).
  if (collect) Collect();
  MutexLock lock(mu_);
  auto it = by_user_.find(creds.ruid);
  // too_many_unix_fds(): looked at before this message is added.
  if (it != by_user_.end() && static_cast<uint64_t>(it->second) > ctx.open_file_limit() &&
      !creds.HasRootCapability(auth::Capability::kSysResource) &&
      !creds.HasRootCapability(auth::Capability::kSysAdmin))
    return Errno::kETOOMANYREFS;
  CountLocked(message, 1);
  return {};
}

std::vector<RefPtr<vfs::FileDescription>> UnixFlight::Leave(UnixMessage& message) {
  if (message.files.empty()) return {};
  MutexLock lock(mu_);
  CountLocked(message, -1);
  return std::exchange(message.files, {});
}

void UnixFlight::Bury(std::vector<UnixMessage> messages) {
  {
    MutexLock lock(grave_mu_);
    for (UnixMessage& m : messages) grave_.push_back(std::move(m));
    messages.clear();
    if (std::exchange(burying_, true)) return;  // Whoever is at it takes these too.
  }
  for (;;) {
    std::vector<UnixMessage> batch;
    {
      MutexLock lock(grave_mu_);
      batch.swap(grave_);
      if (batch.empty()) {
        burying_ = false;
        if (!std::exchange(collect_after_burial_, false)) return;
        break;
      }
    }
    // The release of a socket comes back to Bury(), which then only adds to the list.
    for (UnixMessage& m : batch) Leave(m);
  }
  Collect();
}

void UnixFlight::OnRelease() {
  {
    MutexLock lock(mu_);
    if (sockets_.empty() || ++releases_ <= sockets_.size() / 8) return;
  }
  {
    // In the middle of a burial, which collects once when it is through: of a chain of sockets each
    // release would be followed by a look at all that are left.
    MutexLock lock(grave_mu_);
    if (burying_) {
      collect_after_burial_ = true;
      return;
    }
  }
  Collect();
}

// A socket whose every reference is in a message is a candidate. Candidates that are referred to
// only from queues of candidates which themselves cannot be reached are garbage. A message on its
// way between queues counts as a reference from outside, and counts change only under mu_, so what
// moves meanwhile makes things look alive, never dead.
void UnixFlight::Collect() {
  while (CollectOnce()) {
  }
  // Twice as many as are alive, so that the cost for each that enters stays bounded.
  MutexLock lock(mu_);
  collect_at_ = std::max(kCollectAtLeast, 2 * sockets_.size());
}

// True if what it dropped asks for another look.
bool UnixFlight::CollectOnce() {
  Kept kept;
  std::vector<UnixMessage> garbage;
  {
    MutexLock lock(mu_);
    if (collecting_) {
      collect_again_ = true;  // Whoever is at it, perhaps further up on our own stack.
      return false;
    }
    releases_ = 0;
    std::vector<Endpoint*> candidates;
    for (Endpoint* end : sockets_) {
      end->external = -1;
      end->reachable = true;
      if (end->file != nullptr && end->file->ref_count() == end->in_flight) {
        end->external = end->in_flight;
        end->reachable = false;
        candidates.push_back(end);
      }
    }
    if (candidates.empty()) return false;
    for (Endpoint* end : candidates) {
      ForEachChild(*end, &kept, [](Endpoint& child) {
        if (!child.reachable) --child.external;
      });
    }
    std::vector<Endpoint*> reached;
    for (Endpoint* end : candidates) {
      if (end->external > 0) reached.push_back(end);
    }
    for (Endpoint* end : reached) end->reachable = true;
    while (!reached.empty()) {
      Endpoint* end = reached.back();
      reached.pop_back();
      ForEachChild(*end, &kept, [&reached](Endpoint& child) {
        if (std::exchange(child.reachable, true)) return;
        reached.push_back(&child);
      });
    }
    for (Endpoint* end : candidates) {
      if (end->reachable) continue;
      TakeMessagesWithFiles(*end, &garbage);
      const size_t first = kept.size();
      {
        MutexLock end_lock(end->mu_);
        kept.insert(kept.end(), end->backlog.begin(), end->backlog.end());
      }
      for (size_t i = first; i < kept.size(); ++i) TakeMessagesWithFiles(*kept[i], &garbage);
    }
    if (garbage.empty()) return false;
    collecting_ = true;  // The releases below come back here.
  }
  Bury(std::move(garbage));
  MutexLock lock(mu_);
  collecting_ = false;
  return std::exchange(collect_again_, false);
}

}  // namespace caisson::netstack
