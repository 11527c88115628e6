#include "sentry/boot/control_server.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mutex.h"
#include "sentry/boot/requests.h"
#include "sentry/protocol/channel.h"

namespace caisson::boot {
namespace {

#ifdef CAISSON_SANITIZED
constexpr size_t kRequestStack = 2 << 20;
#else
constexpr size_t kRequestStack = 512 << 10;
#endif
constexpr uint64_t kListenerKey = 0;

// Runs `body` on a detached thread, or here if there is none to be had.
void RunDetached(std::function<void()> body) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kRequestStack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  auto* argument = new std::function<void()>(std::move(body));
  pthread_t thread;
  const auto entry = [](void* p) -> void* {
    std::unique_ptr<std::function<void()>> run(static_cast<std::function<void()>*>(p));
    (*run)();
    return nullptr;
  };
  if (pthread_create(&thread, &attributes, entry, argument) != 0) {
    LOG_WARNING("control: no thread for a request");
    entry(argument);
  }
  pthread_attr_destroy(&attributes);
}

}  // namespace

// A connection is either armed (the poller waits for a request), running (a thread of its own
// reads and answers one) or waiting (for KernelControl::Wait; the poller watches for its end).
class ControlServer::Connection {
 public:
  Connection(uint64_t key, UniqueFd socket, bool owns_sandbox)
      : key(key), socket(std::move(socket)), owns_sandbox(owns_sandbox) {}

  const uint64_t key;
  const UniqueFd socket;
  const bool owns_sandbox;

  bool waiting() {
    MutexLock lock(mu_);
    return waiting_;
  }
  void SetWaiting(bool waiting) {
    MutexLock lock(mu_);
    waiting_ = waiting;
  }
  void SetOwned(OwnedProcess owned) {
    MutexLock lock(mu_);
    owned_ = std::move(owned);
  }
  // An exec'd process whose end was told is nobody's: its pid may come again. A container stays
  // owned until its connection closes.
  void DisownEnded(const std::string& id, int32_t pid) {
    MutexLock lock(mu_);
    if (owned_.pid == pid && pid != 0 && owned_.container_id == id) owned_ = {};
  }
  OwnedProcess TakeOwned() {
    MutexLock lock(mu_);
    return std::exchange(owned_, {});
  }

 private:
  Mutex mu_;
  bool waiting_ ABSL_GUARDED_BY(mu_) = false;
  OwnedProcess owned_ ABSL_GUARDED_BY(mu_);
};

// The epoll instance and the connections on it. Shared with Wait callbacks, which may outlive the
// server.
class ControlServer::Poller {
 public:
  Poller() : epoll_(epoll_create1(EPOLL_CLOEXEC)) { CHECK(epoll_.valid()); }

  int epoll() const { return epoll_.get(); }

  void Listen(int listener) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kListenerKey}};
    CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener, &event) == 0);
  }

  void Add(UniqueFd socket, bool owns_sandbox) {
    std::shared_ptr<Connection> connection;
    {
      MutexLock lock(mu_);
      if (connections_.size() >= kMaxConnections) return;
      connection = std::make_shared<Connection>(++last_key_, std::move(socket), owns_sandbox);
      connections_[connection->key] = connection;
    }
    Control(EPOLL_CTL_ADD, *connection, EPOLLIN | EPOLLRDHUP);
  }

  void Remove(uint64_t key) {
    MutexLock lock(mu_);
    connections_.erase(key);  // The last reference closes the socket, which leaves the epoll.
  }

  std::shared_ptr<Connection> Find(uint64_t key) {
    MutexLock lock(mu_);
    auto it = connections_.find(key);
    return it == connections_.end() ? nullptr : it->second;
  }

  // Waits for the next request, or the end, of `connection`.
  void Arm(const Connection& connection) {
    Control(EPOLL_CTL_MOD, connection, EPOLLIN | EPOLLRDHUP);
  }
  // Waits for its end only.
  void ArmForEnd(const Connection& connection) { Control(EPOLL_CTL_MOD, connection, EPOLLRDHUP); }

  // Requests by which a container may end: the end, on which the monitor kills this process, is
  // told after whoever made the request has been answered.
  void EndingBegins() {
    MutexLock lock(mu_);
    ++ending_;
  }
  void EndingEnds() {
    std::vector<std::function<void()>> postponed;
    {
      MutexLock lock(mu_);
      if (--ending_ == 0) postponed.swap(postponed_);
    }
    for (const auto& action : postponed) action();
  }
  void AfterEnding(std::function<void()> action) {
    {
      MutexLock lock(mu_);
      if (ending_ > 0) {
        postponed_.push_back(std::move(action));
        return;
      }
    }
    action();
  }

  void RequestBegins() {
    MutexLock lock(mu_);
    ++running_;
  }
  void RequestEnds() {
    MutexLock lock(mu_);
    if (--running_ == 0) idle_.Broadcast();
  }
  void AwaitIdle() {
    MutexLock lock(mu_);
    while (running_ > 0) idle_.Wait(mu_);
  }

 private:
  void Control(int operation, const Connection& connection, uint32_t events) {
    epoll_event event{.events = events | EPOLLONESHOT, .data = {.u64 = connection.key}};
    if (epoll_ctl(epoll_.get(), operation, connection.socket.get(), &event) != 0) {
      LOG_WARNING("control: epoll_ctl failed: errno ", errno);
    }
  }

  const UniqueFd epoll_;
  Mutex mu_;
  CondVar idle_;
  uint64_t last_key_ ABSL_GUARDED_BY(mu_) = kListenerKey;
  int running_ ABSL_GUARDED_BY(mu_) = 0;
  int ending_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::function<void()>> postponed_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<uint64_t, std::shared_ptr<Connection>> connections_ ABSL_GUARDED_BY(mu_);
};

ControlServer::ControlServer(KernelControl& kernel, UniqueFd listener)
    : kernel_(kernel), listener_(std::move(listener)), poller_(std::make_shared<Poller>()) {
  if (listener_) poller_->Listen(listener_.get());
}

ControlServer::~ControlServer() { poller_->AwaitIdle(); }

void ControlServer::AddConnection(UniqueFd socket, bool owns_sandbox) {
  poller_->Add(std::move(socket), owns_sandbox);
}

void ControlServer::Run() {
  while (true) {
    epoll_event event{};
    const int n = epoll_wait(poller_->epoll(), &event, 1, -1);
    if (n < 0) {
      CHECK(errno == EINTR);
      continue;
    }
    if (event.data.u64 == kListenerKey) {
      UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (socket) poller_->Add(std::move(socket), false);
      continue;
    }
    ConnectionPtr connection = poller_->Find(event.data.u64);
    if (connection == nullptr) continue;
    const bool hung_up = (event.events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0;
    if (hung_up && connection->owns_sandbox) return;
    poller_->RequestBegins();
    RunDetached([this, connection = std::move(connection), hung_up, poller = poller_] {
      // One that waits has no request to read; of any other, what was sent last is still served.
      if (hung_up && connection->waiting()) {
        End(connection);
      } else {
        Serve(connection);
      }
      poller->RequestEnds();
    });
  }
}

void ControlServer::Serve(const ConnectionPtr& connection) {
  protocol::Request request;
  std::vector<UniqueFd> fds;
  absl::Status received = protocol::ReceiveMessage(connection->socket.get(), &request, &fds, 0);
  if (received.code() == absl::StatusCode::kDeadlineExceeded) {
    poller_->Arm(*connection);  // A spurious wake-up.
    return;
  }
  if (!received.ok()) {
    if (received.code() != absl::StatusCode::kOutOfRange) {
      LOG_WARNING("control: ", received.message());
    }
    End(connection);
    return;
  }
  if (request.kind_case() == protocol::Request::kWait && fds.empty()) {
    BeginWait(connection, request.wait());
    return;
  }
  const bool may_end_it =
      request.has_start_container() || request.has_signal() || request.has_destroy();
  if (may_end_it) poller_->EndingBegins();
  OwnedProcess owned;
  protocol::Reply reply = RunRequest(kernel_, request, std::move(fds), &owned);
  if (!owned.container_id.empty()) connection->SetOwned(std::move(owned));
  SendReply(connection->socket.get(), reply);
  if (may_end_it) poller_->EndingEnds();
  poller_->Arm(*connection);
}

void ControlServer::BeginWait(const ConnectionPtr& connection,
                              const protocol::WaitRequest& wait) {
  connection->SetWaiting(true);
  poller_->ArmForEnd(*connection);
  kernel_.Wait(wait.container_id(), wait.pid(),
               [poller = poller_, weak = std::weak_ptr<Connection>(connection),
                id = wait.container_id(), pid = wait.pid()](const protocol::Reply& reply) {
                 ConnectionPtr waiter = weak.lock();
                 if (waiter == nullptr) return;
                 poller->AfterEnding([poller, waiter, id, pid, reply] {
                   waiter->SetWaiting(false);
                   waiter->DisownEnded(id, pid);
                   SendReply(waiter->socket.get(), reply);
                   poller->Arm(*waiter);
                 });
               });
}

void ControlServer::End(const ConnectionPtr& connection) {
  poller_->Remove(connection->key);
  const OwnedProcess owned = connection->TakeOwned();
  if (owned.container_id.empty()) return;
  if (owned.pid == 0) {
    kernel_.Destroy(owned.container_id);
    return;
  }
  protocol::SignalRequest kill;
  kill.set_container_id(owned.container_id);
  kill.set_pid(owned.pid);
  kill.set_signal(SIGKILL);
  kernel_.Signal(kill);
  // Its end, which nobody else may ask for, is not kept.
  kernel_.Wait(owned.container_id, owned.pid, [](const protocol::Reply&) {});
}

}  // namespace caisson::boot
