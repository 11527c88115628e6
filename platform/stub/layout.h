// Where things are in a stub, and what sentry and stub say to each other through shared pages.
//
// A stub is a host process whose address space is one guest address space. Its top 128 MiB are
// reserved for us; everything below is the guest's.
#ifndef CAISSON_PLATFORM_STUB_LAYOUT_H_
#define CAISSON_PLATFORM_STUB_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "base/guest_addr.h"

namespace caisson::platform::stub {

// The guest's range: page 0 and its neighbours stay unmapped (vm.mmap_min_addr's usual value; a
// host root could map them). 128 MiB at the top hold only the stack and the vDSO of a host process, with or
// without address randomisation (mmap_base() leaves as much), so the zygote can clear them.
inline constexpr AddrRange kGuestRange{GuestAddr(0x10000), GuestAddr(0x7ffff8000000)};
inline constexpr uint64_t kReservedStart = kGuestRange.end.value;
inline constexpr uint64_t kReservedEnd = 0x7ffffffff000;

// The control area: the control page, then a thread page for each guest thread and a page that counts
// waiters (platform/trap).
// Written by the sentry, mapped read-only here.
inline constexpr size_t kSlotCount = 5120;  // Guest threads of one stub, for platforms that use slots.
inline constexpr uint64_t kControlAddr = kReservedStart;
inline constexpr uint64_t kThreadPageAddr = kControlAddr + kPageSize;
inline constexpr uint64_t kWaitersAddr = kThreadPageAddr + kSlotCount * kPageSize;
inline constexpr size_t kControlSize = (2 + kSlotCount) * kPageSize;
// The result area: the result pages, what large copies go through (platform/trap), then a slot for each guest
// thread.
inline constexpr size_t kResultPages = 16;
inline constexpr size_t kBulkSize = 64 * kPageSize;
inline constexpr size_t kSlotSize = 4 * kPageSize;
inline constexpr uint64_t kSlotAddr = kReservedStart + 0x1600000;
inline constexpr uint64_t kBulkAddr = kSlotAddr - kBulkSize;
inline constexpr uint64_t kResultAddr = kBulkAddr - kResultPages * kPageSize;
inline constexpr size_t kResultSize = kSlotAddr - kResultAddr + kSlotCount * kSlotSize;
static_assert(kSlotAddr % kSlotSize == 0);
static_assert(kControlAddr + kControlSize <= kResultAddr);
inline constexpr uint64_t kBlobAddr = 0x7fffff000000;
static_assert(kResultAddr + kResultSize <= kBlobAddr);
// The first page is the worker's code, the rest the platform's own for its guest threads.
inline constexpr size_t kWorkerBlobSize = kPageSize;
inline constexpr uint64_t kThreadBlobAddr = kBlobAddr + kWorkerBlobSize;
inline constexpr size_t kBlobSize = 8 * kPageSize;
inline constexpr uint64_t kVdsoAddr = 0x7fffff100000;  // [vvar...] then [vdso].
inline constexpr uint64_t kVdsoEnd = 0x7fffff200000;

// What the worker does with one request.
enum class RequestKind : uint32_t {
  kSyscall = 0,           // Runs `number` with `args`.
  kCompareExchange = 1,   // 32 bits at args[0]: if equal to args[1], stores args[2].
  kCloneThread = 2,       // A kSyscall of clone; the new thread parks in the blob.
  kCloneStub = 3,         // A kSyscall of clone; the child takes descriptors args[5] + 0, 1, 2 as
                          // its socket, control and result pages.
};

struct Request {
  RequestKind kind;
  uint32_t number;
  uint64_t args[6];
  uint64_t proven;  // For the sentry: MapOp::proven.
};
static_assert(sizeof(Request) == 64);

inline constexpr size_t kMaxRequests = 62;
inline constexpr size_t kMaxDescriptors = 60;  // Of one vector.

// Written by the sentry; the stub maps it from a descriptor that cannot be mapped writable.
struct ControlPage {
  static constexpr uint32_t kReadyThread = 1;  // At start, park a guest thread.
  static constexpr uint32_t kCloseAll = 2;     // After the vector, close all below kThreadFd but the socket.
  uint32_t count;
  uint32_t flags;
  uint64_t unused[7];
  Request requests[kMaxRequests];
  char name[64];  // For PR_SET_NAME.
};
static_assert(sizeof(ControlPage) == kPageSize);

// Written by the stub, so by the guest too: every value read from here is untrusted.
struct ResultPage {
  int64_t results[64];
  uint32_t executed;   // Requests that succeeded; the next one's result is the error.
  int32_t ready_tid;   // Of the thread asked for by kReadyThread.
  uint64_t unused;
  // The worker's recvmsg(2): struct msghdr, struct iovec, payload, control buffer.
  uint64_t msghdr[7];
  uint64_t iovec[2];
  uint64_t payload;
  char cmsg[16 + 4 * (kMaxDescriptors + 4)];
};
static_assert(sizeof(ResultPage) <= kPageSize);

// Later pages of the result area.
inline constexpr size_t kResidencyOffset = kPageSize;  // mincore(2)'s answer, one page.
// Signal frames of the worker (a fault in a compare-exchange), and of a guest thread whose fault
// is being looked at. Both grow down.
inline constexpr uint64_t kWorkerStackTop = kResultAddr + 9 * kPageSize;
inline constexpr uint64_t kFaultStackTop = kResultAddr + 16 * kPageSize;

inline constexpr int kStubSocket = 0;  // The only lasting descriptor in a stub.
// The one that guest threads of platform/trap map files by; the worker leaves it alone, and has none
// above it.
inline constexpr int kThreadFd = 63;
static_assert(kMaxDescriptors + 1 < kThreadFd);

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_LAYOUT_H_
