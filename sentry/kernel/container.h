// One container of the sandbox: what its tasks have in common.
#ifndef CAISSON_SENTRY_KERNEL_CONTAINER_H_
#define CAISSON_SENTRY_KERNEL_CONTAINER_H_

#include <atomic>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/ref.h"
#include "vfs/mount.h"

namespace caisson::kernel {

// Thread-safe.
class Container : public RefCounted<Container> {
 public:
  Container(std::string id, uint64_t pids_limit, uint64_t memory_limit, std::string cgroup_path)
      : id_(std::move(id)), cgroup_path_(std::move(cgroup_path)), pids_limit_(pids_limit), memory_limit_(memory_limit) {}

  const std::string& id() const { return id_; }
  const std::string& cgroup_path() const { return cgroup_path_; }
  uint64_t memory_limit() const { return memory_limit_.load(std::memory_order_relaxed); }
  void set_memory_limit(uint64_t bytes) { memory_limit_.store(bytes, std::memory_order_relaxed); }
  void set_pids_limit(uint64_t tasks) { pids_limit_.store(tasks, std::memory_order_relaxed); }
  uint64_t pids_limit() const { return pids_limit_.load(std::memory_order_relaxed); }
  // CPUs' worth of time, as the engine gave it; 0 for no limit. Set before the container runs.
  double cpu_limit() const { return cpu_limit_; }
  void set_cpu_limit(double cpus) { cpu_limit_ = cpus; }
  uint64_t task_count() const { return tasks_.load(std::memory_order_relaxed); }
  // Counts a task in, unless the limit (pids.max; 0 for none) is reached: fork(2) gives EAGAIN.
  bool AddTask() {
    uint64_t limit = pids_limit();
    uint64_t now = tasks_.fetch_add(1, std::memory_order_relaxed) + 1;
    if (limit != 0 && now > limit) {
      tasks_.fetch_sub(1, std::memory_order_relaxed);
      return false;
    }
    return true;
  }
  void RemoveTask() { tasks_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  const std::string id_;
  const std::string cgroup_path_;
  std::atomic<uint64_t> pids_limit_;    // Relaxed: a limit, no ordering.
  std::atomic<uint64_t> memory_limit_;  // As above.
  double cpu_limit_ = 0;
  std::atomic<uint64_t> tasks_{0};      // As above.
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_CONTAINER_H_
