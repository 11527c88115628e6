// Host calls that the sentry asks a stopped guest thread to make (README.md).
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "platform/trap/guest_filter.h"
#include "platform/trap/host_thread.h"

namespace caisson::platform::trap {
namespace {

// 10 s of our own running time: others may wait for the mm meanwhile.
constexpr int kHostCallRounds = 100;
// What takes longer has its time with the worker.
constexpr uint64_t kMaxLength = uint64_t{1} << 30;
// Notifications that are nothing new: a stop of the host's repeats one.
constexpr int kMaxRepeats = 1000;
constexpr uint32_t kAddFdSend = 2;  // SECCOMP_ADDFD_FLAG_SEND.

bool IsQuickAdvice(uint64_t advice) {
  return advice <= MADV_SEQUENTIAL || advice == MADV_DONTNEED || advice == MADV_FREE ||
         (advice >= MADV_HUGEPAGE && advice <= MADV_KEEPONFORK);
}

bool IsQuick(const stub::Request& r) {
  if (r.kind != stub::RequestKind::kSyscall || r.args[1] > kMaxLength) return false;
  switch (r.number) {
    case SYS_mmap:
    case SYS_munmap:
    case SYS_mprotect:
      return true;
    case SYS_mremap:
      return r.args[2] <= kMaxLength;
    case SYS_madvise:
      return IsQuickAdvice(r.args[2]);
    default:
      return false;
  }
}

uint32_t Turn(const Slot* slot) {
  return __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) & kTurnMask;
}

// Whether the guest's word is enough that it is done.
bool IsFree(const stub::Request& request, const HostCall& call) {
  return request.proven == 0 && IsFreeHostCall(call.number, call.args);
}

}  // namespace

bool HostThread::CanRunHostCalls(absl::Span<const stub::Request> requests, bool* quiet) const {
  if (!environment_.notify || (at_ != Stop::kTrap && at_ != Stop::kCall) || requests.empty() ||
      requests.size() > kMaxHostCalls || !std::all_of(requests.begin(), requests.end(), IsQuick))
    return false;
  *quiet = std::all_of(requests.begin(), requests.end(), [](const stub::Request& r) {
    return r.proven == 0 && IsFreeHostCall(r.number, r.args);
  });
  return true;
}

// It is asked for nothing that could harm anybody else: its own words that calls are done are enough
// if all of them are free (IsFreeHostCall). For any other the kernel tells us that the thread is about
// to make it, with the arguments that the kernel will use, and by the next notification of the same
// thread that it has returned. What guests can do meanwhile is to have it not made, or made twice.
Result<HostThread::HostOutcome> HostThread::RunHostCalls(absl::Span<const stub::Request> requests,
                                                         int fd) {
  HostCall calls[kMaxHostCalls] = {};
  bool free = true;
  for (size_t i = 0; i < requests.size(); ++i) {
    calls[i].number = requests[i].number;
    std::copy(std::begin(requests[i].args), std::end(requests[i].args), calls[i].args);
    if (fd >= 0 && calls[i].number == SYS_mmap && (calls[i].args[3] & MAP_ANONYMOUS) == 0)
      calls[i].args[4] = kHostCallFd;
    calls[i].free = IsFree(requests[i], calls[i]);
    free = free && calls[i].free != 0;
  }
  const size_t count = requests.size();
  auto next_told = [&](size_t i) {
    while (i < count && calls[i].free != 0) ++i;
    return i;
  };
  std::memcpy(page_->host_calls, calls, count * sizeof(HostCall));
  page_->host_count = static_cast<uint32_t>(count);
  page_->host_rings = !free;
  page_->host_closes = fd >= 0;
  page_->host_asks = fd >= 0 && doorbell_id_ == 0;
  const bool awake = free && fd < 0 && spin_ != 0 && !sleeping_;
  bool has_fd = fd < 0;
  int fd_error = 0;
  // The descriptor is the answer to a bell. One that is withdrawn comes again.
  auto answer_with_fd = [&](uint64_t id) {
    const Added added = AddDescriptor(id, fd, /*answer=*/true);
    has_fd = added == Added::kYes;
    if (added != Added::kNo) return;
    fd_error = ENOMEM;
    Send(id, 0);
  };
  if (!has_fd && doorbell_id_ != 0) {
    __atomic_store_n(&slot_->state, kHost | kParked, __ATOMIC_SEQ_CST);
    answer_with_fd(std::exchange(doorbell_id_, 0));
  } else {
    Release(awake ? kHost : kHost | kParked);
  }

  size_t told = next_told(0);  // The next call that we will be told of,
  size_t last = count;         // and the last one that we were told of.
  int rounds = kHostCallRounds, repeats = 0;
  bool done = awake && SpinForHostCalls();
  while (!done) {
    if (++repeats > kMaxRepeats) return Broken("does not make its host calls"), Errno::kEIO;
    seccomp_notif n;
    if (!Receive(&n, &rounds)) return Errno::kEIO;
    const bool ours = n.data.arch == AUDIT_ARCH_X86_64;
    if (ours && n.data.nr == static_cast<int>(kDoorbell) && IsDoorbell(n.data.instruction_pointer)) {
      if (Turn(slot_) == kHost) {  // It asks for the descriptor, or slept when we asked.
        if (!has_fd && fd_error == 0) answer_with_fd(n.id);
        else Send(n.id, 0);
        continue;
      }
      doorbell_id_ = n.id;
      done = true;
      continue;
    }
    auto is = [&](size_t i) {
      return i < count && n.data.nr == static_cast<int>(calls[i].number) &&
             std::equal(std::begin(calls[i].args), std::end(calls[i].args), std::begin(n.data.args));
    };
    const auto& from = environment_.host_calls;
    const bool known =
        ours && std::find(from.begin(), from.end(), n.data.instruction_pointer) != from.end();
    const size_t at = known && is(told) ? told : known && is(last) ? last : count;
    if (at == count) return Broken("another call instead of the one it was asked for"), Errno::kEIO;
    if (Continue(n.id) && at == told) {
      last = at;
      told = next_told(at + 1);
    }
  }
  const auto* slot = static_cast<const volatile Slot*>(slot_);
  const int64_t result = slot->host_result;
  const uint32_t left = slot->host_left;
  HostOutcome outcome;
  if (left > count) return Broken("impossible count of results"), Errno::kEIO;
  outcome.executed = count - left;
  if (left == 0) {
    if (told < count) return Broken("has not made its host calls"), Errno::kEIO;
    return outcome;
  }
  if (result >= 0 || result < -4095) return Broken("impossible error"), Errno::kEIO;
  outcome.host_errno = fd_error != 0 ? fd_error : static_cast<int>(-result);
  return outcome;
}

// True if they are done. Else the thread rings when they are.
bool HostThread::SpinForHostCalls() {
  const uint64_t start = __rdtsc();
  while (!sleeping_ && __rdtsc() - start < uint64_t{16} * spin_) {
    if (Turn(slot_) != kHost) return true;
  }
  uint32_t expected = kHost;
  return !__atomic_compare_exchange_n(&slot_->state, &expected, kHost | kParked, false,
                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

// The next notification of this thread. False if it is gone or takes too long; the stub is killed.
bool HostThread::Receive(seccomp_notif* n, int* rounds) {
  for (;;) {
    pollfd p{listener_.get(), POLLIN, 0};
    const timespec timeout{0, kRoundMs * 1000000L};
    if (ppoll(&p, 1, &timeout, nullptr) <= 0) {
      if (--*rounds > 0) continue;
      Broken("does not make its host calls in time");
      return false;
    }
    if ((p.revents & POLLIN) == 0) {
      Dead();
      return false;
    }
    std::memset(n, 0, sizeof(*n));
    if (ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, n) == 0) break;
    if (errno == EINTR || errno == ENOENT) continue;
    Broken("its listener does not work");
    return false;
  }
  sleeping_ = false;
  if (static_cast<pid_t>(n->pid) == tid_) return true;
  Broken("a notification of another thread");
  return false;
}

bool HostThread::Continue(uint64_t id) {
  seccomp_notif_resp response{};
  response.id = id;
  response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  return ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) == 0;
}

// Puts `fd` into the stub as kHostCallFd, for the thread that waits in notification `id`, and answers
// that if asked to.
HostThread::Added HostThread::AddDescriptor(uint64_t id, int fd, bool answer) {
  seccomp_notif_addfd add{};
  add.id = id;
  add.flags = SECCOMP_ADDFD_FLAG_SETFD | (answer ? kAddFdSend : 0);
  add.srcfd = static_cast<uint32_t>(fd);
  add.newfd = kHostCallFd;
  add.newfd_flags = O_CLOEXEC;
  for (;;) {
    const int got = ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &add);
    if (got == static_cast<int>(kHostCallFd)) return Added::kYes;
    if (got >= 0 || (errno != EINTR && errno != ENOENT && errno != EINPROGRESS)) return Added::kNo;
    if (errno != EINTR) return Added::kWithdrawn;
  }
}

}  // namespace caisson::platform::trap
