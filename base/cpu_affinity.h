// Which CPUs a thread runs on, for a moment.
#ifndef CAISSON_BASE_CPU_AFFINITY_H_
#define CAISSON_BASE_CPU_AFFINITY_H_

#include <sched.h>

namespace caisson {

// On how many CPUs the calling thread may run; 0: unknown.
int CountCpus();
// Whether there is more than one, so that holding a thread means something. Asked first by a thread that is not held: finds
// out what one that was gets back. That is every CPU there could be, so that it is its cpuset, whatever that becomes, that
// limits it; or if this process was started on fewer CPUs than its cpuset has, those.
bool MayHoldThreads();
// Holds the thread `tid` (0: the calling one) on one CPU. False if it may not run there.
bool HoldOnCpu(int tid, int cpu);
// Gives it back what MayHoldThreads() says.
void LetGoOfCpu(int tid);
// The same for the calling thread, if it is held: a new thread is where its maker was.
void LetGoIfHeld();

// While it lives the calling thread is woken on the CPU that it was on: for who sleeps until another process,
// which runs there meanwhile, has answered. The host would wake it on an idle CPU, which takes longer than the
// answer. Three host calls; one where there is one CPU, or the thread is held on one already.
class StayOnCpu {
 public:
  StayOnCpu();
  ~StayOnCpu() {
    if (holds_) LetGoOfCpu(0);
  }
  StayOnCpu(const StayOnCpu&) = delete;
  StayOnCpu& operator=(const StayOnCpu&) = delete;
  // -1: unknown.
  int cpu() const { return cpu_; }

 private:
  int cpu_ = -1;
  bool holds_ = false;
};

}  // namespace caisson

#endif  // CAISSON_BASE_CPU_AFFINITY_H_
