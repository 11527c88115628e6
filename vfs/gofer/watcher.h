// Host events: what other processes do to files that we cache.
#ifndef CAISSON_VFS_GOFER_WATCHER_H_
#define CAISSON_VFS_GOFER_WATCHER_H_

#include <cstdint>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace caisson::vfs {

// Reads the inotify queues that gofers donated: one thread for all mounts of a kernel, which sleeps
// until something happens. Thread-safe.
class GoferWatcher {
 public:
  class Listener {
   public:
    // On the watcher's thread. `name` is empty for the directory itself. The result says whether
    // the event may be one of many from the guest's own writing.
    virtual bool OnHostEvent(int watch, uint32_t mask, uint32_t cookie, absl::string_view name) = 0;
    // Events were lost, or nothing more will come (`ended`).
    virtual void OnEventsLost(bool ended) = 0;

   protected:
    ~Listener() = default;
  };

  GoferWatcher();
  ~GoferWatcher();
  GoferWatcher(const GoferWatcher&) = delete;
  GoferWatcher& operator=(const GoferWatcher&) = delete;

  // Takes the queue over. False if it cannot be watched.
  bool Add(UniqueFd queue, Listener& listener) ABSL_LOCKS_EXCLUDED(mu_);
  // No call of `listener` runs or will run after it returns (unless it is called from one).
  void Remove(Listener& listener) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Source {
    UniqueFd queue;
    Listener* listener;  // Null: removed.
    uint64_t key;
  };
  void Run();
  // False at the queue's end. Sets *own_writes as OnHostEvent returned it for all events.
  bool Drain(Source& source, bool* own_writes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  UniqueFd epoll_;
  UniqueFd stop_;
  Mutex mu_;  // Held while listeners run: outside of all locks of the file system.
  std::vector<Source> sources_ ABSL_GUARDED_BY(mu_);
  uint64_t next_key_ ABSL_GUARDED_BY(mu_) = 1;
  std::thread thread_;  // Last: it uses the rest.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_GOFER_WATCHER_H_
