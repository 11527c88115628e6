// What a task counts against from clone(2) until it is reaped.
#ifndef CAISSON_SENTRY_KERNEL_TASK_CHARGE_H_
#define CAISSON_SENTRY_KERNEL_TASK_CHARGE_H_

#include <utility>

#include "auth/user_counts.h"
#include "base/ref.h"
#include "base/result.h"
#include "sentry/kernel/container.h"

namespace caisson::kernel {

// One task in the sandbox's limit, its container's (pids.max) and its user's (RLIMIT_NPROC). As on
// Linux a zombie counts, or a parent that never waits could make any number of them. Movable; used
// by one thread at a time.
class TaskCharge {
 public:
  // Of one kernel: how many tasks there are, how many there may be.
  struct Limit {
    std::atomic<uint64_t> tasks{0};  // Relaxed, as the other counts.
    uint64_t max = 0;
  };
  // Errors: EAGAIN.
  static Result<TaskCharge> New(Limit& limit, RefPtr<Container> container,
                                RefPtr<auth::UserCounts> user, uint64_t user_limit) {
    uint64_t now = limit.tasks.fetch_add(1, std::memory_order_relaxed);
    if (now >= limit.max) {
      limit.tasks.fetch_sub(1, std::memory_order_relaxed);
      return Errno::kEAGAIN;
    }
    TaskCharge charge;
    charge.limit_ = &limit;
    if (!container->AddTask()) return Errno::kEAGAIN;
    charge.container_ = std::move(container);
    if (!user->Add(auth::UserCounts::kProcesses, 1, user_limit)) return Errno::kEAGAIN;
    charge.user_ = auth::UserCharge(std::move(user), auth::UserCounts::kProcesses, 1);
    return charge;
  }
  TaskCharge() = default;
  TaskCharge(TaskCharge&& o) noexcept
      : limit_(std::exchange(o.limit_, nullptr)), container_(std::move(o.container_)), user_(std::move(o.user_)) {}
  TaskCharge& operator=(TaskCharge&& o) noexcept {
    std::swap(limit_, o.limit_);
    std::swap(container_, o.container_);
    std::swap(user_, o.user_);
    return *this;
  }
  ~TaskCharge() {
    if (container_) container_->RemoveTask();
    if (limit_ != nullptr) limit_->tasks.fetch_sub(1, std::memory_order_relaxed);
  }
  // setuid(2): another user's from now on, whatever its limit is (Linux commit_creds()).
  void MoveTo(RefPtr<auth::UserCounts> user) {
    if (!user_) return;
    user->AddAlways(auth::UserCounts::kProcesses, 1);
    user_ = auth::UserCharge(std::move(user), auth::UserCounts::kProcesses, 1);
  }

 private:
  Limit* limit_ = nullptr;
  RefPtr<Container> container_;
  auth::UserCharge user_;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_TASK_CHARGE_H_
