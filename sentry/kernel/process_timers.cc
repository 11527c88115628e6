#include "sentry/kernel/process_timers.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"

namespace caisson::kernel {
namespace {

constexpr int kItimerReal = 0, kItimerVirtual = 1;
constexpr int kItimerSignal[] = {signal::kSIGALRM, signal::kSIGVTALRM, signal::kSIGPROF};
constexpr int32_t kClockRealtime = 0, kClockMonotonic = 1, kClockProcessCpu = 2, kClockThreadCpu = 3,
                  kClockBoottime = 7, kClockRealtimeAlarm = 8, kClockBoottimeAlarm = 9,
                  kClockTai = 11;
constexpr int kSigevSignal = 0, kSigevNone = 1, kSigevThreadId = 4;
constexpr size_t kMaxPosixTimers = 4096;
// CPU clocks have no host timer: they are looked at again when they may have run out, and no
// more often than this.
constexpr int64_t kCpuCheckInterval = 4'000'000;

int64_t AddSaturating(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? time::kNever : sum;
}

bool IsCpuClock(int32_t clock) { return clock == kClockProcessCpu || clock == kClockThreadCpu; }

int64_t Now(int32_t clock, ThreadGroup& group) {
  switch (clock) {
    case kClockRealtime:
    case kClockRealtimeAlarm:
    case kClockTai:
      return time::RealtimeNow();
    case kClockBoottime:
    case kClockBoottimeAlarm:
      return time::BoottimeNow();
    case kClockProcessCpu:
    case kClockThreadCpu: {
      CpuTimes cpu = group.GetUsage().cpu;
      return static_cast<int64_t>(cpu.user_ns + cpu.system_ns);
    }
    default:
      return time::MonotonicNow();
  }
}

// How many intervals have passed at `now` since `expiry`, and the next expiry after it.
int64_t Advance(int64_t expiry, int64_t interval, int64_t now, int64_t* next) {
  int64_t missed = interval > 0 && now > expiry ? (now - expiry) / interval : 0;
  *next = AddSaturating(expiry, (missed + 1) * interval);
  return missed;
}

}  // namespace

struct ProcessTimers::Itimer {
  Itimer(time::TimerService& service, std::function<void()> f) : timer(service, std::move(f)) {}
  int64_t expiry = 0;  // On its clock; 0: disarmed.
  int64_t interval = 0;
  time::Timer timer;
};

struct ProcessTimers::PosixTimer {
  PosixTimer(time::TimerService& service, std::function<void()> f) : timer(service, std::move(f)) {}
  int32_t clock = 0;
  Event event;
  int64_t expiry = 0;
  int64_t interval = 0;
  int64_t overrun = 0;          // Since the signal was queued.
  int32_t last_overrun = 0;     // Of the last delivered signal.
  bool signal_pending = false;
  time::Timer timer;
};

ProcessTimers::ProcessTimers(ThreadGroup& group) : group_(group) {}
ProcessTimers::~ProcessTimers() { Stop(); }

int64_t ProcessTimers::CpuClockNs(int which) {
  CpuTimes cpu = group_.GetUsage().cpu;
  return static_cast<int64_t>(which == kItimerVirtual ? cpu.user_ns : cpu.user_ns + cpu.system_ns);
}

IntervalSpec ProcessTimers::GetItimer(int which) {
  int64_t now = which == kItimerReal ? time::MonotonicNow() : CpuClockNs(which);
  MutexLock lock(mu_);
  const Itimer* t = itimers_[which].get();
  if (t == nullptr || t->expiry == 0) return {0, t != nullptr ? t->interval : 0};
  return {std::max<int64_t>(t->expiry - now, 1000), t->interval};
}

IntervalSpec ProcessTimers::SetItimer(int which, const IntervalSpec& spec) {
  int64_t now = which == kItimerReal ? time::MonotonicNow() : CpuClockNs(which);
  MutexLock lock(mu_);
  std::unique_ptr<Itimer>& slot = itimers_[which];
  if (!slot) {
    if (spec.value_ns == 0) return {};
    slot = std::make_unique<Itimer>(group_.kernel().timers(), [this, which] { OnItimer(which); });
  }
  IntervalSpec old;
  if (slot->expiry != 0) old = {std::max<int64_t>(slot->expiry - now, 1000), slot->interval};
  slot->interval = spec.interval_ns;
  if (spec.value_ns == 0) {
    slot->expiry = 0;
    slot->timer.Arm(time::kNever);
    return old;
  }
  slot->expiry = AddSaturating(now, spec.value_ns);
  if (which == kItimerReal) {
    slot->timer.Arm(slot->expiry);
  } else {
    slot->timer.Arm(AddSaturating(time::MonotonicNow(), std::max(spec.value_ns, kCpuCheckInterval / 4)));
  }
  return old;
}

void ProcessTimers::OnItimer(int which) {
  int64_t now = which == kItimerReal ? time::MonotonicNow() : CpuClockNs(which);
  bool fire = false;
  {
    MutexLock lock(mu_);
    if (itimers_[which] == nullptr || itimers_[which]->expiry == 0) return;
    Itimer& t = *itimers_[which];
    if (now >= t.expiry) {
      fire = true;
      if (t.interval == 0) t.expiry = 0;
      else Advance(t.expiry, t.interval, now, &t.expiry);
    }
    if (t.expiry != 0) {
      t.timer.Arm(which == kItimerReal
                      ? t.expiry
                      : time::MonotonicNow() + std::max(t.expiry - now, kCpuCheckInterval));
    }
  }
  if (fire) group_.SendSignal(signal::Info(kItimerSignal[which]));
}

void ProcessTimers::WatchCpuLimit() {
  if (group_.limits().soft(kRlimitCpu) == kRlimInfinity) return;
  MutexLock lock(mu_);
  if (!cpu_limit_) cpu_limit_ = std::make_unique<Itimer>(group_.kernel().timers(), [this] { OnCpuLimit(); });
  cpu_limit_->expiry = 0;
  cpu_limit_->timer.Arm(time::MonotonicNow());
}

void ProcessTimers::OnCpuLimit() {
  constexpr uint64_t kSecond = 1'000'000'000;
  const Rlimit limit = group_.limits().Get(kRlimitCpu);
  if (limit.soft == kRlimInfinity) return;
  const auto used = static_cast<uint64_t>(CpuClockNs(2));
  if (limit.hard != kRlimInfinity && used / kSecond >= limit.hard) {
    group_.SendSignal(signal::Info(signal::kSIGKILL), nullptr, true);
    return;
  }
  // expiry: the second of CPU time from which the next SIGXCPU is due.
  bool fire = false;
  {
    MutexLock lock(mu_);
    if (!cpu_limit_) return;
    const uint64_t due = std::max<uint64_t>(limit.soft, static_cast<uint64_t>(cpu_limit_->expiry));
    if (used / kSecond >= due) {
      fire = true;
      cpu_limit_->expiry = static_cast<int64_t>(used / kSecond + 1);
    }
    const uint64_t next = std::max<uint64_t>(limit.soft, static_cast<uint64_t>(cpu_limit_->expiry));
    const uint64_t wait = next > used / kSecond ? std::min<uint64_t>(next * kSecond - used, 3600 * kSecond) : kSecond;
    cpu_limit_->timer.Arm(time::MonotonicNow() + std::max<int64_t>(static_cast<int64_t>(wait), kCpuCheckInterval));
  }
  if (fire) group_.SendSignal(signal::Info(signal::kSIGXCPU));
}

Result<int32_t> ProcessTimers::Create(int32_t clock_id, const Event& event) {
  switch (clock_id) {
    case kClockRealtime: case kClockMonotonic: case kClockProcessCpu: case kClockThreadCpu:
    case kClockBoottime: case kClockRealtimeAlarm: case kClockBoottimeAlarm: case kClockTai:
      break;
    default:
      return Errno::kEINVAL;
  }
  MutexLock lock(mu_);
  if (posix_.size() >= std::min<uint64_t>(kMaxPosixTimers, group_.limits().soft(kRlimitSigpending)))
    return Errno::kEAGAIN;
  int32_t id = next_id_++;
  auto timer = std::make_unique<PosixTimer>(group_.kernel().timers(), [this, id] { OnPosixTimer(id); });
  timer->clock = clock_id;
  timer->event = event;
  if (event.notify == kSigevSignal && event.signo == 0) {
    timer->event.signo = signal::kSIGALRM;
    timer->event.value = static_cast<uint32_t>(id);
  }
  posix_[id] = std::move(timer);
  return id;
}

Result<int32_t> ProcessTimers::ClockOf(int32_t id) {
  MutexLock lock(mu_);
  auto it = posix_.find(id);
  if (it == posix_.end()) return Errno::kEINVAL;
  return it->second->clock;
}

Result<IntervalSpec> ProcessTimers::SetTime(int32_t id, const IntervalSpec& spec, bool absolute) {
  int32_t clock;
  {
    MutexLock lock(mu_);
    auto it = posix_.find(id);
    if (it == posix_.end()) return Errno::kEINVAL;
    clock = it->second->clock;
  }
  int64_t now = Now(clock, group_);
  MutexLock lock(mu_);
  auto it = posix_.find(id);
  if (it == posix_.end()) return Errno::kEINVAL;
  PosixTimer& t = *it->second;
  IntervalSpec old;
  if (t.expiry != 0) old = {std::max<int64_t>(t.expiry - now, 1), t.interval};
  t.interval = spec.interval_ns;
  t.overrun = 0;
  if (spec.value_ns == 0) {
    t.expiry = 0;
    t.timer.Arm(time::kNever);
    return old;
  }
  t.expiry = absolute ? spec.value_ns : AddSaturating(now, spec.value_ns);
  int64_t delay = std::max<int64_t>(t.expiry - now, 0);
  if (IsCpuClock(clock)) delay = std::max(delay, kCpuCheckInterval / 4);
  t.timer.Arm(AddSaturating(time::MonotonicNow(), delay));
  return old;
}

Result<IntervalSpec> ProcessTimers::GetTime(int32_t id) {
  int32_t clock;
  {
    MutexLock lock(mu_);
    auto it = posix_.find(id);
    if (it == posix_.end()) return Errno::kEINVAL;
    clock = it->second->clock;
  }
  int64_t now = Now(clock, group_);
  MutexLock lock(mu_);
  auto it = posix_.find(id);
  if (it == posix_.end()) return Errno::kEINVAL;
  const PosixTimer& t = *it->second;
  if (t.expiry == 0) return IntervalSpec{0, t.interval};
  return IntervalSpec{std::max<int64_t>(t.expiry - now, 1), t.interval};
}

void ProcessTimers::OnPosixTimer(int32_t id) {
  int32_t clock;
  {
    MutexLock lock(mu_);
    auto it = posix_.find(id);
    if (it == posix_.end()) return;
    clock = it->second->clock;
  }
  int64_t now = Now(clock, group_);
  signal::Info info;
  Event event;
  {
    MutexLock lock(mu_);
    auto it = posix_.find(id);
    if (it == posix_.end() || it->second->expiry == 0) return;
    PosixTimer& t = *it->second;
    if (now < t.expiry) {
      t.timer.Arm(time::MonotonicNow() + std::max(t.expiry - now, IsCpuClock(clock) ? kCpuCheckInterval : 0));
      return;
    }
    int64_t next = 0;
    int64_t missed = Advance(t.expiry, t.interval, now, &next);
    if (t.signal_pending) {
      t.overrun += missed + 1;
    } else {
      t.overrun += missed;
      t.signal_pending = t.event.notify != kSigevNone;
    }
    t.expiry = t.interval > 0 ? next : 0;
    if (t.expiry != 0) t.timer.Arm(AddSaturating(time::MonotonicNow(), t.expiry - now));
    event = t.event;
    info = signal::Info(event.signo, signal::kSiTimer);
    info.timer.timer_id = id;
    info.timer.overrun = 0;
    info.timer.value = event.value;
  }
  if (event.notify == kSigevNone) return;
  if (event.notify == kSigevThreadId) {
    RefPtr<Task> target = group_.kernel().FindTask(*group_.kernel().root_pid_ns(), event.target_tid);
    if (target && &target->group() == &group_) target->SendThreadSignal(info);
  } else {
    group_.SendSignal(info);
  }
}

int32_t ProcessTimers::OnDelivery(int32_t id) {
  MutexLock lock(mu_);
  auto it = posix_.find(id);
  if (it == posix_.end()) return 0;
  PosixTimer& t = *it->second;
  t.signal_pending = false;
  t.last_overrun = static_cast<int32_t>(std::min<int64_t>(t.overrun, INT32_MAX));
  t.overrun = 0;
  return t.last_overrun;
}

Result<int32_t> ProcessTimers::Overrun(int32_t id) {
  MutexLock lock(mu_);
  auto it = posix_.find(id);
  if (it == posix_.end()) return Errno::kEINVAL;
  return it->second->last_overrun;
}

Result<void> ProcessTimers::Delete(int32_t id) {
  std::unique_ptr<PosixTimer> dead;  // Its destructor waits for a running callback: no lock held.
  MutexLock lock(mu_);
  auto it = posix_.find(id);
  if (it == posix_.end()) return Errno::kEINVAL;
  dead = std::move(it->second);
  posix_.erase(it);
  MutexUnlock unlock(mu_);
  dead.reset();
  return {};
}

void ProcessTimers::DeletePosixTimers() {
  std::vector<std::unique_ptr<PosixTimer>> dead;
  {
    MutexLock lock(mu_);
    for (auto& [id, timer] : posix_) dead.push_back(std::move(timer));
    posix_.clear();
  }
}

void ProcessTimers::Stop() {
  DeletePosixTimers();
  std::unique_ptr<Itimer> dead[4];
  MutexLock lock(mu_);
  for (int i = 0; i < 3; ++i) dead[i] = std::move(itimers_[i]);
  dead[3] = std::move(cpu_limit_);
  MutexUnlock unlock(mu_);
  for (auto& d : dead) d.reset();
}

std::string ProcessTimers::Show() {
  MutexLock lock(mu_);
  std::string out;
  for (const auto& [id, t] : posix_) {
    absl::StrAppend(&out, "ID: ", id, "\nsignal: ", t->event.signo, "/", absl::Hex(t->event.value, absl::kZeroPad16),
                    "\nnotify: ", t->event.notify == kSigevNone ? "none" : "signal", "/",
                    t->event.notify == kSigevThreadId ? "tid." : "pid.", group_.pid().local(),
                    "\nClockID: ", t->clock, "\n");
  }
  return out;
}

}  // namespace caisson::kernel
