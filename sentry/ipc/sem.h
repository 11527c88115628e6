// System V semaphores (semget(2), semop(2), semctl(2); Linux ipc/sem.c).
#ifndef CAISSON_SENTRY_IPC_SEM_H_
#define CAISSON_SENTRY_IPC_SEM_H_

#include <map>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "sentry/ipc/object.h"

namespace caisson::ipc {

class IpcNamespace;
class SemUndoList;
struct SemSet;

// A semop(2) that waits, on the stack of its caller; guarded by the set's lock. Whoever changes
// the set carries it out on the sleeper's behalf, in the order of arrival.
struct SemWaiter {
  vfs::CallContext* ctx = nullptr;
  absl::Span<const abi::SemBuf> ops;
  std::vector<int16_t>* undo = nullptr;  // The caller's adjustments of this set, if SEM_UNDO.
  vfs::ProcessId process;
  size_t blocking = 0;  // The operation that could not be done.
  bool done = false;
  std::optional<Errno> error;
};

struct SemSet : public RefCounted<SemSet> {
  struct Semaphore {
    uint16_t value = 0;
    vfs::ProcessId process;  // The last that changed it.
  };
  SemSet(int id_in, size_t count) : id(id_in), size(count), semaphores(count) {}
  const int id;
  const size_t size;
  Mutex mu;
  Owner owner ABSL_GUARDED_BY(mu);
  bool removed ABSL_GUARDED_BY(mu) = false;
  std::vector<Semaphore> semaphores ABSL_GUARDED_BY(mu);
  int64_t otime ABSL_GUARDED_BY(mu) = 0, ctime ABSL_GUARDED_BY(mu) = 0;
  std::vector<SemWaiter*> waiters ABSL_GUARDED_BY(mu);
  // The adjustments of each undo list that has some here.
  std::map<const SemUndoList*, std::vector<int16_t>> undos ABSL_GUARDED_BY(mu);

  // Does all of `ops` or nothing. EAGAIN with *blocking set if one would have to wait; ERANGE.
  Result<void> TryLocked(absl::Span<const abi::SemBuf> ops, std::vector<int16_t>* undo,
                         const vfs::ProcessId& process, size_t* blocking) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Carries out what became possible.
  void UpdateLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
};

// What the end of a process undoes. Tasks share it with CLONE_SYSVSEM; the adjustments are made
// when the last of them lets go. Thread-safe.
class SemUndoList : public RefCounted<SemUndoList> {
 public:
  SemUndoList() = default;
  ~SemUndoList();
  // The process that will have been the last to touch the semaphores.
  void set_process(vfs::ProcessId process) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    process_ = std::move(process);
  }

 private:
  friend class Semaphores;
  Mutex mu_;  // Outside the locks of sets.
  std::vector<RefPtr<SemSet>> sets_ ABSL_GUARDED_BY(mu_);
  vfs::ProcessId process_ ABSL_GUARDED_BY(mu_);
};

class Semaphores {
 public:
  static constexpr int kMaxPerSet = 32000;  // SEMMSL.
  static constexpr int kMaxSets = 32000;    // SEMMNI.
  static constexpr int kMaxOps = 500;       // SEMOPM.
  static constexpr int kMaxValue = 32767;   // SEMVMX.
  // SEMMNS. Linux differs: 1,024,000,000. Ours are the sentry's memory.
  static constexpr int kMaxTotal = 1024000;

  explicit Semaphores(IpcNamespace& ns) : ns_(ns) {}

  // semget(2).
  Result<int> Get(vfs::CallContext& ctx, int32_t key, int count, int flags);
  // semop(2) and semtimedop(2). `undo` is the caller's; it is needed if an operation has SEM_UNDO.
  // Errors: theirs; EINTR (never restarted) and EAGAIN at the deadline.
  Result<void> Operate(vfs::CallContext& ctx, SemUndoList* undo, int id,
                       absl::Span<const abi::SemBuf> ops, int64_t deadline);

  // semctl(2) by command. `by_index` and `any` as SharedMemory::Stat().
  Result<abi::SemidDs> Stat(vfs::CallContext& ctx, int id, bool by_index, bool any, int* id_out);
  Result<void> Set(vfs::CallContext& ctx, int id, const abi::IpcPerm& perm);
  Result<void> Remove(vfs::CallContext& ctx, int id);
  // GETVAL, GETPID, GETNCNT, GETZCNT.
  Result<int> GetOne(vfs::CallContext& ctx, int id, int index, int command);
  Result<void> SetValue(vfs::CallContext& ctx, int id, int index, int value);
  Result<std::vector<uint16_t>> GetAll(vfs::CallContext& ctx, int id);
  // How many values SetAll() takes. EINVAL.
  Result<size_t> Count(int id);
  Result<void> SetAll(vfs::CallContext& ctx, int id, absl::Span<const uint16_t> values);
  abi::SemInfo Info(bool used);  // IPC_INFO, or SEM_INFO.
  int MaxIndex() { return registry_.MaxIndex(); }
  std::vector<abi::SemidDs> All(vfs::CallContext& ctx, std::vector<int>* ids);

 private:
  abi::SemidDs Show(const auth::Credentials& creds, SemSet& set);

  IpcNamespace& ns_;  // Holds us.
  Registry<SemSet> registry_;
  std::atomic<int> total_{0};  // Relaxed: grows under the registry's lock only.
};

}  // namespace caisson::ipc

#endif  // CAISSON_SENTRY_IPC_SEM_H_
