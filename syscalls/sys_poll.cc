// Waiting for events: poll, select, epoll, eventfd, signalfd, pipes.
#include <algorithm>
#include <memory>

#include "sentry/kernel/signalfd.h"
#include "syscalls/handlers.h"
#include "syscalls/io.h"
#include "vfs/anon/anon_inode.h"
#include "vfs/anon/epoll.h"
#include "vfs/anon/eventfd.h"
#include "vfs/pipe/pipe_file.h"

namespace caisson::syscalls {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

struct PollItem {
  RefPtr<vfs::FileDescription> file;
  EventMask wanted = 0;
  EventMask counted = kAllEvents;  // What ends the wait (select counts less than poll).
  EventMask ready = 0;
};

// Waits until one of `items` is ready or the deadline comes; returns how many are.
Result<int64_t> PollItems(Task& task, std::vector<PollItem>& items, int64_t deadline) {
  auto check = [&items] {
    int64_t n = 0;
    for (PollItem& item : items) {
      if (item.file) item.ready = item.file->Readiness(item.wanted | kEventErr | kEventHup);
      n += (item.ready & item.counted) != 0;
    }
    return n;
  };
  int64_t n = check();
  if (n != 0 || deadline <= time::MonotonicNow()) return n;
  // Each file's queue once; the entries leave before they are destroyed.
  std::vector<std::unique_ptr<vfs::ContextWaiter>> waiters;
  std::vector<WaitQueue*> queues;
  for (PollItem& item : items) {
    WaitQueue* queue = item.file ? item.file->EventQueue() : nullptr;
    if (queue == nullptr) continue;
    waiters.push_back(std::make_unique<vfs::ContextWaiter>(task));
    queues.push_back(queue);
    queue->Add(*waiters.back(), item.wanted);
  }
  Result<void> slept;
  for (;;) {
    n = check();
    if (n != 0) break;
    slept = task.Block(deadline);
    if (!slept.ok()) {
      n = check();
      break;
    }
  }
  for (size_t i = 0; i < queues.size(); ++i) queues[i]->Remove(*waiters[i]);
  if (n != 0 || slept.ok() || slept.error() == Errno::kETIMEDOUT) return n;
  return slept.error();
}

struct Pollfd {
  int32_t fd;
  int16_t events, revents;
};
static_assert(sizeof(Pollfd) == 8);

// poll(2) proper. Writes back revents.
Result<int64_t> DoPoll(Task& task, GuestAddr fds, uint32_t count, int64_t deadline) {
  if (count > NofileLimit(task)) return Errno::kEINVAL;
  std::vector<Pollfd> polls(count);
  if (count != 0)
    TRY(task.CopyInBytes(fds, absl::Span<char>(reinterpret_cast<char*>(polls.data()), count * sizeof(Pollfd))));
  std::vector<PollItem> items(count);
  for (uint32_t i = 0; i < count; ++i) {
    if (polls[i].fd < 0) continue;
    auto file = task.fd_table().Get(polls[i].fd);
    if (!file.ok() || (*file)->kind() == vfs::FileKind::kPath) {
      items[i].ready = kEventNval;
      continue;
    }
    items[i].file = std::move(*file);
    items[i].wanted = static_cast<uint16_t>(polls[i].events);
  }
  int64_t n = TRY(PollItems(task, items, deadline));
  for (uint32_t i = 0; i < count; ++i) polls[i].revents = static_cast<int16_t>(items[i].ready);
  if (count != 0)
    TRY(task.CopyOutBytes(fds, {reinterpret_cast<const char*>(polls.data()), count * sizeof(Pollfd)}));
  return n;
}

SyscallResult PollUntil(Task& task, GuestAddr fds, uint32_t count, int64_t deadline) {
  Result<int64_t> n = DoPoll(task, fds, count, deadline);
  if (n.ok() || n.error() != Errno::kERESTARTSYS) return n;
  task.restart_block() = [=](Task& t) { return PollUntil(t, fds, count, deadline); };
  return Errno::kERESTART_RESTARTBLOCK;
}

// ppoll, select and pselect store the time that is left (select(2), "NOTES").
void StoreRemaining(Task& task, GuestAddr address, int64_t deadline, bool timeval) {
  if (address.is_null()) return;
  int64_t left = deadline == time::kNever ? 0 : std::max<int64_t>(deadline - time::MonotonicNow(), 0);
  struct Pair {
    int64_t sec, fraction;
  };
  (void)task.Write(address, Pair{left / 1'000'000'000, left % 1'000'000'000 / (timeval ? 1000 : 1)});
}

// A call under a temporary mask: it ends here unless a signal is to be delivered.
SyscallResult FinishMasked(Task& task, const Result<int64_t>& n) {
  if (!n.ok() && n.error() == Errno::kERESTARTSYS) return Errno::kERESTARTNOHAND;
  task.RestoreMask();
  return n;
}

constexpr EventMask kSelectMasks[3] = {kReadable | kEventRdBand | kEventHup | kEventErr,
                                       kWritable | kEventWrBand | kEventErr, kEventPri};

Result<int64_t> DoSelect(Task& task, int32_t count, const GuestAddr sets[3], int64_t deadline) {
  if (count < 0) return Errno::kEINVAL;
  const auto bits = std::min<uint64_t>(static_cast<uint64_t>(count), std::max<uint64_t>(task.fd_table().capacity(), 64));
  const size_t bytes = (bits + 63) / 64 * 8;
  std::vector<uint64_t> in[3], out[3];
  for (int s = 0; s < 3; ++s) {
    in[s].resize(bytes / 8);
    out[s].resize(bytes / 8);
    if (!sets[s].is_null() && bytes != 0)
      TRY(task.CopyInBytes(sets[s], absl::Span<char>(reinterpret_cast<char*>(in[s].data()), bytes)));
  }
  auto wants = [&in](int s, uint64_t fd) { return (in[s][fd / 64] >> (fd % 64) & 1) != 0; };
  std::vector<PollItem> items;
  std::vector<uint64_t> numbers;
  for (uint64_t fd = 0; fd < bits; ++fd) {
    PollItem item;
    item.counted = 0;
    for (int s = 0; s < 3; ++s)
      if (wants(s, fd)) item.counted |= kSelectMasks[s];
    if (item.counted == 0) continue;
    item.wanted = item.counted;
    item.file = TRY(task.fd_table().Get(static_cast<int32_t>(fd)));
    items.push_back(std::move(item));
    numbers.push_back(fd);
  }
  TRY(PollItems(task, items, deadline));
  int64_t n = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    for (int s = 0; s < 3; ++s) {
      if (!wants(s, numbers[i]) || (items[i].ready & kSelectMasks[s]) == 0) continue;
      out[s][numbers[i] / 64] |= uint64_t{1} << (numbers[i] % 64);
      ++n;
    }
  }
  for (int s = 0; s < 3; ++s)
    if (!sets[s].is_null() && bytes != 0)
      TRY(task.CopyOutBytes(sets[s], {reinterpret_cast<const char*>(out[s].data()), bytes}));
  return n;
}

}  // namespace

SyscallResult Poll(Task& task, GuestAddr fds, uint32_t count, int32_t timeout_ms) {
  return PollUntil(task, fds, count, timeout_ms < 0 ? time::kNever : DeadlineAfter(timeout_ms * kMillisecond));
}

SyscallResult Ppoll(Task& task, GuestAddr fds, uint32_t count, GuestAddr timeout, GuestAddr mask, uint64_t size) {
  int64_t deadline = time::kNever;
  if (!timeout.is_null()) deadline = DeadlineAfter(TRY(ReadTimespec(task, timeout)));
  if (!mask.is_null()) task.SetTemporaryMask(TRY(ReadSigset(task, mask, size)));
  Result<int64_t> n = DoPoll(task, fds, count, deadline);
  StoreRemaining(task, timeout, deadline, false);
  return FinishMasked(task, n);
}

SyscallResult Select(Task& task, int32_t count, GuestAddr read, GuestAddr write, GuestAddr except, GuestAddr timeout) {
  int64_t deadline = time::kNever;
  if (!timeout.is_null()) {
    struct Timeval {
      int64_t sec, usec;
    };
    Timeval tv = TRY(task.Read<Timeval>(timeout));
    if (tv.sec < 0 || tv.usec < 0) return Errno::kEINVAL;
    int64_t ns = 0, us = 0;
    if (__builtin_mul_overflow(tv.sec, int64_t{1'000'000'000}, &ns) ||
        __builtin_mul_overflow(tv.usec, int64_t{1000}, &us) || __builtin_add_overflow(ns, us, &ns))
      ns = INT64_MAX;
    deadline = DeadlineAfter(ns);
  }
  const GuestAddr sets[3] = {read, write, except};
  Result<int64_t> n = DoSelect(task, count, sets, deadline);
  StoreRemaining(task, timeout, deadline, true);
  return FinishMasked(task, n);
}

SyscallResult Pselect6(Task& task, int32_t count, GuestAddr read, GuestAddr write, GuestAddr except,
                       GuestAddr timeout, GuestAddr mask_argument) {
  int64_t deadline = time::kNever;
  if (!timeout.is_null()) deadline = DeadlineAfter(TRY(ReadTimespec(task, timeout)));
  if (!mask_argument.is_null()) {
    struct Argument {
      uint64_t mask, size;
    };
    Argument a = TRY(task.Read<Argument>(mask_argument));
    if (a.mask != 0) task.SetTemporaryMask(TRY(ReadSigset(task, GuestAddr(a.mask), a.size)));
  }
  const GuestAddr sets[3] = {read, write, except};
  Result<int64_t> n = DoSelect(task, count, sets, deadline);
  StoreRemaining(task, timeout, deadline, false);
  return FinishMasked(task, n);
}

// --- epoll ---

SyscallResult EpollCreate1(Task& task, Flags flags) {
  if ((flags.value & ~vfs::kOpenCloexec) != 0) return Errno::kEINVAL;
  return InstallFile(task, MakeRef<vfs::Epoll>(task.kernel().anon_inode()), flags.value != 0);
}
SyscallResult EpollCreate(Task& task, int32_t size) {
  if (size <= 0) return Errno::kEINVAL;
  return EpollCreate1(task, Flags{0});
}

SyscallResult EpollCtl(Task& task, Fd epfd, int32_t operation, Fd fd, GuestAddr event_address) {
  constexpr int kAdd = 1, kDelete = 2, kModify = 3;
  vfs::EpollEvent event;
  if (operation != kDelete) event = TRY(task.Read<vfs::EpollEvent>(event_address));
  RefPtr<vfs::FileDescription> ep = TRY(task.fd_table().Get(epfd.value));
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  vfs::Epoll* epoll = vfs::AsEpoll(*ep);
  if (file->EventQueue() == nullptr) return Errno::kEPERM;
  if (epoll == nullptr || file.get() == ep.get()) return Errno::kEINVAL;
  switch (operation) {
    case kAdd: {
      RefPtr<auth::UserCounts> user = task.user_ref();
      if (!user->Add(auth::UserCounts::kEpollWatches, 1, vfs::kMaxEpollWatches)) return Errno::kENOSPC;
      TRY(epoll->Add(fd.value, *file, event, vfs::kMaxEpollWatches,
                     auth::UserCharge(user, auth::UserCounts::kEpollWatches, 1)));
      return 0;
    }
    case kModify:
      TRY(epoll->Modify(fd.value, *file, event));
      return 0;
    case kDelete:
      TRY(epoll->Delete(fd.value, *file));
      return 0;
    default:
      return Errno::kEINVAL;
  }
}

namespace {
Result<int64_t> DoEpollWait(Task& task, Fd epfd, GuestAddr events, int32_t max, int64_t deadline) {
  constexpr int32_t kMaxEvents = INT32_MAX / static_cast<int32_t>(sizeof(vfs::EpollEvent));
  if (max <= 0 || max > kMaxEvents) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> ep = TRY(task.fd_table().Get(epfd.value));
  vfs::Epoll* epoll = vfs::AsEpoll(*ep);
  if (epoll == nullptr) return Errno::kEINVAL;
  // What one call returns is bounded: more is fetched by the next call.
  constexpr int32_t kBatch = 1024;
  std::vector<vfs::EpollEvent> out(std::min(max, kBatch));
  size_t n = TRY(epoll->Wait(task, deadline, absl::Span<vfs::EpollEvent>(out.data(), out.size())));
  if (n != 0)
    TRY(task.CopyOutBytes(events, {reinterpret_cast<const char*>(out.data()), n * sizeof(vfs::EpollEvent)}));
  return static_cast<int64_t>(n);
}
// epoll_wait is never restarted (signal(7)); with a mask the handler runs under the caller's own.
SyscallResult FinishEpoll(Task& task, const Result<int64_t>& n) {
  if (!n.ok() && n.error() == Errno::kERESTARTSYS) return Errno::kEINTR;
  task.RestoreMask();
  return n;
}
}  // namespace

SyscallResult EpollWait(Task& task, Fd epfd, GuestAddr events, int32_t max, int32_t timeout_ms) {
  int64_t deadline = timeout_ms < 0 ? time::kNever : DeadlineAfter(timeout_ms * kMillisecond);
  return FinishEpoll(task, DoEpollWait(task, epfd, events, max, deadline));
}
SyscallResult EpollPwait(Task& task, Fd epfd, GuestAddr events, int32_t max, int32_t timeout_ms, GuestAddr mask) {
  int64_t deadline = timeout_ms < 0 ? time::kNever : DeadlineAfter(timeout_ms * kMillisecond);
  if (!mask.is_null()) task.SetTemporaryMask(TRY(task.Read<signal::Set>(mask)));
  return FinishEpoll(task, DoEpollWait(task, epfd, events, max, deadline));
}
SyscallResult EpollPwait2(Task& task, Fd epfd, GuestAddr events, int32_t max, GuestAddr timeout, GuestAddr mask) {
  int64_t deadline = time::kNever;
  if (!timeout.is_null()) deadline = DeadlineAfter(TRY(ReadTimespec(task, timeout)));
  if (!mask.is_null()) task.SetTemporaryMask(TRY(task.Read<signal::Set>(mask)));
  return FinishEpoll(task, DoEpollWait(task, epfd, events, max, deadline));
}

// --- eventfd, signalfd, pipes ---

SyscallResult Eventfd2(Task& task, uint32_t initial, Flags flags) {
  if ((flags.value & ~(vfs::kEfdSemaphore | vfs::kOpenNonblock | vfs::kOpenCloexec)) != 0) return Errno::kEINVAL;
  auto file = MakeRef<vfs::Eventfd>(task.kernel().anon_inode(), initial, (flags.value & vfs::kEfdSemaphore) != 0,
                                    flags.value & vfs::kOpenNonblock);
  return InstallFile(task, std::move(file), (flags.value & vfs::kOpenCloexec) != 0);
}
SyscallResult Eventfd(Task& task, uint32_t initial) { return Eventfd2(task, initial, Flags{0}); }

SyscallResult Signalfd4(Task& task, Fd fd, GuestAddr mask, uint64_t size, Flags flags) {
  if ((flags.value & ~(vfs::kOpenNonblock | vfs::kOpenCloexec)) != 0) return Errno::kEINVAL;
  signal::Set set = TRY(ReadSigset(task, mask, size)) & ~signal::kUnblockable;
  if (fd.value != -1) {
    RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
    TRY(kernel::SetSignalfdMask(*file, set));
    return fd.value;
  }
  return InstallFile(task, kernel::NewSignalfd(task, set, flags.value & vfs::kOpenNonblock),
                     (flags.value & vfs::kOpenCloexec) != 0);
}
SyscallResult Signalfd(Task& task, Fd fd, GuestAddr mask, uint64_t size) {
  return Signalfd4(task, fd, mask, size, Flags{0});
}

SyscallResult Pipe2(Task& task, GuestAddr out, Flags flags) {
  if ((flags.value & ~(vfs::kOpenNonblock | vfs::kOpenCloexec | vfs::kOpenDirect)) != 0) return Errno::kEINVAL;
  const bool cloexec = (flags.value & vfs::kOpenCloexec) != 0;
  auto ends = task.kernel().pipes().NewPipe(task, flags.value & ~vfs::kOpenCloexec);
  int32_t fds[2];
  fds[0] = TRY(task.fd_table().Install(ends.first, 0, NofileLimit(task), cloexec));
  Result<int32_t> second = task.fd_table().Install(ends.second, 0, NofileLimit(task), cloexec);
  Result<void> stored;
  if (second.ok()) {
    fds[1] = *second;
    stored = task.CopyOutBytes(out, {reinterpret_cast<const char*>(fds), sizeof(fds)});
    if (stored.ok()) return 0;
    (void)task.fd_table().Remove(fds[1]);
  }
  (void)task.fd_table().Remove(fds[0]);
  return second.ok() ? stored.error() : second.error();
}
SyscallResult Pipe(Task& task, GuestAddr out) { return Pipe2(task, out, Flags{0}); }

}  // namespace caisson::syscalls
