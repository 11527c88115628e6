// System V message queues (msgget(2), msgsnd(2), msgrcv(2), msgctl(2); Linux ipc/msg.c).
#ifndef CAISSON_SENTRY_IPC_MSG_H_
#define CAISSON_SENTRY_IPC_MSG_H_

#include <atomic>
#include <deque>
#include <string>
#include <vector>

#include "base/wait_queue.h"
#include "sentry/ipc/object.h"

namespace caisson::ipc {

class IpcNamespace;

struct Message {
  int64_t type = 0;
  std::string text;
};

struct MessageQueue : public RefCounted<MessageQueue> {
  explicit MessageQueue(int id_in) : id(id_in) {}
  const int id;
  Mutex mu;
  Owner owner ABSL_GUARDED_BY(mu);
  bool removed ABSL_GUARDED_BY(mu) = false;
  std::deque<Message> messages ABSL_GUARDED_BY(mu);
  uint64_t bytes ABSL_GUARDED_BY(mu) = 0, max_bytes ABSL_GUARDED_BY(mu) = 0;
  int64_t stime ABSL_GUARDED_BY(mu) = 0, rtime ABSL_GUARDED_BY(mu) = 0,
                ctime ABSL_GUARDED_BY(mu) = 0;
  vfs::ProcessId sender ABSL_GUARDED_BY(mu), receiver ABSL_GUARDED_BY(mu);  // The last ones.
  WaitQueue changed;  // kEventIn: a message came; kEventOut: there is room; both: removed.
};

class MessageQueues {
 public:
  static constexpr size_t kMaxQueues = 32000;      // MSGMNI.
  static constexpr size_t kMaxMessage = 8192;      // MSGMAX, bytes.
  static constexpr size_t kMaxQueueBytes = 16384;  // MSGMNB.
  // Linux differs: there the memory cgroup is the limit of a namespace.
  static constexpr uint64_t kMaxTotalBytes = 64 << 20;

  explicit MessageQueues(IpcNamespace& ns) : ns_(ns) {}

  // msgget(2).
  Result<int> Get(vfs::CallContext& ctx, int32_t key, int flags);
  // msgsnd(2). The text was copied in: CheckSend() says beforehand whether it may be that long.
  Result<void> CheckSend(int id, int64_t type, uint64_t size) const;
  Result<void> Send(vfs::CallContext& ctx, int id, Message message, int flags);
  // msgrcv(2): the text is cut to `size` with MSG_NOERROR. Errors: theirs; kERESTARTNOHAND.
  Result<Message> Receive(vfs::CallContext& ctx, int id, uint64_t size, int64_t type, int flags);

  Result<abi::MsqidDs> Stat(vfs::CallContext& ctx, int id, bool by_index, bool any, int* id_out);
  Result<void> Set(vfs::CallContext& ctx, int id, const abi::IpcPerm& perm, uint64_t max_bytes);
  Result<void> Remove(vfs::CallContext& ctx, int id);
  abi::MsgInfo Info(bool used);  // IPC_INFO, or MSG_INFO.
  int MaxIndex() { return registry_.MaxIndex(); }
  std::vector<abi::MsqidDs> All(vfs::CallContext& ctx, std::vector<int>* ids);

 private:
  abi::MsqidDs Show(const auth::Credentials& creds, MessageQueue& queue);

  IpcNamespace& ns_;  // Holds us.
  Registry<MessageQueue> registry_;
  std::atomic<uint64_t> bytes_{0};  // Relaxed: totals.
  std::atomic<int32_t> messages_{0};
};

}  // namespace caisson::ipc

#endif  // CAISSON_SENTRY_IPC_MSG_H_
