// Host files through the gofer: one mount.
#ifndef CAISSON_VFS_GOFER_FILESYSTEM_H_
#define CAISSON_VFS_GOFER_FILESYSTEM_H_

#include <atomic>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vfs/gofer/client.h"
#include "vfs/gofer/convert.h"
#include "vfs/gofer/watcher.h"
#include "vfs/inode.h"

namespace caisson::vfs {

class GoferInode;

// Device numbers of host file systems, as the guest sees them. Mounts that share it agree on which
// of them a file is on: without, a file that two bind mounts show would be two for cp(1) and mv(1).
//
// Thread-safe; the lock is innermost.
class GoferDevices {
 public:
  DeviceNumber Of(uint64_t host_dev) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Mutex mu_;
  absl::flat_hash_map<uint64_t, RefPtr<FileSystem>> devices_ ABSL_GUARDED_BY(mu_);
};

struct GoferOptions {
  std::string type_name = "gofer";  // In /proc/mounts.
  std::string mount_options;        // There too.
  bool read_only = false;           // The gofer enforces its own.
  // Shared by all mounts of a kernel, and outlives them. Null: the mount makes its own thread.
  GoferWatcher* watcher = nullptr;
  // Likewise. Null: the mount has its own.
  GoferDevices* devices = nullptr;
  size_t max_open_files = 512;      // Idle read-only descriptors that are kept.
  size_t max_watches = 8192;        // Directories beyond are asked about at every use.
  size_t max_records = 65536;       // Attributes of listed names that have no inode yet.
  size_t unwatched_looks = 0;       // Before the first watch is placed: see StillWithoutWatch().
  bool host_locks = false;          // Others share the files: locks are the host's too.
};

// How a request names an inode: filled in by Locate(), and keeps the handle that it uses.
class GoferPlace {
 public:
  GoferPlace() = default;
  GoferPlace(GoferPlace&&) = default;
  GoferPlace& operator=(GoferPlace&&) = default;
  ~GoferPlace();
  caisson::gofer::Locator wire = {};
  std::string path;

 private:
  friend class GoferFileSystem;
  RefPtr<GoferInode> pinned_;
};

struct GoferCallResult {
  std::string body;
  UniqueFd fd;
  Result<void> status;
  // Host events of the located directory may have been missed while its watch was being placed.
  bool uncertain = false;
};

// Thread-safe. Lock order, outermost first: place_mu_, a DirectoryCache's, an inode's attr_mu_ and
// file_mu_. open_mu_ and primed_mu_ are taken with none of these held; table_mu_, watch_mu_ and, last,
// release_mu_ are innermost. None is held during a call.
class GoferFileSystem final : public FileSystem, private GoferWatcher::Listener {
 public:
  // Takes the sentry's side of a connection. Errors: EIO, EPROTO, and the gofer's.
  static Result<RefPtr<FileSystem>> Mount(UniqueFd socket, GoferOptions options);
  ~GoferFileSystem() override;

  RefPtr<Inode> root() override;
  Result<FsStatistics> Statistics(CallContext& ctx) override;
  Result<void> Sync() override;
  std::string MountOptions() const override { return options_.mount_options; }
  bool read_only() const override { return options_.read_only; }

  const GoferOptions& options() const { return options_; }
  // Messages sent so far, for tests and counters.
  uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }

  // --- For inodes. ---
  // Sends `op` about `inode`. `body` is the op's request struct, whose first member is the
  // Locator; `tail` follows the locator's path.
  template <typename T>
  Result<GoferCallResult> CallOn(GoferInode& inode, uint16_t flags, caisson::gofer::Op op, T body,
                                 absl::string_view tail = "") {
    return CallOnBytes(inode, flags, op, reinterpret_cast<char*>(&body), sizeof(body), nullptr, 0,
                       tail);
  }
  // With a second Locator at `second_at` in `body`, for `second`.
  template <typename T>
  Result<GoferCallResult> CallOnTwo(GoferInode& inode, GoferInode& second, size_t second_at,
                                    caisson::gofer::Op op, T body, absl::string_view tail) {
    return CallOnBytes(inode, 0, op, reinterpret_cast<char*>(&body), sizeof(body), &second,
                       second_at, tail);
  }
  // The inode with these attributes, which were checked: the one that exists, or a new one.
  RefPtr<GoferInode> MakeInode(const caisson::gofer::WireAttributes& attr);
  void RemoveInode(GoferInode& inode);
  DeviceNumber DeviceOf(uint64_t host_dev);

  // Guards where inodes are (GoferInode's place_ members) and what handles they have.
  Mutex& place_mu() ABSL_LOCK_RETURNED(place_mu_) { return place_mu_; }
  // A handle that `inode` has from now on, unless it has one.
  void AdoptHandle(GoferInode& inode, uint64_t handle) ABSL_LOCKS_EXCLUDED(place_mu_);
  // The inode's handle, which it has no more (0 for none): for Release().
  uint64_t TakeHandleLocked(GoferInode& inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(place_mu_);
  // `handle` (0 for none) and `watch` (-1 for none) are of no more use. Sent in batches.
  void Release(uint64_t handle, int watch, bool soon = false) ABSL_LOCKS_EXCLUDED(release_mu_);

  void ForgetWatch(int watch, GoferInode& directory) ABSL_LOCKS_EXCLUDED(watch_mu_);
  // Keeps the number of idle read-only descriptors, and of records, in bounds.
  void KeepOpen(GoferInode& inode) ABSL_LOCKS_EXCLUDED(open_mu_);
  void DoNotKeepOpen(GoferInode& inode) ABSL_LOCKS_EXCLUDED(open_mu_);
  void KeepRecords(GoferInode& directory) ABSL_LOCKS_EXCLUDED(primed_mu_);
  void DoNotKeepRecords(GoferInode& directory) ABSL_LOCKS_EXCLUDED(primed_mu_);
  // A point in time for answers: of two, the one whose request was sent later wins.
  uint64_t NextStamp() { return stamp_.fetch_add(1, std::memory_order_relaxed) + 1; }
  // To end a watch costs the gofer's exit 10 ms and more (fsnotify waits for SRCU), as much as some
  // hundred questions. So who ends soon asks at each use, and only then are directories watched.
  bool StillWithoutWatch() {
    return looks_.load(std::memory_order_relaxed) < options_.unwatched_looks &&
           looks_.fetch_add(1, std::memory_order_relaxed) < options_.unwatched_looks;
  }
  bool watches_work() const { return watching_.load(std::memory_order_acquire); }

 private:
  friend class GoferPlace;
  GoferFileSystem(UniqueFd socket, GoferOptions options);
  void OnLastUnmount() override;
  bool OnHostEvent(int watch, uint32_t mask, uint32_t cookie, absl::string_view name) override;
  void OnEventsLost(bool ended) override;

  Result<GoferCallResult> CallOnBytes(GoferInode& inode, uint16_t flags, caisson::gofer::Op op,
                                      char* body, size_t size, GoferInode* second,
                                      size_t second_at, absl::string_view tail);
  // Errors: ENOENT, if the inode has lost its name and has no handle.
  Result<GoferPlace> Locate(GoferInode& inode, uint16_t flags) ABSL_LOCKS_EXCLUDED(place_mu_);
  bool AdoptWatch(int watch, GoferInode& directory, uint64_t unknown_before)
      ABSL_LOCKS_EXCLUDED(watch_mu_);
  void DropRecordsPlaceLocked(GoferInode& directory) ABSL_EXCLUSIVE_LOCKS_REQUIRED(primed_mu_);
  void TrimHandles() ABSL_EXCLUSIVE_LOCKS_REQUIRED(place_mu_);
  void FlushReleasesLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(release_mu_);

  GoferOptions options_;
  GoferClient client_;
  std::unique_ptr<GoferWatcher> own_watcher_;
  GoferWatcher* watcher_ = nullptr;
  size_t max_handles_ = 0;
  // Host file systems mounted below the root have devices of their own.
  std::unique_ptr<GoferDevices> own_devices_;
  GoferDevices* devices_ = nullptr;
  std::atomic<size_t> looks_{0};  // Into directories without watch; not beyond unwatched_looks.
  std::atomic<bool> watching_{false};
  std::atomic<uint64_t> calls_{0};  // Relaxed, as the next.
  std::atomic<uint64_t> stamp_{0};

  Mutex place_mu_;
  std::vector<GoferInode*> handle_ring_ ABSL_GUARDED_BY(place_mu_);  // Those with a handle.
  size_t handle_hand_ ABSL_GUARDED_BY(place_mu_) = 0;

  Mutex table_mu_;
  RefPtr<GoferInode> root_ ABSL_GUARDED_BY(table_mu_);
  absl::flat_hash_map<HostId, GoferInode*> inodes_ ABSL_GUARDED_BY(table_mu_);  // Weak.

  Mutex watch_mu_;
  absl::flat_hash_map<int, GoferInode*> watches_ ABSL_GUARDED_BY(watch_mu_);  // Weak.
  uint64_t unknown_events_ ABSL_GUARDED_BY(watch_mu_) = 0;

  Mutex release_mu_;
  std::vector<uint64_t> released_handles_ ABSL_GUARDED_BY(release_mu_);
  std::vector<int32_t> released_watches_ ABSL_GUARDED_BY(release_mu_);

  Mutex open_mu_;
  std::vector<GoferInode*> open_ring_ ABSL_GUARDED_BY(open_mu_);
  size_t open_hand_ ABSL_GUARDED_BY(open_mu_) = 0;

  Mutex primed_mu_;
  std::list<GoferInode*> primed_ ABSL_GUARDED_BY(primed_mu_);  // Oldest first.
  size_t primed_records_ ABSL_GUARDED_BY(primed_mu_) = 0;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_GOFER_FILESYSTEM_H_
