// futex(2), robust lists.
#include "sentry/futex/futex.h"
#include "syscalls/handlers.h"
#include "syscalls/io.h"

namespace caisson::syscalls {
namespace {

constexpr int kWait = 0, kWake = 1, kRequeue = 3, kCmpRequeue = 4, kWakeOp = 5, kLockPi = 6, kUnlockPi = 7,
              kTrylockPi = 8, kWaitBitset = 9, kWakeBitset = 10, kWaitRequeuePi = 11, kCmpRequeuePi = 12,
              kLockPi2 = 13;
constexpr int kPrivate = 128, kClockRealtime = 256;

// A deadline on CLOCK_MONOTONIC from what the call was given.
Result<int64_t> Deadline(Task& task, GuestAddr timeout, bool absolute, bool realtime) {
  if (timeout.is_null()) return time::kNever;
  int64_t ns = TRY(ReadTimespec(task, timeout));
  if (!absolute) return DeadlineAfter(ns);
  if (!realtime) return ns == time::kNever ? ns : std::max<int64_t>(ns - task.namespaces().time->offsets().monotonic, 1);
  return DeadlineAfter(std::max<int64_t>(ns - time::RealtimeNow(), 0));
}

futex::PiTask PiOf(Task& task) {
  return futex::PiTask{.tid = task.TidIn(task.pid_namespace()), .id = task.unique_id(),
                       .id_of = [&task](int32_t tid) -> uint64_t {
                         RefPtr<Task> t = task.kernel().FindTask(task.pid_namespace(), tid);
                         return t ? t->unique_id() : 0;
                       }};
}

SyscallResult WaitUntilDeadline(Task& task, GuestAddr addr, bool is_private, uint32_t expected, uint32_t bitset, int64_t deadline) {
  Result<void> r = task.kernel().futexes().Wait(task, {task.mm(), addr, is_private}, expected, bitset, deadline);
  if (r.ok()) return 0;
  if (r.error() == Errno::kERESTART_RESTARTBLOCK)
    task.restart_block() = [=](Task& t) { return WaitUntilDeadline(t, addr, is_private, expected, bitset, deadline); };
  return r.error();
}

}  // namespace

SyscallResult Futex(Task& task, GuestAddr addr, int32_t op, uint32_t value, GuestAddr timeout, GuestAddr addr2, uint32_t value3) {
  const int command = op & ~(kPrivate | kClockRealtime);
  const bool is_private = (op & kPrivate) != 0;
  const bool realtime = (op & kClockRealtime) != 0;
  if (realtime && command != kWaitBitset && command != kWaitRequeuePi && command != kLockPi2) return Errno::kENOSYS;
  futex::FutexManager& futexes = task.kernel().futexes();
  const futex::Word word{task.mm(), addr, is_private};
  const futex::Word word2{task.mm(), addr2, is_private};
  const int count = static_cast<int>(value);
  const int count2 = static_cast<int>(timeout.value);  // val2 travels in the timeout's register.
  switch (command) {
    case kWait:
    case kWaitBitset: {
      int64_t deadline = TRY(Deadline(task, timeout, command == kWaitBitset, realtime));
      return WaitUntilDeadline(task, addr, is_private, value, command == kWait ? ~0u : value3, deadline);
    }
    case kWake:
      return TRY(futexes.Wake(word, count));
    case kWakeBitset:
      return TRY(futexes.Wake(word, count, value3));
    case kRequeue:
      return TRY(futexes.Requeue(word, word2, count, count2, std::nullopt));
    case kCmpRequeue:
      return TRY(futexes.Requeue(word, word2, count, count2, value3));
    case kWakeOp:
      return TRY(futexes.WakeOp(word, word2, count, count2, value3));
    case kLockPi:
    case kLockPi2: {
      // FUTEX_LOCK_PI's timeout is on CLOCK_REALTIME always.
      int64_t deadline = TRY(Deadline(task, timeout, true, realtime || command == kLockPi));
      TRY(futexes.LockPi(task, PiOf(task), word, false, deadline));
      return 0;
    }
    case kTrylockPi:
      TRY(futexes.LockPi(task, PiOf(task), word, true, time::kNever));
      return 0;
    case kUnlockPi:
      TRY(futexes.UnlockPi(PiOf(task), word));
      return 0;
    case kWaitRequeuePi: {
      int64_t deadline = TRY(Deadline(task, timeout, true, realtime));
      TRY(futexes.WaitRequeuePi(task, PiOf(task), word, word2, value, ~0u, deadline));
      return 0;
    }
    case kCmpRequeuePi:
      return TRY(futexes.CmpRequeuePi(PiOf(task), word, word2, count, count2, value3));
    default:
      return Errno::kENOSYS;
  }
}

SyscallResult FutexWaitv(Task& task, GuestAddr waiters, uint32_t count, Flags flags, GuestAddr timeout, int32_t clock) {
  struct Waitv {
    uint64_t value, address;
    uint32_t flags, reserved;
  };
  constexpr uint32_t kMax = 128, kSize32 = 2;
  if (flags.value != 0 || count == 0 || count > kMax || waiters.is_null()) return Errno::kEINVAL;
  int64_t deadline = time::kNever;
  if (!timeout.is_null()) {
    if (clock != 0 && clock != 1) return Errno::kEINVAL;
    deadline = TRY(Deadline(task, timeout, true, clock == 0));
  }
  std::vector<Waitv> in(count);
  TRY(task.CopyInBytes(waiters, absl::Span<char>(reinterpret_cast<char*>(in.data()), count * sizeof(Waitv))));
  std::vector<futex::FutexManager::WaitvEntry> entries;
  for (const Waitv& w : in) {
    if ((w.flags & ~(kSize32 | kPrivate)) != 0 || (w.flags & 3) != kSize32 || w.reserved != 0) return Errno::kEINVAL;
    entries.push_back({GuestAddr(w.address), (w.flags & kPrivate) != 0, static_cast<uint32_t>(w.value)});
  }
  return TRY(task.kernel().futexes().WaitMultiple(task, task.mm(), entries, deadline));
}

SyscallResult SetRobustList(Task& task, GuestAddr head, uint64_t length) {
  constexpr uint64_t kHeadSize = 24;
  if (length != kHeadSize) return Errno::kEINVAL;
  task.robust_list = head;
  return 0;
}

SyscallResult GetRobustList(Task& task, int32_t tid, OutPtr<uint64_t> head, OutPtr<uint64_t> length) {
  RefPtr<Task> target(&task);
  if (tid != 0) target = task.kernel().FindTask(task.pid_namespace(), tid);
  if (!target) return Errno::kESRCH;
  TRY(MayAccessTask(task, *target));
  TRY(length.Write(task, 24));
  TRY(head.Write(task, target->robust_list.value));
  return 0;
}

}  // namespace caisson::syscalls
