// Process identifiers and PID namespaces (pid_namespaces(7), Linux struct pid).
#ifndef CAISSON_SENTRY_KERNEL_PID_H_
#define CAISSON_SENTRY_KERNEL_PID_H_

#include <cstdint>
#include <map>
#include <vector>

#include "auth/user_namespace.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "vfs/process_id.h"

namespace caisson::kernel {

class Pid;
class ProcessGroup;
class Session;
class Task;
class ThreadGroup;

inline constexpr int32_t kPidMax = 4194304;

// Thread-safe. Its table is weak: a Pid leaves it when the last user of the number is gone.
class PidNamespace : public RefCounted<PidNamespace> {
 public:
  PidNamespace(RefPtr<PidNamespace> parent, RefPtr<auth::UserNamespace> owner);
  ~PidNamespace() = default;
  const RefPtr<PidNamespace>& parent() const { return parent_; }
  const auth::UserNamespace& user_ns() const { return *owner_; }
  int level() const { return level_; }
  uint64_t inode_number() const { return inode_number_; }
  bool IsWithin(const PidNamespace& other) const;
  RefPtr<Pid> Find(int32_t number) const;
  // Every number in use, ascending.
  std::vector<RefPtr<Pid>> All() const;
  // The last number given out (/proc/loadavg), and set_tid of clone3(2).
  int32_t last() const;

  // The init process; guarded by the kernel's tasks lock.
  ThreadGroup* init = nullptr;
  // Set when init has ended: fork(2) gives ENOMEM. Guarded by the kernel's tasks lock.
  bool dead = false;

 private:
  friend class Pid;
  const RefPtr<PidNamespace> parent_;
  const RefPtr<auth::UserNamespace> owner_;
  const int level_;
  const uint64_t inode_number_;
  mutable Mutex mu_;
  std::map<int32_t, Pid*> pids_ ABSL_GUARDED_BY(mu_);
  int32_t last_ ABSL_GUARDED_BY(mu_) = 0;
};

// One identity with a number in its namespace and in each ancestor.
class Pid final : public vfs::ProcessHold {
 public:
  // `wanted` (deepest namespace first, may be empty) asks for numbers: clone3's set_tid.
  // Errors: EAGAIN if a namespace is full, EEXIST if a wanted number is taken.
  static Result<RefPtr<Pid>> New(RefPtr<PidNamespace> ns, const std::vector<int32_t>& wanted);
  ~Pid() override;
  // 0 if not visible there.
  int32_t NumberIn(const PidNamespace& ns) const;
  // In the sandbox's root namespace.
  int32_t global() const { return numbers_.front(); }
  // In the namespace it was made in.
  int32_t local() const { return numbers_.back(); }
  PidNamespace& ns() const { return *ns_; }

  // Who goes by it. Guarded by the kernel's tasks lock.
  Task* task = nullptr;
  ThreadGroup* group = nullptr;
  ProcessGroup* process_group = nullptr;
  Session* session = nullptr;

 private:
  explicit Pid(RefPtr<PidNamespace> ns) : ns_(std::move(ns)) {}
  const RefPtr<PidNamespace> ns_;
  std::vector<int32_t> numbers_;  // Root namespace first.
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_PID_H_
