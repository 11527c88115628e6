// An IPC namespace (ipc_namespaces(7)): the System V objects that a group of tasks shares.
#ifndef CAISSON_SENTRY_IPC_NAMESPACE_H_
#define CAISSON_SENTRY_IPC_NAMESPACE_H_

#include "auth/user_namespace.h"
#include "base/ref.h"
#include "sentry/ipc/msg.h"
#include "sentry/ipc/posix_mq.h"
#include "sentry/ipc/sem.h"
#include "sentry/ipc/shm.h"

namespace caisson::ipc {

// kernel.shm*, kernel.msg*, kernel.sem of a namespace. Relaxed: each is a limit on its own.
struct Tunables {
  using Value = std::atomic<uint64_t>;
  Value shmmax{SharedMemory::kMax}, shmall{SharedMemory::kMax}, shmmni{SharedMemory::kMaxSegments};
  Value msgmax{MessageQueues::kMaxMessage}, msgmnb{MessageQueues::kMaxQueueBytes}, msgmni{MessageQueues::kMaxQueues};
  Value semmsl{Semaphores::kMaxPerSet}, semmns{1'024'000'000}, semopm{Semaphores::kMaxOps}, semmni{Semaphores::kMaxSets};
};

// Thread-safe. Process ids in results are those of the sandbox's root PID namespace: the system
// call layer shows them in the caller's. Ids of users and groups are the caller's already.
//
// A call that waits keeps its namespace and its object alive by its references; a task that has
// attached a segment does so through the attachment.
class IpcNamespace : public RefCounted<IpcNamespace> {
 public:
  // `shared_memory` outlives it.
  IpcNamespace(RefPtr<auth::UserNamespace> user_ns, mm::SharedMemoryFactory* shared_memory,
               uint64_t inode_number);
  ~IpcNamespace();

  const auth::UserNamespace& user_ns() const { return *user_ns_; }
  RefPtr<auth::UserNamespace> user_ns_ref() const { return user_ns_; }
  uint64_t inode_number() const { return inode_number_; }

  PosixQueues& posix() { return *posix_; }
  RefPtr<PosixQueues> posix_ref() const { return posix_; }  // What mounting "mqueue" shows.

  Tunables tunables;
  SharedMemory shm;
  Semaphores sem;
  MessageQueues msg;

 private:
  const RefPtr<PosixQueues> posix_ = MakeRef<PosixQueues>();
  const RefPtr<auth::UserNamespace> user_ns_;
  const uint64_t inode_number_;
};

}  // namespace caisson::ipc

#endif  // CAISSON_SENTRY_IPC_NAMESPACE_H_
