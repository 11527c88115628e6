// How the sentry waits for a guest thread, awake and asleep, and lets it run.
#include <errno.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <cstring>
#include <utility>

#include "platform/trap/host_thread.h"

namespace caisson::platform::trap {
namespace {

constexpr int kPinnedMs = 10;

// How often a thread may ring for nothing in one wait: once, and again for each stop of the host's. A guest
// can jump there; more often it has called getpid(2), or if there is no listener is looked at once in a millisecond.
constexpr int kMaxRings = 64;

// Cycles: how long a wake-up on another CPU may take; how often to look for notifications meanwhile.
constexpr uint64_t kWakeUp = 52'000, kLook = 8'000;

uint32_t LoadAcquire(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

long Futex(uint32_t* word, int op, uint32_t value, int timeout_ms) {
  timespec timeout{timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
  return syscall(SYS_futex, word, op, value, op == FUTEX_WAIT ? &timeout : nullptr, nullptr, 0);
}

int Poll(pollfd* p, int timeout_ms) {
  const timespec timeout{timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
  return ppoll(p, 1, &timeout, nullptr);
}

}  // namespace

HostThread::Stop HostThread::WaitFor(int rounds) {
  return environment_.notify ? WaitForNotification(rounds) : WaitForState(rounds);
}

// For what takes the thread no time; awake, if both wait so.
HostThread::Stop HostThread::WaitShortly() {
  Stop seen;
  awake_ = spin_ != 0;
  if (awake_ && SpinForState(&seen)) return seen;
  awake_ = false;
  return WaitFor(kRounds);
}

// `rounds` 0: without limit.
HostThread::Stop HostThread::WaitForNotification(int rounds) {
  const bool limited = rounds != 0;
  Stop seen;
  awake_ = spin_ != 0 && !limited;
  if (awake_ && SpinForState(&seen)) return seen;
  awake_ = false;
  for (int rings = 0;;) {
    if (spin_ != 0 && !limited && !std::exchange(said_slow_, true)) {
      // Pinned threads that wait for long are let go.
      pollfd p{listener_.get(), POLLIN, 0};
      if (Poll(&p, kPinnedMs) == 0) return Stop::kSlow;
    }
    if (limited) {
      pollfd p{listener_.get(), POLLIN, 0};
      if (Poll(&p, kRoundMs) <= 0) {
        if (--rounds == 0) return Broken("does not react to a signal");
        continue;
      }
    }
    seccomp_notif n;
    std::memset(&n, 0, sizeof(n));
    if (ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &n) != 0) {
      if (errno == EINTR) continue;
      if (errno != ENOENT) return Broken("its listener does not work");
      // It was withdrawn just then; or the thread is gone.
      pollfd p{listener_.get(), POLLIN, 0};
      if (Poll(&p, 0) == 1 && (p.revents & POLLHUP) != 0) return Dead();
      continue;
    }
    if (static_cast<pid_t>(n.pid) != tid_) return Broken("a notification of another thread");
    said_slow_ = false;
    if (n.data.nr == static_cast<int>(kDoorbell) && n.data.arch == AUDIT_ARCH_X86_64 &&
        IsDoorbell(n.data.instruction_pointer)) {
      const uint32_t state = LoadAcquire(&slot_->state);
      doorbell_id_ = n.id;
      sleeping_ = false;
      switch (state & kTurnMask) {
        case kTrap:
        case kCall:
          return TakeState(state);
        case kGuest:  // It slept, or rings again after an answer that was cut short.
          break;
        default:
          return Broken("impossible state");
      }
      if (++rings <= kMaxRings) {
        Send(std::exchange(doorbell_id_, 0), 0);
        if (spin_ != 0 && !limited && SpinForState(&seen)) return seen;
        continue;
      }
      doorbell_id_ = 0;
    }
    notification_.id = n.id;
    notification_.ip = n.data.instruction_pointer;
    notification_.number = static_cast<uint32_t>(n.data.nr);
    notification_.arch = n.data.arch;
    for (int i = 0; i < 6; ++i) notification_.args[i] = n.data.args[i];
    return at_ = Stop::kNotification;
  }
}

HostThread::Stop HostThread::WaitForState(int rounds) {
  const bool limited = rounds != 0;
  constexpr int kIdleMs = 250;  // For the end of a stub, which nobody tells.
  Stop seen;
  awake_ = spin_ != 0 && !limited;
  if (awake_ && SpinForState(&seen)) return seen;
  awake_ = false;
  for (int rings = 0;;) {
    if (rings > kMaxRings) {
      uint32_t never = 0;
      Futex(&never, FUTEX_WAIT, 0, 1);
      if (limited && rings > kMaxRings + kRounds * kRoundMs) return Broken("does not react to a signal");
    }
    uint32_t state = LoadAcquire(&slot_->state);
    if ((state & kTurnMask) != kGuest) return TakeState(state);
    if (!__atomic_compare_exchange_n(&slot_->state, &state, kGuest | kParked, false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      ++rings;
      continue;
    }
    parked_ = true;
    const int wait_ms = limited ? kRoundMs : spin_ != 0 ? kPinnedMs : kIdleMs;
    if (Futex(&slot_->state, FUTEX_WAIT, kGuest | kParked, wait_ms) == 0 || errno != ETIMEDOUT) {
      ++rings;
      continue;
    }
    if (spin_ != 0 && !limited && !std::exchange(said_slow_, true)) return Stop::kSlow;
    if (syscall(SYS_tgkill, stub_.pid(), tid_, 0) != 0) {
      stub_.Kill();
      return Dead();
    }
    if (limited && --rounds == 0) return Broken("does not react to a signal");
  }
}

HostThread::Stop HostThread::TakeState(uint32_t state) {
  parked_ = false;
  said_slow_ = false;
  switch (state & kTurnMask) {
    case kTrap: return TakeTrap();
    case kCall: return TakeCall();
    default: return Broken("impossible state");
  }
}

void HostThread::SetSpin(uint32_t cycles, uint64_t lost) {
  spin_ = cycles;
  lost_ = lost;
  tally_ = {};
  page_->spin_cycles = cycles;
}

// Waits awake, for a limited time, whatever the guest does. False if the thread goes on to run, or
// will be heard of by a notification only.
bool HostThread::SpinForState(Stop* stop) {
  if (sleeping_) return false;
  uint32_t state = LoadAcquire(&slot_->state);
  if (parked_) {
    parked_ = false;
    state = kGuest | kParked;
    // Else it has seen the flag: it rings.
    if (!__atomic_compare_exchange_n(&slot_->state, &state, kGuest, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST) &&
        environment_.notify)
      return false;
  }
  // Who was woken just now takes a while. It may also make a call that comes to the listener.
  const bool woken = std::exchange(woken_, false);
  const uint64_t start = __rdtsc(), end = start + spin_ + (woken ? kWakeUp : 0);
  for (uint64_t last = start, look = start + spin_, now;; last = now) {
    state = LoadAcquire(&slot_->state);
    if ((state & kTurnMask) != kGuest) {
      doorbell_id_ = 0;
      ++tally_.quick;
      *stop = TakeState(state);
      return true;
    }
    now = __rdtsc();
    if (now - last > lost_) {
      tally_.lost += now - last;
      break;
    }
    if (now > end) {
      ++tally_.slow;
      break;
    }
    if (now > look) {
      look = now + kLook;
      pollfd p{listener_.get(), POLLIN, 0};
      if (environment_.notify && Poll(&p, 0) > 0) {
        ++tally_.slow;
        break;
      }
      now = __rdtsc();
    }
  }
  uint32_t expected = kGuest;
  if (__atomic_compare_exchange_n(&slot_->state, &expected, kGuest | kParked, false,
                                  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    parked_ = true;
    return false;
  }
  if ((expected & kTurnMask) == kGuest) return false;
  doorbell_id_ = 0;
  *stop = TakeState(expected);
  return true;
}

bool HostThread::IsDoorbell(uint64_t ip) const {
  for (uint64_t doorbell : environment_.doorbells) {
    if (ip == doorbell) return true;
  }
  return false;
}

bool HostThread::Send(uint64_t id, uint64_t value, int error) {
  seccomp_notif_resp response{};
  response.id = id;
  response.val = static_cast<int64_t>(value);
  response.error = -error;
  woken_ = true;
  return ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) == 0;
}

bool HostThread::Answer(uint64_t rax) { return Send(notification_.id, rax); }

// Sets `state` and wakes the thread.
void HostThread::Release(uint32_t state) {
  const uint32_t old = __atomic_exchange_n(&slot_->state, state, __ATOMIC_SEQ_CST);
  if (environment_.notify) {
    // If it has been withdrawn the thread rings again, and is answered then.
    if (doorbell_id_ != 0) {
      Send(std::exchange(doorbell_id_, 0), 0);
    } else if ((old & kSleeping) != 0) {
      // It did not get our answer in time: its doorbell is answered by the next wait.
      sleeping_ = true;
      ++tally_.slow;
    }
  } else if ((old & kSleeping) != 0) {
    woken_ = true;
    Futex(&slot_->state, FUTEX_WAKE, 1, 0);
  }
}

void HostThread::Resume() { Release(kGuest); }

}  // namespace caisson::platform::trap
