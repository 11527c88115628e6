// Clocks, sleeps and timers.
#include <time.h>

#include <algorithm>

#include "sentry/kernel/process_timers.h"
#include "syscalls/handlers.h"
#include "syscalls/io.h"
#include "vfs/anon/anon_inode.h"
#include "vfs/anon/timerfd.h"

namespace caisson::syscalls {
namespace {

struct Timespec {
  int64_t sec, nsec;
};
struct Timeval {
  int64_t sec, usec;
};
constexpr int64_t kSecond = 1'000'000'000;
constexpr int32_t kRealtime = 0, kMonotonic = 1, kProcessCpu = 2, kThreadCpu = 3, kMonotonicRaw = 4,
                  kRealtimeCoarse = 5, kMonotonicCoarse = 6, kBoottime = 7, kRealtimeAlarm = 8,
                  kBoottimeAlarm = 9, kTai = 11;
constexpr int kAbstime = 1;

Timespec ToTimespec(int64_t ns) { return {ns / kSecond, ns % kSecond}; }

Result<int64_t> FromTimespec(const Timespec& t) {
  if (t.sec < 0 || t.nsec < 0 || t.nsec >= kSecond) return Errno::kEINVAL;
  if (t.sec > INT64_MAX / kSecond - 1) return time::kNever;
  return t.sec * kSecond + t.nsec;
}
Result<int64_t> FromTimeval(const Timeval& t) {
  if (t.sec < 0 || t.usec < 0 || t.usec >= 1'000'000) return Errno::kEINVAL;
  if (t.sec > INT64_MAX / kSecond - 1) return time::kNever;
  return t.sec * kSecond + t.usec * 1000;
}

// Negative clock ids name the CPU clock of a process or thread: ~pid << 3, 4 for threads, a type.
Result<int64_t> CpuClockOf(Task& task, int32_t id) {
  const int32_t pid = ~(id >> 3);
  const bool thread = (id & 4) != 0;
  const int which = id & 3;
  if (which > 2) return Errno::kEINVAL;
  kernel::CpuTimes cpu;
  if (thread) {
    RefPtr<Task> target = pid == 0 ? RefPtr<Task>(&task) : task.kernel().FindTask(task.pid_namespace(), pid);
    if (!target || &target->group() != &task.group()) return Errno::kEINVAL;
    cpu = target->GetCpuTimes();
  } else {
    RefPtr<kernel::ThreadGroup> target =
        pid == 0 ? task.group_ref() : task.kernel().FindThreadGroup(task.pid_namespace(), pid);
    if (!target) return Errno::kEINVAL;
    cpu = target->GetUsage().cpu;
  }
  return static_cast<int64_t>(which == 1 ? cpu.user_ns : cpu.user_ns + cpu.system_ns);
}

// What the caller's time namespace adds to a clock.
int64_t OffsetOf(Task& task, int32_t id) {
  const auto offsets = task.namespaces().time->offsets();
  switch (id) {
    case kMonotonic: case kMonotonicRaw: case kMonotonicCoarse: return offsets.monotonic;
    case kBoottime: case kBoottimeAlarm: return offsets.boottime;
    default: return 0;
  }
}

// An absolute time of the caller's as one of the kernel's own (timens_ktime_to_host()).
int64_t ToHostTime(Task& task, int32_t id, int64_t ns) {
  if (ns == 0 || ns == time::kNever) return ns;
  int64_t host;
  if (__builtin_sub_overflow(ns, OffsetOf(task, id), &host)) return time::kNever;
  return std::max<int64_t>(host, 1);  // Long past, and not "disarmed".
}

Result<int64_t> ReadClock(Task& task, int32_t id) {
  if (id < 0) return CpuClockOf(task, id);
  switch (id) {
    case kRealtimeAlarm:
      return time::RealtimeNow();
    // As the guest's vDSO reads them.
    case kRealtime: case kRealtimeCoarse: case kTai:
    case kMonotonic: case kMonotonicRaw: case kMonotonicCoarse:
      return time::Now(id) + OffsetOf(task, id);
    case kBoottime: case kBoottimeAlarm:
      return time::BoottimeNow() + OffsetOf(task, id);
    case kProcessCpu: {
      kernel::CpuTimes cpu = task.group().GetUsage().cpu;
      return static_cast<int64_t>(cpu.user_ns + cpu.system_ns);
    }
    case kThreadCpu: {
      kernel::CpuTimes cpu = task.GetCpuTimes();
      return static_cast<int64_t>(cpu.user_ns + cpu.system_ns);
    }
    default:
      return Errno::kEINVAL;
  }
}

}  // namespace

Result<int64_t> ReadTimespec(Task& task, GuestAddr address) {
  return FromTimespec(TRY(task.Read<Timespec>(address)));
}

SyscallResult ClockGettime(Task& task, int32_t id, GuestAddr out) {
  int64_t now = TRY(ReadClock(task, id));
  // The host's vDSO could not read this clock. The guest's, which called it, adds the offset.
  if (task.kernel().platform().vdso_range().contains(GuestAddr(task.regs().rip)))
    now -= OffsetOf(task, id);
  TRY(task.Write(out, ToTimespec(now)));
  return 0;
}

SyscallResult ClockGetres(Task& task, int32_t id, GuestAddr out) {
  TRY(ReadClock(task, id));
  const bool coarse = id == kRealtimeCoarse || id == kMonotonicCoarse;
  if (!out.is_null()) TRY(task.Write(out, Timespec{0, coarse ? 4'000'000 : 1}));
  return 0;
}

SyscallResult ClockSettime(Task& task, int32_t id, GuestAddr in) {
  TRY(ReadTimespec(task, in));
  if (id != kRealtime) return Errno::kEINVAL;
  return Errno::kEPERM;  // The clock is the host's: as in a container without CAP_SYS_TIME.
}

SyscallResult Gettimeofday(Task& task, GuestAddr tv, GuestAddr tz) {
  int64_t now = time::RealtimeNow();
  if (!tv.is_null()) TRY(task.Write(tv, Timeval{now / kSecond, now % kSecond / 1000}));
  if (!tz.is_null()) TRY(task.Write(tz, int64_t{0}));
  return 0;
}
SyscallResult Settimeofday(Task& task, GuestAddr tv, GuestAddr) {
  if (!tv.is_null()) TRY(FromTimeval(TRY(task.Read<Timeval>(tv))));
  return Errno::kEPERM;
}
SyscallResult Time(Task& task, OutPtr<int64_t> out) {
  int64_t now = time::RealtimeNow() / kSecond;
  if (!out.is_null()) TRY(out.Write(task, now));
  return now;
}
SyscallResult Adjtimex(Task& task, GuestAddr buffer) {
  struct Timex {
    uint32_t modes, pad;
    int64_t offset, freq, maxerror, esterror;
    int32_t status, pad2;
    int64_t constant, precision, tolerance, sec, usec, tick, ppsfreq, jitter;
    int32_t shift, pad3;
    int64_t stabil, jitcnt, calcnt, errcnt, stbcnt;
    int32_t tai, pad4[11];
  };
  static_assert(sizeof(Timex) == 208);
  Timex t = TRY(task.Read<Timex>(buffer));
  constexpr uint32_t kOffsetSsRead = 0xa001;
  if (t.modes != 0 && t.modes != kOffsetSsRead) return Errno::kEPERM;
  const int64_t now = time::RealtimeNow();
  constexpr int kStaUnsync = 0x40, kTimeError = 5;
  t = Timex{};
  t.status = kStaUnsync;
  t.maxerror = t.esterror = 16'000'000;
  t.constant = 2;
  t.precision = 1;
  t.tolerance = 32'768'000;
  t.tick = 10'000;
  t.sec = now / kSecond;
  t.usec = now % kSecond / 1000;
  TRY(task.Write(buffer, t));
  return kTimeError;
}

// --- Sleeping ---

namespace {

// Sleeps until `deadline` on CLOCK_MONOTONIC. An interruption leaves the rest in `remaining` and a
// restart block with the same deadline.
SyscallResult SleepUntil(Task& task, int64_t deadline, GuestAddr remaining) {
  for (;;) {
    if (time::MonotonicNow() >= deadline) return 0;
    Result<void> slept = task.Block(deadline);
    if (slept.ok()) continue;
    if (slept.error() == Errno::kETIMEDOUT) return 0;
    break;
  }
  if (!remaining.is_null()) {
    int64_t left = std::max<int64_t>(deadline - time::MonotonicNow(), 0);
    TRY(task.Write(remaining, ToTimespec(left)));
  }
  task.restart_block() = [deadline, remaining](Task& t) { return SleepUntil(t, deadline, remaining); };
  return Errno::kERESTART_RESTARTBLOCK;
}

}  // namespace

SyscallResult Nanosleep(Task& task, GuestAddr request, GuestAddr remaining) {
  int64_t ns = TRY(ReadTimespec(task, request));
  return SleepUntil(task, DeadlineAfter(ns), remaining);
}

SyscallResult ClockNanosleep(Task& task, int32_t id, int32_t flags, GuestAddr request, GuestAddr remaining) {
  if (id == kThreadCpu) return Errno::kEINVAL;
  if (id == kMonotonicRaw || id == kRealtimeCoarse || id == kMonotonicCoarse) return Errno::kEOPNOTSUPP;
  TRY(ReadClock(task, id));
  int64_t ns = TRY(ReadTimespec(task, request));
  if ((flags & kAbstime) == 0) return SleepUntil(task, DeadlineAfter(ns), remaining);
  // An absolute sleep is restarted as it stands.
  for (;;) {
    int64_t now = TRY(ReadClock(task, id));
    if (now >= ns) return 0;
    Result<void> slept = task.Block(DeadlineAfter(ns - now));
    if (!slept.ok() && slept.error() != Errno::kETIMEDOUT) return Errno::kERESTARTNOHAND;
  }
}

// --- Interval timers ---

namespace {
struct Itimerval {
  Timeval interval, value;
};
Itimerval ToItimerval(const kernel::IntervalSpec& s) {
  auto tv = [](int64_t ns) { return Timeval{ns / kSecond, ns % kSecond / 1000}; };
  return {tv(s.interval_ns), tv(s.value_ns)};
}
}  // namespace

SyscallResult Getitimer(Task& task, int32_t which, GuestAddr out) {
  if (which < 0 || which > 2) return Errno::kEINVAL;
  TRY(task.Write(out, ToItimerval(task.group().timers().GetItimer(which))));
  return 0;
}
SyscallResult Setitimer(Task& task, int32_t which, GuestAddr in, GuestAddr out) {
  kernel::IntervalSpec spec;
  if (!in.is_null()) {
    Itimerval v = TRY(task.Read<Itimerval>(in));
    spec.value_ns = TRY(FromTimeval(v.value));
    spec.interval_ns = TRY(FromTimeval(v.interval));
  }
  if (which < 0 || which > 2) return Errno::kEINVAL;
  kernel::IntervalSpec old = task.group().timers().SetItimer(which, spec);
  if (!out.is_null()) TRY(task.Write(out, ToItimerval(old)));
  return 0;
}
SyscallResult Alarm(Task& task, uint32_t seconds) {
  kernel::IntervalSpec old = task.group().timers().SetItimer(0, {int64_t{seconds} * kSecond, 0});
  // Rounded, but never to 0 while one was pending (Linux alarm_setitimer()).
  int64_t left = (old.value_ns + kSecond / 2) / kSecond;
  return old.value_ns != 0 && left == 0 ? 1 : left;
}

// --- POSIX timers ---

namespace {
struct Itimerspec {
  Timespec interval, value;
};
}  // namespace

SyscallResult TimerCreate(Task& task, int32_t clock, GuestAddr event, OutPtr<int32_t> id_out) {
  struct Sigevent {
    uint64_t value;
    int32_t signo, notify, tid;
    int32_t pad[11];
  };
  static_assert(sizeof(Sigevent) == 64);
  constexpr int kSigevSignal = 0, kSigevNone = 1, kSigevThread = 2, kSigevThreadId = 4;
  kernel::ProcessTimers::Event e;
  if (!event.is_null()) {
    Sigevent s = TRY(task.Read<Sigevent>(event));
    if (s.notify != kSigevSignal && s.notify != kSigevNone && s.notify != kSigevThread &&
        s.notify != kSigevThreadId)
      return Errno::kEINVAL;
    if (s.notify != kSigevNone && !signal::IsValid(s.signo)) return Errno::kEINVAL;
    e.notify = s.notify == kSigevThread ? kSigevSignal : s.notify;
    e.signo = s.signo;
    e.value = s.value;
    if (s.notify == kSigevThreadId) {
      RefPtr<Task> target = task.kernel().FindTask(task.pid_namespace(), s.tid);
      if (!target || &target->group() != &task.group()) return Errno::kEINVAL;
      e.target_tid = target->tid();
    }
  }
  int32_t id = TRY(task.group().timers().Create(clock, e));
  Result<void> written = id_out.Write(task, id);
  if (!written.ok()) {
    (void)task.group().timers().Delete(id);
    return written.error();
  }
  return 0;
}
SyscallResult TimerSettime(Task& task, int32_t id, int32_t flags, GuestAddr in, GuestAddr out) {
  if (in.is_null()) return Errno::kEINVAL;
  Itimerspec s = TRY(task.Read<Itimerspec>(in));
  int64_t value = TRY(FromTimespec(s.value));
  int64_t interval = TRY(FromTimespec(s.interval));
  if ((flags & kAbstime) != 0) {
    const int32_t clock = TRY(task.group().timers().ClockOf(id));
    value = ToHostTime(task, clock, value);
  }
  kernel::IntervalSpec old =
      TRY(task.group().timers().SetTime(id, {value, interval}, (flags & kAbstime) != 0));
  if (!out.is_null())
    TRY(task.Write(out, Itimerspec{ToTimespec(old.interval_ns), ToTimespec(old.value_ns)}));
  return 0;
}
SyscallResult TimerGettime(Task& task, int32_t id, GuestAddr out) {
  kernel::IntervalSpec now = TRY(task.group().timers().GetTime(id));
  TRY(task.Write(out, Itimerspec{ToTimespec(now.interval_ns), ToTimespec(now.value_ns)}));
  return 0;
}
SyscallResult TimerGetoverrun(Task& task, int32_t id) {
  return int64_t{TRY(task.group().timers().Overrun(id))};
}
SyscallResult TimerDelete(Task& task, int32_t id) {
  TRY(task.group().timers().Delete(id));
  return 0;
}

// --- timerfd ---

SyscallResult TimerfdCreate(Task& task, int32_t clock, Flags flags) {
  if ((flags.value & ~(vfs::kOpenNonblock | vfs::kOpenCloexec)) != 0) return Errno::kEINVAL;
  switch (clock) {
    case kRealtime: case kMonotonic: case kBoottime:
      break;
    case kRealtimeAlarm: case kBoottimeAlarm:
      if (!task.creds().HasRootCapability(auth::Capability::kWakeAlarm)) return Errno::kEPERM;
      break;
    default:
      return Errno::kEINVAL;
  }
  auto file = MakeRef<vfs::Timerfd>(task.kernel().anon_inode(), task.kernel().timers(),
                                    static_cast<vfs::Timerfd::Clock>(clock),
                                    flags.value & vfs::kOpenNonblock);
  return InstallFile(task, std::move(file), (flags.value & vfs::kOpenCloexec) != 0);
}

namespace {
Result<RefPtr<vfs::FileDescription>> GetTimerfd(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() != vfs::FileKind::kTimerfd) return Errno::kEINVAL;
  return file;
}
}  // namespace

SyscallResult TimerfdSettime(Task& task, Fd fd, int32_t flags, GuestAddr in, GuestAddr out) {
  if ((flags & ~(vfs::kTfdAbsolute | vfs::kTfdCancelOnSet)) != 0) return Errno::kEINVAL;
  Itimerspec s = TRY(task.Read<Itimerspec>(in));
  vfs::Timerfd::Setting setting;
  setting.interval = TRY(FromTimespec(s.interval));
  setting.value = TRY(FromTimespec(s.value));
  RefPtr<vfs::FileDescription> file = TRY(GetTimerfd(task, fd));
  auto& timer = static_cast<vfs::Timerfd&>(*file);
  if ((flags & vfs::kTfdAbsolute) != 0)
    setting.value = ToHostTime(task, static_cast<int32_t>(timer.clock()), setting.value);
  auto old = timer.Set(flags, setting);
  if (!out.is_null())
    TRY(task.Write(out, Itimerspec{ToTimespec(old.interval), ToTimespec(old.value)}));
  return 0;
}
SyscallResult TimerfdGettime(Task& task, Fd fd, GuestAddr out) {
  RefPtr<vfs::FileDescription> file = TRY(GetTimerfd(task, fd));
  auto now = static_cast<vfs::Timerfd&>(*file).Get();
  TRY(task.Write(out, Itimerspec{ToTimespec(now.interval), ToTimespec(now.value)}));
  return 0;
}

}  // namespace caisson::syscalls
