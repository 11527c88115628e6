// System V shared memory (shmget(2), shmat(2), shmctl(2); Linux ipc/shm.c).
#ifndef CAISSON_SENTRY_IPC_SHM_H_
#define CAISSON_SENTRY_IPC_SHM_H_

#include <utility>
#include <vector>

#include "sentry/ipc/object.h"
#include "sentry/mm/memory_manager.h"

namespace caisson::ipc {

class IpcNamespace;

struct ShmSegment : public RefCounted<ShmSegment> {
  ShmSegment(int id_in, uint64_t size_in, RefPtr<vfs::FileDescription> file_in)
      : id(id_in), size(size_in), file(std::move(file_in)) {}
  const int id;
  const uint64_t size;  // Bytes, as asked for.
  const RefPtr<vfs::FileDescription> file;
  Mutex mu;
  Owner owner ABSL_GUARDED_BY(mu);
  bool removed ABSL_GUARDED_BY(mu) = false;
  uint64_t attached ABSL_GUARDED_BY(mu) = 0;
  int64_t atime ABSL_GUARDED_BY(mu) = 0, dtime ABSL_GUARDED_BY(mu) = 0,
                ctime ABSL_GUARDED_BY(mu) = 0;
  vfs::ProcessId creator ABSL_GUARDED_BY(mu), last ABSL_GUARDED_BY(mu);
};

class SharedMemory {
 public:
  static constexpr uint64_t kMax = ~uint64_t{0} - (1 << 24);  // shmmax bytes, shmall pages.
  static constexpr size_t kMaxSegments = 4096;                // shmmni.

  SharedMemory(IpcNamespace& ns, mm::SharedMemoryFactory* factory) : ns_(ns), factory_(factory) {}

  // shmget(2): an identifier. Errors: theirs.
  Result<int> Get(vfs::CallContext& ctx, int32_t key, uint64_t size, int flags);
  // shmat(2). The mm keeps the attachment, over fork too; it ends with its last mapping.
  Result<GuestAddr> Attach(vfs::CallContext& ctx, mm::MemoryManager& mm, int id, GuestAddr addr,
                           int flags, const mm::Limits& limits);
  // shmdt(2).
  static Result<void> Detach(vfs::CallContext& ctx, mm::MemoryManager& mm, GuestAddr addr);

  // IPC_STAT; SHM_STAT with `by_index`, for which the result's identifier goes to *id_out, and
  // SHM_STAT_ANY with `any` (no permission needed).
  Result<abi::ShmidDs> Stat(vfs::CallContext& ctx, int id, bool by_index, bool any, int* id_out);
  Result<void> Set(vfs::CallContext& ctx, int id, const abi::IpcPerm& perm);
  Result<void> Remove(vfs::CallContext& ctx, int id);
  // SHM_LOCK and SHM_UNLOCK: noted, not done (docs/platform.md 17). Errors: EPERM.
  Result<void> Lock(vfs::CallContext& ctx, int id, bool lock, uint64_t memlock_limit);
  abi::ShmInfo64 Limits() const;
  abi::ShmInfo Info();
  int MaxIndex() { return registry_.MaxIndex(); }
  // For /proc/sysvipc/shm.
  std::vector<abi::ShmidDs> All(vfs::CallContext& ctx, std::vector<int>* ids);

 private:
  friend class ShmAttachment;
  abi::ShmidDs Show(const auth::Credentials& creds, ShmSegment& segment);
  // Frees a segment that was marked for removal and has no attachment.
  void Destroy(ShmSegment& segment, int32_t key);

  IpcNamespace& ns_;  // Holds us.
  mm::SharedMemoryFactory* const factory_;
  Registry<ShmSegment> registry_;
  std::atomic<uint64_t> pages_{0};  // Relaxed: changed under the registry's lock or when freed.
};

}  // namespace caisson::ipc

#endif  // CAISSON_SENTRY_IPC_SHM_H_
