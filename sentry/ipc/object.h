// What System V shared memory, semaphores and message queues have in common (sysvipc(7), Linux
// ipc/util.c): keys, identifiers, owners and permissions.
#ifndef CAISSON_SENTRY_IPC_OBJECT_H_
#define CAISSON_SENTRY_IPC_OBJECT_H_

#include <cstdint>
#include <map>
#include <vector>

#include "abi/ipc.h"
#include "absl/container/flat_hash_map.h"
#include "auth/credentials.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "vfs/call_context.h"

namespace caisson::ipc {

// Owner and mode of an object; ids are kernel ids.
struct Owner {
  int32_t key = 0;
  auth::Kuid uid = 0, cuid = 0;
  auth::Kgid gid = 0, cgid = 0;
  uint32_t mode = 0;
};

// ipcperms(): `access` as the mode bits of a *get() flag or 0444, 0222. EACCES.
Result<void> CheckAccess(const auth::Credentials& creds, const auth::UserNamespace& ns,
                         const Owner& owner, int access);
// Who may change or remove: EPERM.
Result<void> CheckOwner(const auth::Credentials& creds, const auth::UserNamespace& ns,
                        const Owner& owner);
// As the caller's user namespace shows it.
abi::IpcPerm ShowOwner(const auth::Credentials& creds, const Owner& owner, int id);
// IPC_SET. EINVAL for ids without a mapping.
Result<void> SetOwner(const auth::Credentials& creds, const abi::IpcPerm& from, Owner& owner);

int64_t NowSeconds();

// The objects of one kind in a namespace: T has `const int id`, `Mutex mu`, and guarded by it
// `Owner owner` and `bool removed`. Thread-safe; its lock is outside those of objects.
template <typename T>
class Registry {
 public:
  static constexpr int kMaxIndex = 32768;  // IPCMNI.

  // Calls f(id) to make an object under a free id and enters it. ENOSPC past `limit` objects.
  // Needs mu().
  template <typename F>
  Result<RefPtr<T>> InsertLocked(size_t limit, int32_t key, F make)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (objects_.size() >= limit || objects_.size() >= kMaxIndex) return Errno::kENOSPC;
    // Indexes go round, and the sequence grows each time, so that an id is not soon used again.
    int index = (last_index_ + 1) % kMaxIndex;
    while (objects_.count(index) != 0) index = (index + 1) % kMaxIndex;
    if (index <= last_index_) sequence_ = (sequence_ + 1) & 0xffff;
    last_index_ = index;
    RefPtr<T> object = make(sequence_ << 15 | index);
    objects_[index] = object;
    if (key != abi::kIpcPrivate) keys_[key] = index;
    return object;
  }
  RefPtr<T> FindKeyLocked(int32_t key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    auto it = keys_.find(key);
    return it == keys_.end() ? nullptr : objects_.at(it->second);
  }
  // By identifier. EINVAL.
  Result<RefPtr<T>> Find(int id) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    auto it = id < 0 ? objects_.end() : objects_.find(id % kMaxIndex);
    if (it == objects_.end() || it->second->id != id) return Errno::kEINVAL;
    return it->second;
  }
  // By index, for SHM_STAT and its like. EINVAL.
  Result<RefPtr<T>> FindIndex(int index) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    auto it = objects_.find(index);
    if (it == objects_.end()) return Errno::kEINVAL;
    return it->second;
  }
  // Takes the object and its key out. The caller holds a reference.
  void Remove(const T& object, int32_t key) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    RemoveKeyLocked(object, key);
    auto it = objects_.find(object.id % kMaxIndex);
    if (it != objects_.end() && it->second.get() == &object) objects_.erase(it);
  }
  void RemoveKeyLocked(const T& object, int32_t key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    auto it = keys_.find(key);
    if (it != keys_.end() && it->second == object.id % kMaxIndex) keys_.erase(it);
  }
  // All objects in index order, for /proc/sysvipc.
  std::vector<RefPtr<T>> All() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    std::vector<RefPtr<T>> out;
    for (const auto& [index, object] : objects_) out.push_back(object);
    return out;
  }
  // The highest index in use (what IPC_INFO returns); 0 if there is none.
  int MaxIndex() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return objects_.empty() ? 0 : objects_.rbegin()->first;
  }
  size_t count() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return objects_.size();
  }
  Mutex& mu() ABSL_LOCK_RETURNED(mu_) { return mu_; }

 private:
  Mutex mu_;
  std::map<int, RefPtr<T>> objects_ ABSL_GUARDED_BY(mu_);  // By index.
  absl::flat_hash_map<int32_t, int> keys_ ABSL_GUARDED_BY(mu_);
  int sequence_ ABSL_GUARDED_BY(mu_) = 0;
  int last_index_ ABSL_GUARDED_BY(mu_) = -1;
};

}  // namespace caisson::ipc

#endif  // CAISSON_SENTRY_IPC_OBJECT_H_
