// One thread that waits for host descriptors on behalf of all host files.
#ifndef CAISSON_VFS_HOST_HOST_POLLER_H_
#define CAISSON_VFS_HOST_HOST_POLLER_H_

#include <cstdint>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/unique_fd.h"
#include "base/wait_queue.h"

namespace caisson::vfs {

// Tells who asked when a host descriptor becomes ready. Nobody waiting means no wake-ups: each
// interest is told once and must be asked for again. Thread-safe. It outlives its clients.
class HostPoller {
 public:
  // A descriptor that is watched. Embedded in its owner.
  class Client {
   public:
    // On the poller's thread, under its lock: must neither block nor call the poller.
    virtual void OnHostEvent(EventMask events) = 0;

   protected:
    ~Client() = default;

   private:
    friend class HostPoller;
    uint64_t id_ = 0;  // 0: not registered.
    int host_fd_ = -1;
    EventMask armed_ = 0;
  };

  HostPoller();
  ~HostPoller();
  HostPoller(const HostPoller&) = delete;
  HostPoller& operator=(const HostPoller&) = delete;

  // False if the descriptor cannot be polled (regular files, /dev/null): it is always ready. The
  // descriptor stays open until Remove().
  bool Add(Client& client, int host_fd);
  void Remove(Client& client);
  // OnHostEvent() will be called once for each of `events` when it holds, perhaps at once.
  void Arm(Client& client, EventMask events);

 private:
  void Run();

  const UniqueFd epoll_;
  const UniqueFd stop_;
  Mutex mu_;
  absl::flat_hash_map<uint64_t, Client*> clients_ ABSL_GUARDED_BY(mu_);
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mu_);  // Started with the first client.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_HOST_HOST_POLLER_H_
