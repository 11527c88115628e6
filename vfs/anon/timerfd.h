// timerfd_create(2).
#ifndef CAISSON_VFS_ANON_TIMERFD_H_
#define CAISSON_VFS_ANON_TIMERFD_H_

#include <cstdint>
#include <string>

#include "base/mutex.h"
#include "time/clock.h"
#include "vfs/file_description.h"

namespace caisson::vfs {

inline constexpr int kTfdAbsolute = 1;     // TFD_TIMER_ABSTIME.
inline constexpr int kTfdCancelOnSet = 2;  // TFD_TIMER_CANCEL_ON_SET.

// Thread-safe. The alarm clocks act as those without: a sandbox does not suspend its host.
class Timerfd final : public FileDescription {
 public:
  enum class Clock : uint8_t {
    kRealtime = 0, kMonotonic = 1, kBoottime = 7, kRealtimeAlarm = 8, kBoottimeAlarm = 9,
  };
  // ns. `value` 0 is disarmed; as set it is absolute on the timer's clock or relative, as read it
  // is what is left.
  struct Setting {
    int64_t interval = 0;
    int64_t value = 0;
  };
  // `inode` is AnonFileSystem's; `flags` are O_* (O_NONBLOCK). `timers` outlives the file.
  Timerfd(RefPtr<Inode> inode, time::TimerService& timers, Clock clock, uint32_t flags);
  ~Timerfd() override;

  Clock clock() const { return clock_; }
  // timerfd_settime(2): `flags` are kTfd* (the caller has refused others), values >= 0.
  Setting Set(int flags, const Setting& setting);
  Setting Get();

  // 8 bytes: expirations since the last read. Errors: EINVAL for a shorter buffer, EAGAIN,
  // ECANCELED when the clock was set.
  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override;
  EventMask Readiness(EventMask mask) override;
  WaitQueue* EventQueue() override { return &queue_; }
  std::string Describe() const override { return "anon_inode:[timerfd]"; }
  std::string FdInfo() override;

 private:
  int64_t Now() const;
  bool WasClockSetLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ArmLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Counts expirations of the interval that have passed since the last count.
  void ForwardLocked(int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Setting GetLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnExpiry() ABSL_LOCKS_EXCLUDED(mu_);

  const Clock clock_;
  Mutex mu_;
  int64_t expiry_ ABSL_GUARDED_BY(mu_) = time::kNever;  // On clock_; kNever: disarmed.
  int64_t interval_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t ticks_ ABSL_GUARDED_BY(mu_) = 0;
  bool expired_ ABSL_GUARDED_BY(mu_) = false;  // expiry_ has passed; not armed until read.
  int set_flags_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t clock_offset_ ABSL_GUARDED_BY(mu_) = 0;  // Realtime - monotonic when set.
  WaitQueue queue_;
  time::Timer timer_;  // Last: its callback uses the rest.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_ANON_TIMERFD_H_
