// When a guest thread and the sentry's thread wait for each other awake.
#ifndef CAISSON_PLATFORM_TRAP_SPINNER_H_
#define CAISSON_PLATFORM_TRAP_SPINNER_H_

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "platform/stub/cpu_clock.h"
#include "platform/trap/host_thread.h"

namespace caisson::platform::trap {

class Spinner;

// What the spinners of a platform share. Thread-safe.
//
// A pair that hands over by memory needs two CPUs of its own. So it may spin only while no more guest
// threads run than leave it these, and both are pinned apart meanwhile: a wake-up would put them on
// one CPU, where each waits for the other's time slice (measured; README.md).
class SpinGroup {
 public:
  explicit SpinGroup(bool enabled);

 private:
  friend class Spinner;
  // Both about 2 to 4 GHz: 4 us of waiting, 10 ms of holding, 20 us that show a lost CPU.
  static constexpr uint32_t kBudget = 13'000;
  static constexpr uint64_t kHold = 26'000'000;
  static constexpr uint64_t kLost = 52'000;

  bool RoomLocked(const Spinner* except) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RemoveLocked(Spinner* spinner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  cpu_set_t all_;
  int cpus_ = 1;
  // Guest threads that run; in the upper bits, how often any was let run.
  std::atomic<uint64_t> running_{0};
  static constexpr uint64_t kRun = uint64_t{1} << 20;
  uint64_t running() const { return running_.load(std::memory_order_relaxed) % kRun; }
  uint64_t runs() const { return running_.load(std::memory_order_relaxed) / kRun; }
  Mutex mu_;                     // Innermost.
  std::vector<Spinner*> pairs_ ABSL_GUARDED_BY(mu_);
};

// The decision for one task. Used by its thread.
class Spinner {
 public:
  explicit Spinner(SpinGroup& group) : group_(group) {}
  ~Spinner() { Leave(); }

  // Around the time that guest code runs.
  void OnRun() { group_.running_.fetch_add(SpinGroup::kRun + 1, std::memory_order_relaxed); }
  // `by_slot`: it stopped in a way that needs no host call if both are awake. Time stamps: when it
  // was let go, and now.
  void OnStop(HostThread& thread, bool by_slot, uint64_t start, uint64_t now) {
    group_.running_.fetch_sub(1, std::memory_order_relaxed);
    if (group_.cpus_ < 2) return;
    if (active_) {
      Check(thread, now);
    } else if (!by_slot || now - start > kQuick) {
      quick_ = 0;
    } else if (++quick_ == 1) {
      runs_ = group_.runs();
    } else if (quick_ == kQuickStops) {
      quick_ = 0;
      if (now >= not_before_ && IsAmongFew()) Enter(thread, now);
    }
  }
  void OnGone() { group_.running_.fetch_sub(1, std::memory_order_relaxed); }
  // The task is about to do what is slow between two CPUs: not now, and not at once again.
  void Avoid() {
    quick_ = 0;
    if (!active_) return;
    BackOff(stub::CpuClock::Now());
    Leave();
  }
  // The thread did not stop for some milliseconds; or will not run any more.
  void Leave();

 private:
  friend class SpinGroup;
  static constexpr uint64_t kQuick = 26'000;  // 10 us, a wake-up included.
  static constexpr uint64_t kQuickStops = 100;
  // In cycles: what a wait that was short enough saves, what one that was not costs (the time awake,
  // and a wake-up across CPUs), with how much a pair begins, and how much it can save up.
  static constexpr int64_t kSaved = 8'000, kWasted = 40'000, kStake = 200'000, kMaxCredit = 26'000'000;
  static constexpr uint64_t kMaxBackoff = uint64_t{1} << 32;  // A second or two.

  // Whether in the last kQuickStops no more other stops were made than by pairs that have CPUs of their own. Who takes turns
  // with others (at a lock, a queue) needs their CPUs free, and is woken with every turn.
  bool IsAmongFew() const {
    const uint64_t others = group_.runs() - runs_ - (kQuickStops - 1);
    return others <= kQuickStops / 4 + kQuickStops * static_cast<uint64_t>(group_.cpus_ / 2 - 1);
  }
  void Enter(HostThread& thread, uint64_t now);
  void Check(HostThread& thread, uint64_t now);
  void BackOff(uint64_t now);

  SpinGroup& group_;
  bool active_ = false;
  uint64_t quick_ = 0;  // Quick stops in a row,
  uint64_t runs_ = 0;   // and SpinGroup::runs() when they began.
  int64_t credit_ = 0;  // Below 0 it is not worth it.
  uint64_t checked_ = 0;     // When there was room for it.
  uint64_t not_before_ = 0;  // Does not try again earlier.
  uint64_t backoff_ = SpinGroup::kHold;
  HostThread* thread_ = nullptr;
  pid_t tid_ = 0;
  // For others: since when it has not been heard of, and whether they have taken its place.
  std::atomic<uint64_t> seen_{0};
  std::atomic<bool> evicted_{false};
};

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_SPINNER_H_
