// Which CPU a guest thread and its tracer run on.
#ifndef CAISSON_PLATFORM_PTRACE_PLACEMENT_H_
#define CAISSON_PLATFORM_PTRACE_PLACEMENT_H_

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace caisson::platform::ptrace {

// A guest thread and its tracer, which never run at the same time. Fields are the tracer's but for
// those marked.
struct Pair {
  pid_t tracer = 0, tracee = 0, worker = 0;  // Constant while registered with Placement.
  int quick = 0;                             // Quick switches in a row.
  uint64_t last = 0;                         // Time stamp of the last switch.
  std::atomic<uint64_t> seen{0};             // `last`, for the watchdog; while pinned.
  std::atomic<bool> pinned{false};           // Changed under Placement::mu_.
  uint64_t pinned_at = 0;
  bool young = true;  // Held since its start: let go soon if it does not switch. While pinned.
};

// The scheduler wakes each of a pair on the other's CPU only if no other is idle, so on a machine
// that is not busy they chase each other across CPUs: three to four times the time of a switch, by
// measurement (README.md). So a pair that switches often is held on one CPU, together with the
// worker of its stub, for a short time; then the scheduler has a chance to move both. New pairs are
// held from the start, because programs start with many calls. Who does not switch any more, because
// the guest computes or its tracer waits, is let go by a watchdog thread, which exists from the first
// hold on and sleeps when there is none.
//
// What a held thread creates inherits its CPU: Start() sees to that for tracers and tracees.
// Thread-safe; a Pair is used by its tracer only.
class Placement {
 public:
  Placement();
  ~Placement();

  // On every switch, with a CPU time stamp. A few nanoseconds as a rule.
  void OnSwitch(Pair& pair, uint64_t now) {
    if (!enabled_) return;
    const uint64_t gap = now - pair.last;
    pair.last = now;
    if (pair.pinned.load(std::memory_order_relaxed)) {
      pair.seen.store(now, std::memory_order_relaxed);
      if (now - pair.pinned_at > kHold) Renew(pair);
    } else if (gap > kQuick) {
      pair.quick = 0;
    } else if (++pair.quick >= kQuickSwitches) {
      Pin(pair, now);
    }
  }
  // By the tracer, before a new tracee runs for the first time. A tracee and worker may be copies of
  // threads that are held elsewhere.
  void Start(Pair& pair, uint64_t now) ABSL_LOCKS_EXCLUDED(mu_);
  // Before the tracee ends or the tracer leaves it. `ends`: the stub ends too.
  void Unpin(Pair& pair, bool ends = false) ABSL_LOCKS_EXCLUDED(mu_);
  // Lets `tid` (0: the caller) run on any CPU that this process may use.
  void Release(pid_t tid) const;
  // Before the first switch.
  void Disable() { enabled_ = false; }

 private:
  // In cycles of the time stamp counter, at 2 to 4 GHz: about 200 us, 20 ms and 3 ms.
  static constexpr uint64_t kQuick = 600'000;
  static constexpr uint64_t kHold = 60'000'000;
  static constexpr uint64_t kYoungPatience = 9'000'000;
  static constexpr int kQuickSwitches = 16, kQuickSwitchesAgain = 4;
  static constexpr uint64_t kTickNs = 5'000'000;

  void Pin(Pair& pair, uint64_t now, bool young = false) ABSL_LOCKS_EXCLUDED(mu_);
  // Whether the caller may run on one CPU only, because its creator was held there.
  bool IsHeld() const;
  void Renew(Pair& pair) ABSL_LOCKS_EXCLUDED(mu_);
  void UnpinLocked(Pair& pair, bool ends = false) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Watch() ABSL_LOCKS_EXCLUDED(mu_);

  bool enabled_;
  Mutex mu_;  // Innermost.
  CondVar changed_;
  std::vector<Pair*> pinned_ ABSL_GUARDED_BY(mu_);
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread watchdog_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::platform::ptrace

#endif  // CAISSON_PLATFORM_PTRACE_PLACEMENT_H_
