// What every running thread must go through the kernel for: membarrier(2), and pausing.
#include <sched.h>
#include <unistd.h>

#include "sentry/kernel/kernel.h"

namespace caisson::kernel {

// A thread that is in guest code is interrupted, and its Switch() returns; one that is not has nothing
// to be waited for. Gives up when `tired` says so.
void Kernel::PassThroughKernel(const mm::MemoryManager* of, const Task* except,
                               absl::FunctionRef<bool()> tired) {
  struct Running {
    RefPtr<Task> task;
    uint64_t switches;
  };
  std::vector<RefPtr<ThreadGroup>> groups = ThreadGroups();  // Dropped without the lock.
  std::vector<Running> running;
  {
    MutexLock lock(tasks_mu_);
    for (const RefPtr<ThreadGroup>& g : groups) {
      for (const RefPtr<Task>& t : g->tasks) {
        if (t.get() == except || t->phase_.load(std::memory_order_seq_cst) != Task::Phase::kGuest) continue;
        const uint64_t switches = t->switches_.load(std::memory_order_seq_cst);
        running.push_back({t, switches});
      }
    }
  }
  // Those of other address spaces are left alone.
  if (of != nullptr) std::erase_if(running, [of](const Running& r) { return r.task->mm_ref().get() != of; });
  auto passed = [](const Running& r) {
    return r.task->phase_.load(std::memory_order_seq_cst) != Task::Phase::kGuest ||
           r.task->switches_.load(std::memory_order_seq_cst) != r.switches;
  };
  for (const Running& r : running)
    if (!passed(r)) r.task->context_->Interrupt();
  constexpr int kYields = 50;
  constexpr useconds_t kPause = 50;
  for (const Running& r : running) {
    for (int tries = 0; !passed(r) && !tired(); ++tries) {
      if (tries < kYields) sched_yield();
      else usleep(kPause);
    }
  }
}

// A thread that is not in guest code has been through a full barrier since, or will before it is in
// guest code again: leaving and entering a context are host system calls.
void Kernel::MemoryBarrier(Task& self, bool everyone) {
  // A change of an atomic is a full barrier here, and one that ThreadSanitizer knows, unlike a fence.
  self.switches_.fetch_add(0, std::memory_order_seq_cst);
  RefPtr<mm::MemoryManager> mm = self.mm_ref();
  PassThroughKernel(everyone ? nullptr : mm.get(), &self, [&self] { return self.IsKilled(); });
  self.switches_.fetch_add(0, std::memory_order_seq_cst);
}

// Tasks that sleep in a call go on sleeping: they look at `paused_` before they return to the guest
// (Task::Run), as those do that are on their way there.
void Kernel::Pause(int64_t until) {
  constexpr int64_t kPatienceNs = 1'000'000'000;
  {
    MutexLock lock(pause_mu_);
    paused_until_.store(until, std::memory_order_relaxed);
    paused_.store(true, std::memory_order_seq_cst);
  }
  const int64_t deadline = time::MonotonicNow() + kPatienceNs;
  PassThroughKernel(nullptr, nullptr, [deadline] { return time::MonotonicNow() > deadline; });
}

void Kernel::Resume() {
  {
    MutexLock lock(pause_mu_);
    paused_.store(false, std::memory_order_seq_cst);
  }
  resume_queue_.Notify(kEventIn);
}

bool Kernel::paused() const {
  if (!paused_.load(std::memory_order_acquire)) return false;
  const int64_t until = paused_until_.load(std::memory_order_relaxed);
  return until == time::kNever || time::MonotonicNow() < until;
}

void Kernel::WaitWhilePaused(Task& task) {
  vfs::ContextWaiter waiter(task);
  resume_queue_.Add(waiter, kEventIn);
  while (paused_.load(std::memory_order_acquire)) {
    Result<void> slept = task.BlockKillable(paused_until_.load(std::memory_order_relaxed));
    if (slept.ok()) continue;
    if (slept.error() != Errno::kETIMEDOUT) break;
    {
      // It may be another pause by now, which ends later.
      MutexLock lock(pause_mu_);
      if (paused()) continue;
      paused_.store(false, std::memory_order_seq_cst);
    }
    resume_queue_.Notify(kEventIn);
  }
  resume_queue_.Remove(waiter);
}

}  // namespace caisson::kernel
