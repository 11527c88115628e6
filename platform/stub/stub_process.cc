#include "platform/stub/stub_process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "platform/stub/blob.h"

namespace caisson::platform::stub {
namespace {

constexpr size_t kMaxReadyThreads = 4;  // A parked thread is some 20 KB of kernel memory.
constexpr timespec kReapTimeout = {30, 0};  // Tearing down a very large address space takes a while.

// One message of one byte, with the kernel's word who sent it. Returns 0 at the end of file.
pid_t ReceiveHello(int socket) {
  char byte;
  iovec iov{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof(control);
  ssize_t n;
  do n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n != 1) return 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&msg); c != nullptr; c = CMSG_NXTHDR(&msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS) continue;
    ucred credentials;
    std::memcpy(&credentials, CMSG_DATA(c), sizeof(credentials));
    return credentials.pid;
  }
  return 0;
}

StubProcess::FinalUsage ToFinalUsage(const rusage& usage) {
  return {static_cast<uint64_t>(usage.ru_maxrss) * 1024, static_cast<uint64_t>(usage.ru_minflt),
          static_cast<uint64_t>(usage.ru_majflt)};
}

}  // namespace

bool IsThreadOf(pid_t pid, pid_t tid) {
  return tid > 0 && tid != pid && syscall(SYS_tgkill, pid, tid, 0) == 0;
}

StubProcess::StubProcess(Slots slots, pid_t pid, UniqueFd pidfd, const Common& common)
    : pid_(pid), pidfd_(std::move(pidfd)), common_(common), slots_(std::move(slots)) {}

Result<std::unique_ptr<StubProcess>> StubProcess::Greet(Slots slots, const Common& common) {
  const pid_t pid = ReceiveHello(slots.socket.get());
  if (pid <= 1) return Errno::kEAGAIN;
  int off = 0;
  setsockopt(slots.socket.get(), SOL_SOCKET, SO_PASSCRED, &off, sizeof(off));
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  std::unique_ptr<StubProcess> stub(
      new StubProcess(std::move(slots), pid, std::move(pidfd), common));
  if (!stub->pidfd_.valid()) return Errno::kEMFILE;
  const pid_t tid = stub->slots_.result()->ready_tid;
  if (IsThreadOf(pid, tid)) stub->PutBackThread(tid);
  return stub;
}

StubProcess::~StubProcess() {
  if (!reaped_) End();
}

StubProcess::FinalUsage StubProcess::End() {
  reaped_ = true;
  Kill();
  if (pidfd_.valid()) {
    pollfd p{pidfd_.get(), POLLIN, 0};
    int n;
    do n = ppoll(&p, 1, &kReapTimeout, nullptr);
    while (n < 0 && errno == EINTR);
    if (n == 0) {
      LOG_ERROR("stub ", pid_, " does not end; it is left behind");
      return {};
    }
  }
  siginfo_t info;
  rusage usage{};
  // The call itself takes a fifth argument (waitid(2), C library/kernel differences).
  int waited;
  do waited = static_cast<int>(syscall(SYS_waitid, P_PID, pid_, &info, WEXITED, &usage));
  while (waited != 0 && errno == EINTR);
  // Its memory is gone with its last thread, and so are all mappings of these but ours.
  if (waited == 0) common_.slots->Keep(std::move(slots_));
  return ToFinalUsage(usage);
}

void StubProcess::Kill() {
  dead_.store(true, std::memory_order_relaxed);
  kill(pid_, SIGKILL);
}

bool StubProcess::HasEnded() const {
  siginfo_t info{};
  return dead() || waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
         info.si_pid == pid_;
}

Errno StubProcess::Broken(const char* why) {
  if (!dead()) LOG_WARNING("stub ", pid_, ": ", why);
  Kill();
  return Errno::kEIO;
}

Result<void> StubProcess::RingLocked(absl::Span<const int> fds, bool may_close) {
  if (dead()) return Errno::kEIO;
  CHECK(fds.size() <= kMaxDescriptors);
  char byte = 0;
  iovec iov{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (!fds.empty()) {
    msg.msg_control = control;
    msg.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  }
  const bool close_all = (leftover_ != 0 || !fds.empty()) && may_close;
  if (close_all) leftover_ = 0;
  slots_.control()->flags = close_all ? ControlPage::kCloseAll : 0;
  std::atomic_signal_fence(std::memory_order_release);  // The system call orders the rest.
  for (;;) {
    if (sendmsg(slots_.socket.get(), &msg, MSG_NOSIGNAL) == 1) return OkResult();
    if (errno == EINTR) continue;
    // Descriptors that cannot be passed; nothing was sent.
    if (errno == ETOOMANYREFS || errno == ENOMEM || errno == ENOBUFS) return Errno::kENOMEM;
    if (errno == EBADF) return Errno::kEBADF;
    return Broken("the bell cannot be rung");
  }
}

Result<void> StubProcess::AwaitLocked() {
  char byte;
  ssize_t n;
  do n = recv(slots_.socket.get(), &byte, 1, 0);
  while (n < 0 && errno == EINTR);
  if (n != 1) return Broken("ended while it was asked something");
  std::atomic_signal_fence(std::memory_order_acquire);
  return OkResult();
}

Result<void> StubProcess::CollectLocked(size_t count, Outcome* outcome) {
  volatile ResultPage* page = slots_.result();
  const size_t executed = page->executed;
  if (executed > count) return Broken("impossible count of results");
  outcome->executed = executed;
  outcome->host_errno = 0;
  for (size_t i = 0; i < executed; ++i) outcome->results[i] = page->results[i];
  if (executed < count) {
    const int64_t error = page->results[executed];
    if (error >= 0 || error < -4095) return Broken("impossible error");
    outcome->host_errno = static_cast<int>(-error);
  }
  return OkResult();
}

Result<void> StubProcess::Run(absl::Span<const Request> requests, absl::Span<const int> fds,
                              Outcome* outcome) {
  CHECK(requests.size() <= kMaxRequests);
  MutexLock lock(mu_);
  ControlPage* control = slots_.control();
  std::copy(requests.begin(), requests.end(), control->requests);
  // They come behind those that are left over.
  for (size_t i = 0; leftover_ != 0 && i < requests.size(); ++i) {
    Request& request = control->requests[i];
    if (request.kind == RequestKind::kSyscall && request.number == SYS_mmap &&
        (request.args[3] & MAP_ANONYMOUS) == 0)
      request.args[4] += leftover_;
  }
  control->count = static_cast<uint32_t>(requests.size());
  TRY(RingLocked(fds));
  TRY(AwaitLocked());
  return CollectLocked(requests.size(), outcome);
}

Result<void> StubProcess::Residency(uint64_t address, absl::Span<uint8_t> pages) {
  CHECK(pages.size() <= kPageSize);
  MutexLock lock(mu_);
  ControlPage* control = slots_.control();
  control->requests[0] = {RequestKind::kSyscall, SYS_mincore,
                          {address, pages.size() * kPageSize, kResultAddr + kResidencyOffset}};
  control->count = 1;
  TRY(RingLocked({}));
  TRY(AwaitLocked());
  Outcome outcome;
  TRY(CollectLocked(1, &outcome));
  if (outcome.executed != 1) return FromHostErrno(outcome.host_errno);
  const volatile uint8_t* answer =
      static_cast<const volatile uint8_t*>(slots_.result_mapping.get()) + kResidencyOffset;
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = answer[i] & 1;
  return OkResult();
}

void StubProcess::SetName(absl::string_view name) {
  MutexLock lock(mu_);
  ControlPage* control = slots_.control();
  std::memset(control->name, 0, sizeof(control->name));
  std::memcpy(control->name, name.data(), std::min<size_t>(name.size(), 15));
  control->requests[0] = {RequestKind::kSyscall, SYS_prctl,
                          {PR_SET_NAME, kControlAddr + offsetof(ControlPage, name)}, 0};
  control->count = 1;
  if (!RingLocked({}).ok() || !AwaitLocked().ok()) LOG_DEBUG("stub ", pid_, " got no name");
}

Result<UniqueFd> StubProcess::TakeDescriptor(int stub_fd) {
  MutexLock lock(mu_);
  return TakeDescriptorLocked(stub_fd);
}

// It is closed in the stub with the next vector, or before it.
Result<UniqueFd> StubProcess::TakeDescriptorLocked(int stub_fd) {
  ++leftover_;
  UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd_.get(), stub_fd, 0)));
  if (!fd.valid()) return Broken("a descriptor is not there");
  return fd;
}

Result<pid_t> StubProcess::CloneThread(ThreadStart* start) {
  const uint64_t r8 = start == nullptr ? 0 : start->r8, r9 = start == nullptr ? 0 : start->r9;
  MutexLock lock(mu_);
  ControlPage* control = slots_.control();
  control->requests[0] = {RequestKind::kCloneThread, SYS_clone, {kCloneThreadFlags, 0, 0, 0, r8, r9}};
  control->count = 1;
  // Nothing is closed: the new thread may be making a descriptor for us.
  TRY(RingLocked({}, false));
  TRY(AwaitLocked());
  Outcome outcome;
  TRY(CollectLocked(1, &outcome));
  if (outcome.executed != 1) return Errno::kEAGAIN;
  const auto tid = static_cast<pid_t>(outcome.results[0]);
  // The guest could have changed the answer. Any of its threads will do, but no other process's.
  if (!IsThreadOf(pid_, tid)) return Broken("not a thread of this stub");
  if (start != nullptr && start->started) {
    const int fd = TRY(start->started());
    if (fd >= 0) start->made = TRY(TakeDescriptorLocked(fd));
  }
  return tid;
}

pid_t StubProcess::TakeReadyThread() {
  MutexLock lock(ready_mu_);
  if (ready_threads_.empty()) return -1;
  const pid_t tid = ready_threads_.back();
  ready_threads_.pop_back();
  return tid;
}

void StubProcess::PutBackThread(pid_t tid) {
  MutexLock lock(ready_mu_);
  ready_threads_.push_back(tid);
}

bool StubProcess::WantsReadyThreads() {
  MutexLock lock(ready_mu_);
  return !dead() && ready_threads_.size() < kMaxReadyThreads;
}

Result<std::unique_ptr<StubProcess>> StubProcess::Clone() {
  MutexLock lock(mu_);
  Slots slots = TRY(StartCloneLocked());
  return FinishCloneLocked(std::move(slots));
}

Result<Slots> StubProcess::StartClone() {
  MutexLock lock(mu_);
  return StartCloneLocked();
}

Result<std::unique_ptr<StubProcess>> StubProcess::FinishClone(Slots slots) {
  MutexLock lock(mu_);
  return FinishCloneLocked(std::move(slots));
}

Result<Slots> StubProcess::StartCloneLocked() {
  SlotPair pair = TRY(common_.slots->Make());
  if (common_.prepare != nullptr) common_.prepare(pair.sentry);
  pair.sentry.control()->flags = ControlPage::kReadyThread;
  ControlPage* control = slots_.control();
  control->requests[0] = {
      RequestKind::kCloneStub, SYS_clone, {kCloneStubFlags, 0, 0, 0, 0, kStubSocket + 1 + leftover_}};
  control->count = 1;
  const int fds[] = {pair.stub_socket.get(), pair.sentry.control_fd.get(), pair.sentry.result_fd.get()};
  TRY(RingLocked(fds));
  SlotCache::Sent(pair.sentry);
  return std::move(pair.sentry);
}

Result<std::unique_ptr<StubProcess>> StubProcess::FinishCloneLocked(Slots slots) {
  TRY(AwaitLocked());
  Outcome outcome;
  TRY(CollectLocked(1, &outcome));
  if (outcome.executed != 1)
    return outcome.host_errno == ENOMEM ? Errno::kENOMEM : Errno::kEAGAIN;
  // The parent has closed the child's end by now: if the child is gone, this is an end of file.
  return Greet(std::move(slots), common_);
}

size_t StubProcess::Poke(uint64_t address, absl::Span<const char> from) {
  MutexLock lock(mu_);
  if (dead() || ptrace(PTRACE_SEIZE, pid_, 0, 0) != 0) return 0;
  size_t done = 0;
  int status = 0;
  pid_t waited = -1;
  if (ptrace(PTRACE_INTERRUPT, pid_, 0, 0) == 0) {
    do waited = wait4(pid_, &status, __WALL | __WNOTHREAD, nullptr);
    while (waited < 0 && errno == EINTR);
  }
  if (waited == pid_ && WIFSTOPPED(status)) {
    done = PokeWords(address, from);
    ptrace(PTRACE_DETACH, pid_, 0, 0);
  }
  return done;
}

size_t StubProcess::PokeWords(uint64_t address, absl::Span<const char> from) {
  size_t done = 0;
  while (done < from.size()) {
    const uint64_t word_address = (address + done) & ~uint64_t{7};
    const size_t offset = address + done - word_address;
    const size_t n = std::min(sizeof(long) - offset, from.size() - done);
    errno = 0;
    long word = ptrace(PTRACE_PEEKDATA, pid_, word_address, 0);
    if (errno != 0) break;
    std::memcpy(reinterpret_cast<char*>(&word) + offset, &from[done], n);
    if (ptrace(PTRACE_POKEDATA, pid_, word_address, word) != 0) break;
    done += n;
  }
  return done;
}

}  // namespace caisson::platform::stub
