#include "vfs/anon/timerfd.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"

namespace caisson::vfs {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

int64_t RealtimeOffset() { return time::RealtimeNow() - time::MonotonicNow(); }

// a + b, at most `kNever - 1`.
int64_t AddTime(int64_t a, int64_t b) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return time::kNever - 1;
  return std::min(sum, time::kNever - 1);
}

}  // namespace

Timerfd::Timerfd(RefPtr<Inode> inode, time::TimerService& timers, Clock clock, uint32_t flags)
    : FileDescription(FileKind::kTimerfd, VfsPath(), std::move(inode),
                      (flags & kOpenNonblock) | kOpenReadWrite),
      clock_(clock),
      timer_(timers, [this] { OnExpiry(); }) {}

Timerfd::~Timerfd() { timer_.Cancel(); }

int64_t Timerfd::Now() const {
  switch (clock_) {
    case Clock::kRealtime:
    case Clock::kRealtimeAlarm:
      return time::RealtimeNow();
    case Clock::kBoottime:
    case Clock::kBoottimeAlarm:
      return time::BoottimeNow();
    case Clock::kMonotonic:
      break;
  }
  return time::MonotonicNow();
}

void Timerfd::ArmLocked() {
  if (expiry_ == time::kNever || expired_) {
    timer_.Arm(time::kNever);
    return;
  }
  // Also when it is past: Linux lets the interrupt count it, so a poll() right after sees it.
  timer_.Arm(AddTime(time::MonotonicNow(), std::max<int64_t>(expiry_ - Now(), 0)));
}

void Timerfd::OnExpiry() {
  {
    MutexLock lock(mu_);
    if (expiry_ == time::kNever || expired_) return;
    if (Now() < expiry_) {
      // The clock was set back, or the timer was changed meanwhile.
      ArmLocked();
      return;
    }
    expired_ = true;
    ++ticks_;
  }
  queue_.Notify(kReadable);
}

void Timerfd::ForwardLocked(int64_t now) {
  if (!expired_ || interval_ == 0 || now < expiry_) return;
  // The first expiration was counted by OnExpiry().
  int64_t passed = (now - expiry_) / interval_;
  ticks_ += passed;
  expiry_ = AddTime(expiry_, AddTime(passed * interval_, interval_));
  expired_ = false;
  ArmLocked();
}

Timerfd::Setting Timerfd::GetLocked() {
  int64_t now = Now();
  ForwardLocked(now);
  Setting s;
  s.interval = interval_;
  if (expiry_ != time::kNever && !expired_) s.value = std::max<int64_t>(expiry_ - now, 1);
  return s;
}

Timerfd::Setting Timerfd::Set(int flags, const Setting& setting) {
  MutexLock lock(mu_);
  Setting old = GetLocked();
  set_flags_ = flags;
  clock_offset_ = RealtimeOffset();
  ticks_ = 0;
  expired_ = false;
  interval_ = setting.interval;
  if (setting.value == 0) {
    expiry_ = time::kNever;
  } else if ((flags & kTfdAbsolute) != 0) {
    expiry_ = std::min(setting.value, time::kNever - 1);
  } else {
    expiry_ = AddTime(Now(), setting.value);
  }
  ArmLocked();
  return old;
}

Timerfd::Setting Timerfd::Get() {
  MutexLock lock(mu_);
  return GetLocked();
}

// Linux differs: a reader that waits is not woken when the clock is set, it finds out when it next
// asks. The two reads of the clocks are not at one moment, hence the tolerance.
bool Timerfd::WasClockSetLocked() {
  if ((set_flags_ & kTfdCancelOnSet) == 0 || (set_flags_ & kTfdAbsolute) == 0) return false;
  if (clock_ != Clock::kRealtime && clock_ != Clock::kRealtimeAlarm) return false;
  int64_t offset = RealtimeOffset();
  if (std::abs(offset - clock_offset_) < kSecond / 2) return false;
  clock_offset_ = offset;
  return true;
}

Result<size_t> Timerfd::Read(CallContext&, IoBuffer& to, uint32_t) {
  if (to.remaining() < sizeof(uint64_t)) return Errno::kEINVAL;
  uint64_t ticks;
  {
    MutexLock lock(mu_);
    if (WasClockSetLocked()) {
      ticks_ = 0;
      return Errno::kECANCELED;
    }
    // The service's thread may be late for an expiry that has passed.
    if (ticks_ == 0 && expiry_ != time::kNever && !expired_ && Now() >= expiry_) {
      expired_ = true;
      ++ticks_;
    }
    if (ticks_ == 0) return Errno::kEAGAIN;
    ForwardLocked(Now());
    ticks = std::exchange(ticks_, 0);
  }
  char bytes[sizeof(ticks)];
  memcpy(bytes, &ticks, sizeof(ticks));
  size_t n = TRY(to.Put(bytes));
  if (n != sizeof(ticks)) return Errno::kEFAULT;
  return n;
}

EventMask Timerfd::Readiness(EventMask mask) {
  MutexLock lock(mu_);
  return ticks_ != 0 ? mask & kReadable : 0;
}

std::string Timerfd::FdInfo() {
  MutexLock lock(mu_);
  Setting s = GetLocked();
  return absl::StrFormat(
      "clockid: %d\nticks: %d\nsettime flags: 0%o\nit_value: (%d, %d)\nit_interval: (%d, %d)\n",
      static_cast<int>(clock_), ticks_, set_flags_, s.value / kSecond, s.value % kSecond,
      s.interval / kSecond, s.interval % kSecond);
}

}  // namespace caisson::vfs
