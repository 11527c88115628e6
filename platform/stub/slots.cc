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

Result<SlotPair> MakeSlots() {
  SlotPair pair;
  pair.sentry.control_mapping =
      TRY(MakePages("control", kControlSize, kSealFutureWrite, &pair.stub.control));
  pair.sentry.result_mapping =
      TRY(MakePages("result", kResultSize, 0, &pair.stub.result));
  // The first pages are there from now on: a stub that could not get them would be killed.
  pair.sentry.control()->count = 0;
  pair.sentry.result()->executed = 0;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return HostError();
  pair.sentry.socket.reset(ends[0]);
  pair.stub.socket.reset(ends[1]);
  // So that the stub's first message tells its pid in a way that nobody can forge.
  int on = 1;
  if (setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0) return HostError();
  return pair;
}

}  // namespace caisson::platform::stub
