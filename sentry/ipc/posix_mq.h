// POSIX message queues (mq_overview(7); Linux ipc/mqueue.c): the file system "mqueue" of an IPC
// namespace, and its queues.
#ifndef CAISSON_SENTRY_IPC_POSIX_MQ_H_
#define CAISSON_SENTRY_IPC_POSIX_MQ_H_

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "auth/user_counts.h"
#include "vfs/file_description.h"
#include "vfs/inode.h"

namespace caisson::ipc {

// struct mq_attr as the system calls pass it.
struct MqAttributes {
  int64_t flags = 0, max_messages = 0, message_size = 0, current = 0;
  int64_t reserved[4] = {};
};
static_assert(sizeof(MqAttributes) == 64);

class PosixQueues;

// One queue. Thread-safe. Nothing here waits: EAGAIN, and the caller waits on queue().
class PosixQueue final : public vfs::Inode {
 public:
  static constexpr uint32_t kMaxPriority = 32768;
  struct Message {
    uint32_t priority = 0;
    std::string text;
  };
  // Whom mq_notify(2) tells. `tell` is called once, without locks; it is given who sent.
  struct Notification {
    const void* process = nullptr;  // Identity of the thread group.
    int32_t tgid = 0;
    int signo = 0;                  // 0: SIGEV_NONE.
    std::function<void(vfs::CallContext& sender)> tell;
  };
  PosixQueue(PosixQueues& fs, uint64_t ino, vfs::FileMode mode, uint32_t uid, uint32_t gid,
             int64_t max_messages, int64_t message_size, auth::UserCharge charge);

  int64_t max_messages() const { return max_messages_; }
  int64_t message_size() const { return message_size_; }
  // Errors: EAGAIN if it is full.
  Result<void> Send(vfs::CallContext& ctx, Message& message) ABSL_LOCKS_EXCLUDED(mu_);
  // The oldest of the highest priority. Errors: EAGAIN if it is empty.
  Result<Message> Receive() ABSL_LOCKS_EXCLUDED(mu_);
  int64_t current() const ABSL_LOCKS_EXCLUDED(mu_);
  // A receiver that waits: what comes is its, and nobody is notified.
  void AddReceiver(int by) { receivers_.fetch_add(by, std::memory_order_seq_cst); }
  Result<void> SetNotification(Notification notification);  // Errors: EBUSY.
  void DropNotification(const void* process);
  std::string Status() const;
  EventMask Readiness() const;
  WaitQueue& queue() { return queue_; }
  void set_links(uint32_t n) { links_.store(n, std::memory_order_relaxed); }

  Result<vfs::Attributes> GetAttributes(vfs::CallContext& ctx) override;
  Result<void> SetAttributes(vfs::CallContext& ctx, const struct vfs::SetAttributes& change) override;
  Result<RefPtr<vfs::FileDescription>> Open(vfs::CallContext& ctx, const vfs::OpenArgs& args) override;

 private:
  const uint64_t ino_;
  const int64_t max_messages_, message_size_;
  const auth::UserCharge charge_;
  std::atomic<int> receivers_{0};
  std::atomic<uint32_t> links_{1};
  mutable Mutex mu_;
  // By priority, the highest first; in each, by age.
  std::map<uint32_t, std::deque<std::string>, std::greater<>> messages_ ABSL_GUARDED_BY(mu_);
  int64_t count_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<Notification> notification_ ABSL_GUARDED_BY(mu_);
  vfs::FileMode mode_ ABSL_GUARDED_BY(mu_);
  uint32_t uid_ ABSL_GUARDED_BY(mu_), gid_ ABSL_GUARDED_BY(mu_);
  vfs::Timestamp atime_ ABSL_GUARDED_BY(mu_), mtime_ ABSL_GUARDED_BY(mu_), ctime_ ABSL_GUARDED_BY(mu_);
  WaitQueue queue_;
};

// An open queue: what mq_open(2) returns. read(2) gives its status as text.
class PosixQueueFile final : public vfs::FileDescription {
 public:
  PosixQueueFile(RefPtr<PosixQueue> queue, vfs::VfsPath path, uint32_t flags, std::string name);
  PosixQueue& queue() { return *queue_; }
  Result<size_t> Read(vfs::CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  Result<size_t> PRead(vfs::CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t rwf) override;
  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override { return &queue_->queue(); }
  std::string Describe() const override { return name_; }

 private:
  const RefPtr<PosixQueue> queue_;
  const std::string name_;
  std::atomic<uint64_t> position_{0};
};

// The queue behind a descriptor. Errors: EBADF.
Result<RefPtr<PosixQueueFile>> AsPosixQueue(const RefPtr<vfs::FileDescription>& file);

// The queues of an IPC namespace, and the file system that shows them. Thread-safe.
class PosixQueues final : public vfs::FileSystem {
 public:
  // fs.mqueue.*; relaxed, each alone.
  struct Limits {
    std::atomic<int64_t> queues_max{256}, msg_max{10}, msg_default{10}, msgsize_max{8192},
        msgsize_default{8192};
  };
  PosixQueues();
  ~PosixQueues() override;
  Limits& limits() { return limits_; }
  // The namespace ends: queues hold the file system, so it lets go of them. Mounts stay, empty.
  void Clear() ABSL_LOCKS_EXCLUDED(mu_);

  RefPtr<PosixQueue> Find(absl::string_view name) ABSL_LOCKS_EXCLUDED(mu_);
  // `attributes` null: the defaults. `byte_limit`: RLIMIT_MSGQUEUE.
  // Errors: EEXIST, ENOSPC, EINVAL, EOVERFLOW, EMFILE past the user's limit, ENAMETOOLONG.
  Result<RefPtr<PosixQueue>> Create(vfs::CallContext& ctx, absl::string_view name, vfs::FileMode mode,
                                    const MqAttributes* attributes, uint64_t byte_limit);
  // mq_unlink(2). Errors: ENOENT, EPERM (others' queues).
  Result<void> Remove(vfs::CallContext& ctx, absl::string_view name);

  RefPtr<vfs::Inode> root() override;
  Result<vfs::FsStatistics> Statistics(vfs::CallContext& ctx) override;

 private:
  friend class PosixQueueRoot;
  friend class PosixQueueDirectory;
  Limits limits_;
  mutable Mutex mu_;
  std::map<std::string, RefPtr<PosixQueue>, std::less<>> queues_ ABSL_GUARDED_BY(mu_);
  uint64_t next_ino_ ABSL_GUARDED_BY(mu_) = 2;
  std::atomic<uint64_t> generation_{1};
};

}  // namespace caisson::ipc

#endif  // CAISSON_SENTRY_IPC_POSIX_MQ_H_
