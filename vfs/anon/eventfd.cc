#include "vfs/anon/eventfd.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"

namespace caisson::vfs {
namespace {
constexpr uint64_t kMax = ~uint64_t{0};
}  // namespace

Eventfd::Eventfd(RefPtr<Inode> inode, uint64_t initial, bool semaphore, uint32_t flags)
    : FileDescription(FileKind::kEventfd, VfsPath(), std::move(inode),
                      (flags & kOpenNonblock) | kOpenReadWrite),
      semaphore_(semaphore),
      count_(initial) {}

// Linux fs/eventfd.c. As there, a fault while storing the value loses it.
Result<size_t> Eventfd::Read(CallContext&, IoBuffer& to, uint32_t) {
  if (to.remaining() < sizeof(uint64_t)) return Errno::kEINVAL;
  uint64_t value;
  {
    MutexLock lock(mu_);
    if (count_ == 0) return Errno::kEAGAIN;
    value = semaphore_ ? 1 : count_;
    count_ -= value;
  }
  queue_.Notify(kWritable);
  char bytes[sizeof(value)];
  memcpy(bytes, &value, sizeof(value));
  size_t n = TRY(to.Put(bytes));
  if (n != sizeof(value)) return Errno::kEFAULT;
  return n;
}

Result<size_t> Eventfd::Write(CallContext&, IoBuffer& from, uint32_t) {
  if (from.remaining() < sizeof(uint64_t)) return Errno::kEINVAL;
  char bytes[sizeof(uint64_t)];
  size_t n = TRY(from.Take(absl::MakeSpan(bytes)));
  if (n != sizeof(bytes)) return Errno::kEFAULT;
  uint64_t value;
  memcpy(&value, bytes, sizeof(value));
  if (value == kMax) return Errno::kEINVAL;
  {
    MutexLock lock(mu_);
    if (kMax - count_ <= value) {
      from.Rewind(n);
      return Errno::kEAGAIN;
    }
    count_ += value;
  }
  queue_.Notify(kReadable);
  return n;
}

void Eventfd::Signal(uint64_t n) {
  {
    MutexLock lock(mu_);
    count_ = kMax - count_ < n ? kMax : count_ + n;
  }
  queue_.Notify(kReadable | kEventErr);
}

EventMask Eventfd::Readiness(EventMask mask) {
  EventMask events = 0;
  MutexLock lock(mu_);
  if (count_ > 0) events |= kReadable;
  if (count_ == kMax) events |= kEventErr;
  if (count_ < kMax - 1) events |= kWritable;
  return events & (mask | kEventErr | kEventHup);
}

std::string Eventfd::FdInfo() {
  MutexLock lock(mu_);
  return absl::StrFormat("eventfd-count: %16x\neventfd-id: %d\neventfd-semaphore: %d\n", count_,
                         id(), semaphore_ ? 1 : 0);
}

}  // namespace caisson::vfs
