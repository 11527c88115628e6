#include "sentry/kernel/task_memory.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "sentry/kernel/task.h"

namespace caisson::kernel {
namespace {

// More than this is not worth a second copy.
constexpr size_t kMaxDeferred = 4096;
// As much of a string as can come along with a call.
constexpr size_t kMaxCopiedString = 4096;

// Calls that only report: what they store is read by nobody before they return, and they make no
// process, mapping or frame.
constexpr int kReporting[] = {
    0,    // read
    4,    // stat
    5,    // fstat
    6,    // lstat
    13,   // rt_sigaction
    14,   // rt_sigprocmask
    17,   // pread64
    22,   // pipe
    35,   // nanosleep
    45,   // recvfrom
    63,   // uname
    79,   // getcwd
    89,   // readlink
    96,   // gettimeofday
    97,   // getrlimit
    98,   // getrusage
    99,   // sysinfo
    100,  // times
    137,  // statfs
    138,  // fstatfs
    217,  // getdents64
    228,  // clock_gettime
    229,  // clock_getres
    232,  // epoll_wait
    262,  // newfstatat
    267,  // readlinkat
    293,  // pipe2
    302,  // prlimit64
    318,  // getrandom
    332,  // statx
};
constexpr int kNumbers = 512;
constexpr std::array<bool, kNumbers> kReports = [] {
  std::array<bool, kNumbers> out{};
  for (int number : kReporting) out[static_cast<size_t>(number)] = true;
  return out;
}();

}  // namespace

bool TaskMemory::MayDefer(int number) {
  return number >= 0 && number < kNumbers && kReports[static_cast<size_t>(number)];
}

void TaskMemory::FlushDeferred() {
  task_.context().FlushCopies(task_.mm().address_space());
  deferred_ = false;
}

bool TaskMemory::Defer(GuestAddr to, absl::Span<const char> from) {
  if (!may_defer_ || from.empty() || from.size() > kMaxDeferred) return false;
  if (!task_.mm().MayWrite(to, from.size())) return false;
  if (!task_.context().CopyOutLater(to, from)) return false;
  deferred_ = true;
  return true;
}

bool TaskMemory::CameAlong(GuestAddr from, absl::Span<char> to) {
  return came_along_ && !to.empty() && task_.context().CopiedIn(from, to) == to.size();
}

Result<void> TaskMemory::CopyIn(GuestAddr from, absl::Span<char> to) {
  Flush();
  if (CameAlong(from, to)) return {};
  return task_.mm().CopyIn(from, to);
}

size_t TaskMemory::CopyInPartial(GuestAddr from, absl::Span<char> to) {
  Flush();
  if (CameAlong(from, to)) return to.size();
  return task_.mm().CopyInPartial(from, to);
}

Result<void> TaskMemory::CopyOut(GuestAddr to, absl::Span<const char> from) {
  if (Defer(to, from)) return {};
  Flush();  // In the order of the stores.
  return task_.mm().CopyOut(to, from);
}

size_t TaskMemory::CopyOutPartial(GuestAddr to, absl::Span<const char> from) {
  if (Defer(to, from)) return from.size();
  Flush();
  return task_.mm().CopyOutPartial(to, from);
}

size_t TaskMemory::CopyOutByHost(GuestAddr to, absl::Span<const char> from) {
  Flush();
  return task_.mm().CopyOutByHost(to, from);
}

Result<std::string> TaskMemory::CopyInString(GuestAddr from, size_t max) {
  Flush();
  char text[kMaxCopiedString];
  const size_t n =
      came_along_ ? task_.context().CopiedIn(from, absl::Span<char>(text, std::min(max + 1, kMaxCopiedString)))
                  : 0;
  if (const void* nul = memchr(text, 0, n); nul != nullptr)
    return std::string(text, static_cast<const char*>(nul) - text);
  return task_.mm().CopyInString(from, max);
}

}  // namespace caisson::kernel
