#include "vfs/host/host_poller.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"

namespace caisson::vfs {

HostPoller::HostPoller()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CHECK(epoll_.valid() && stop_.valid());
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 0;
  CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), &event) == 0);
}

HostPoller::~HostPoller() {
  std::thread thread;
  {
    MutexLock lock(mu_);
    CHECK(clients_.empty());
    stopping_ = true;
    thread = std::move(thread_);
  }
  uint64_t one = 1;
  CHECK(write(stop_.get(), &one, sizeof(one)) == sizeof(one));
  if (thread.joinable()) thread.join();
}

bool HostPoller::Add(Client& client, int host_fd) {
  MutexLock lock(mu_);
  epoll_event event = {};
  event.events = EPOLLONESHOT;
  event.data.u64 = next_id_;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, host_fd, &event) != 0) return false;
  client.id_ = next_id_++;
  client.host_fd_ = host_fd;
  client.armed_ = 0;
  clients_.emplace(client.id_, &client);
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  return true;
}

void HostPoller::Remove(Client& client) {
  MutexLock lock(mu_);
  if (client.id_ == 0) return;
  clients_.erase(client.id_);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, client.host_fd_, nullptr);
  client.id_ = 0;
}

void HostPoller::Arm(Client& client, EventMask events) {
  MutexLock lock(mu_);
  if (client.id_ == 0 || (client.armed_ & events) == events) return;
  client.armed_ |= events;
  epoll_event event = {};
  event.events = client.armed_ | EPOLLONESHOT;
  event.data.u64 = client.id_;
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, client.host_fd_, &event);
}

void HostPoller::Run() {
  for (;;) {
    epoll_event events[16];
    int n = epoll_wait(epoll_.get(), events, 16, -1);
    if (n < 0 && errno == EINTR) continue;
    CHECK(n >= 0);
    MutexLock lock(mu_);
    if (stopping_) return;
    for (int i = 0; i < n; ++i) {
      auto it = clients_.find(events[i].data.u64);
      if (it == clients_.end()) continue;
      Client& client = *it->second;
      EventMask got = events[i].events;
      // A hang-up concerns everybody; else those who wait for something else go on waiting.
      client.armed_ = (got & (kEventErr | kEventHup)) != 0 ? 0 : client.armed_ & ~got;
      if (client.armed_ != 0) {
        epoll_event again = {};
        again.events = client.armed_ | EPOLLONESHOT;
        again.data.u64 = client.id_;
        epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, client.host_fd_, &again);
      }
      client.OnHostEvent(got);
    }
  }
}

}  // namespace caisson::vfs
