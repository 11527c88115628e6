#include "platform/stub/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace caisson::platform::stub {
namespace {

constexpr int kSealFutureWrite = 0x0010;  // F_SEAL_FUTURE_WRITE, Linux 5.1.
constexpr size_t kMaxSpare = 4;           // 28 KiB each.
// The sandbox's descriptors are for other things: with this many open none are kept.
constexpr int kManyDescriptors = 512;

Errno HostError() {
  switch (errno) {
    case EMFILE: return Errno::kEMFILE;
    case ENFILE: return Errno::kENFILE;
    case ENOMEM:
    case ENOSPC: return Errno::kENOMEM;
    default: return Errno::kENOSYS;
  }
}

// Maps a new memfd of `size` bytes for writing, then seals it. Pages exist once they are touched.
Result<SharedMapping> MakePages(const char* name, size_t size, int seals, UniqueFd* fd) {
  fd->reset(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd->valid() || ftruncate(fd->get(), static_cast<off_t>(size)) != 0) return HostError();
  void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0);
  if (p == MAP_FAILED) return HostError();
  SharedMapping mapping(p, size);
  if (fcntl(fd->get(), F_ADD_SEALS, seals | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return HostError();
  return mapping;
}

}  // namespace

SharedMapping::SharedMapping(SharedMapping&& o) noexcept
    : address_(std::exchange(o.address_, nullptr)), size_(o.size_) {}

SharedMapping& SharedMapping::operator=(SharedMapping&& o) noexcept {
  std::swap(address_, o.address_);
  std::swap(size_, o.size_);
  return *this;
}

SharedMapping::~SharedMapping() {
  if (address_ != nullptr) munmap(address_, size_);
}

Result<Slots> SlotCache::MakePair() {
  Slots slots;
  {
    MutexLock lock(mu_);
    if (!spare_.empty()) {
      slots = std::move(spare_.back());
      spare_.pop_back();
      return slots;
    }
  }
  slots.control_mapping =
      TRY(MakePages("control", kControlSize, kSealFutureWrite, &slots.control_fd));
  slots.result_mapping = TRY(MakePages("result", kResultSize, 0, &slots.result_fd));
  // The first pages are there from now on: a stub that could not get them would be killed.
  slots.control()->count = 0;
  slots.result()->executed = 0;
  return slots;
}

Result<SlotPair> SlotCache::Make() {
  SlotPair pair;
  pair.sentry = TRY(MakePair());
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return HostError();
  pair.sentry.socket.reset(ends[0]);
  pair.stub_socket.reset(ends[1]);
  // So that the stub's first message tells its pid in a way that nobody can forge.
  int on = 1;
  if (setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0) return HostError();
  return pair;
}

void SlotCache::Sent(Slots& slots) {
  if (slots.control_fd.get() < kManyDescriptors && slots.result_fd.get() < kManyDescriptors) return;
  slots.control_fd.reset();
  slots.result_fd.reset();
}

void SlotCache::Keep(Slots slots) {
  if (!slots.control_fd.valid() || !slots.result_fd.valid()) return;
  slots.socket.reset();
  // The pages of a stub with one thread; others' are given back with the rest. Those of the control memfd
  // cannot be taken out of it.
  constexpr off_t kWaiters = kWaitersAddr - kControlAddr;
  const off_t data = lseek(slots.control_fd.get(), 2 * kPageSize, SEEK_DATA);
  if (data == kWaiters) std::memset(slots.waiters(), 0, kPageSize);
  else if (data >= 0 || errno != ENXIO) return;
  constexpr off_t kSlots = kSlotAddr - kResultAddr, kOthers = kSlots + kSlotSize;
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (fallocate(slots.result_fd.get(), kPunch, kPageSize, kSlots - kPageSize) != 0 ||
      fallocate(slots.result_fd.get(), kPunch, kOthers, kResultSize - kOthers) != 0)
    return;
  std::memset(slots.control(), 0, 2 * kPageSize);
  std::memset(slots.result_mapping.get(), 0, kPageSize);
  std::memset(slots.thread_slot(0), 0, kSlotSize);
  MutexLock lock(mu_);
  if (spare_.size() < kMaxSpare) spare_.push_back(std::move(slots));
}

}  // namespace caisson::platform::stub
