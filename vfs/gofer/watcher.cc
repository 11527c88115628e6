#include "vfs/gofer/watcher.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace caisson::vfs {

namespace {

constexpr uint64_t kStopKey = 0;
// While the guest itself writes to watched files, the queue is looked at this often only.
constexpr timespec kOwnWritesPause = {0, 4'000'000};

}  // namespace

GoferWatcher::GoferWatcher()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kStopKey;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), &event) == 0)
    thread_ = std::thread([this] { Run(); });
}

GoferWatcher::~GoferWatcher() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t n = write(stop_.get(), &one, sizeof(one));
  if (thread_.joinable()) thread_.join();
}

bool GoferWatcher::Add(UniqueFd queue, Listener& listener) {
  int flags = fcntl(queue.get(), F_GETFL);
  // A hostile gofer may have sent anything; reading must not block, whatever it is.
  if (!thread_.joinable() || flags < 0 || (flags & O_NONBLOCK) == 0) return false;
  MutexLock lock(mu_);
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = next_key_;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, queue.get(), &event) != 0) return false;
  sources_.push_back({std::move(queue), &listener, next_key_++});
  return true;
}

void GoferWatcher::Remove(Listener& listener) {
  if (std::this_thread::get_id() == thread_.get_id()) {
    mu_.AssertHeld();
    for (Source& s : sources_)
      if (s.listener == &listener) s.listener = nullptr;
    return;
  }
  MutexLock lock(mu_);
  sources_.erase(std::remove_if(sources_.begin(), sources_.end(),
                                [&](const Source& s) { return s.listener == &listener; }),
                 sources_.end());
}

bool GoferWatcher::Drain(Source& source, bool* own_writes) {
  alignas(inotify_event) char buffer[16384];
  for (;;) {
    ssize_t n = read(source.queue.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    if (n <= 0) return false;
    for (ssize_t i = 0; i + static_cast<ssize_t>(sizeof(inotify_event)) <= n;) {
      inotify_event event;
      memcpy(&event, buffer + i, sizeof(event));
      const char* name = buffer + i + sizeof(event);
      i += static_cast<ssize_t>(sizeof(event));
      if (event.len > static_cast<size_t>(n - i)) return false;
      i += event.len;
      if (source.listener == nullptr) continue;
      if ((event.mask & IN_Q_OVERFLOW) != 0) {
        source.listener->OnEventsLost(false);
        continue;
      }
      absl::string_view text(name, strnlen(name, event.len));
      if (!source.listener->OnHostEvent(event.wd, event.mask, event.cookie, text))
        *own_writes = false;
    }
    if (static_cast<size_t>(n) < sizeof(buffer) / 2) return true;
  }
}

void GoferWatcher::Run() {
  for (;;) {
    epoll_event event;
    int n = epoll_wait(epoll_.get(), &event, 1, -1);
    if (n < 0 && errno != EINTR) return;
    if (n <= 0) continue;
    if (event.data.u64 == kStopKey) return;
    bool own_writes = true;
    {
      MutexLock lock(mu_);
      auto it = std::find_if(sources_.begin(), sources_.end(),
                             [&](const Source& s) { return s.key == event.data.u64; });
      if (it == sources_.end()) continue;
      bool more = Drain(*it, &own_writes);
      if (!more || it->listener == nullptr) {
        if (it->listener != nullptr) it->listener->OnEventsLost(true);
        sources_.erase(it);
      }
    }
    if (own_writes) nanosleep(&kOwnWritesPause, nullptr);
  }
}

}  // namespace caisson::vfs
