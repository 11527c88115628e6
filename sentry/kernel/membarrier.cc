// membarrier(2): every thread concerned passes through the kernel once.
#include <sched.h>
#include <unistd.h>

#include "sentry/kernel/kernel.h"

namespace caisson::kernel {

// A thread that is not in guest code has been through a full barrier since, or will before it is in
// guest code again: leaving and entering a context are host system calls. One that is gets
// interrupted, and its Switch() returns.
void Kernel::MemoryBarrier(Task& self, bool everyone) {
  struct Running {
    RefPtr<Task> task;
    uint64_t switches;
  };
  // A change of an atomic is a full barrier here, and one that ThreadSanitizer knows, unlike a fence.
  self.switches_.fetch_add(0, std::memory_order_seq_cst);
  std::vector<RefPtr<ThreadGroup>> groups = ThreadGroups();  // Dropped without the lock.
  std::vector<Running> running;
  {
    MutexLock lock(tasks_mu_);
    for (const RefPtr<ThreadGroup>& g : groups) {
      for (const RefPtr<Task>& t : g->tasks) {
        if (t.get() == &self || t->phase_.load(std::memory_order_seq_cst) != Task::Phase::kGuest) continue;
        const uint64_t switches = t->switches_.load(std::memory_order_seq_cst);
        running.push_back({t, switches});
      }
    }
  }
  if (!everyone) {
    // Those of other address spaces are left alone.
    RefPtr<mm::MemoryManager> mm = self.mm_ref();
    std::erase_if(running, [&mm](const Running& r) { return r.task->mm_ref() != mm; });
  }
  auto passed = [](const Running& r) {
    return r.task->phase_.load(std::memory_order_seq_cst) != Task::Phase::kGuest ||
           r.task->switches_.load(std::memory_order_seq_cst) != r.switches;
  };
  for (const Running& r : running)
    if (!passed(r)) r.task->context_->Interrupt();
  constexpr int kYields = 50;
  constexpr useconds_t kPause = 50;
  for (const Running& r : running) {
    for (int tries = 0; !passed(r) && !self.IsKilled(); ++tries) {
      if (tries < kYields) sched_yield();
      else usleep(kPause);
    }
  }
  self.switches_.fetch_add(0, std::memory_order_seq_cst);
}

}  // namespace caisson::kernel
