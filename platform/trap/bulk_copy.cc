// Large copies, made by the guest thread whose call needs them (README.md).
#include <algorithm>
#include <cstring>

#include "base/safe_copy.h"
#include "platform/stub/layout.h"
#include "platform/trap/host_thread.h"
#include "platform/trap/trap_address_space.h"
#include "platform/trap/trap_context.h"

namespace caisson::platform::trap {
namespace {

// From here on two copies and a hand-off to the thread and back are quicker than one by the host, which
// looks up, locks and copies page by page.
constexpr size_t kMinBulk = 128 << 10;
// 10 s of our own running time: others may wait for what the caller holds (an mm).
constexpr int kBulkRounds = 100;

}  // namespace

// `to` and `from` are the guest's memory and the bulk pages, so what the thread does, honest or not, it does to itself. It
// faults as it would have in the call; then it stays in the trap, where the call will be answered.
size_t HostThread::Copy(uint64_t to, uint64_t from, size_t n) {
  slot_->bulk_to = to;
  slot_->bulk_from = from;
  slot_->bulk_length = n;
  slot_->copies = kBulkCopy;
  Resume();
  const Stop stop = WaitFor(kBulkRounds);
  slot_->copies = 0;
  if (stop == Stop::kCall) return n;
  if (stop == Stop::kNotification) Broken("a call instead of a copy");
  if (stop != Stop::kTrap) return 0;
  const Registers here = ReadRegisters();
  return here.rip == environment_.patches->trampoline().bulk_move ? n - std::min<uint64_t>(here.rcx, n) : 0;
}

HostThread* TrapContext::ThreadForCopies(const TrapAddressSpace& space) {
  TrapContext* context = stopped();
  if (context == nullptr || context->space_ != &space || context->thread_ == nullptr ||
      context->thread_->at() != HostThread::Stop::kCall)
    return nullptr;
  // Neither copy is short enough for the other side to wait awake, and bells between two CPUs are slow.
  context->spinner_.Avoid();
  ++context->counts_.bulk_copies;
  return context->thread_.get();
}

// Takes the bulk pages for a copy of `n` bytes at `address`. Null if that is not for them.
class TrapAddressSpace::Bulk {
 public:
  Bulk(TrapAddressSpace& space, GuestAddr address, size_t n) : space_(space) {
    if (n < kMinBulk || !stub::kGuestRange.contains(address) || stub::kGuestRange.end - address < n) return;
    if (space.bulk_busy_.exchange(true, std::memory_order_acquire)) return;
    thread_ = TrapContext::ThreadForCopies(space);
    if (thread_ == nullptr) space.bulk_busy_.store(false, std::memory_order_release);
  }
  ~Bulk() {
    if (thread_ != nullptr) space_.bulk_busy_.store(false, std::memory_order_release);
  }
  Bulk(const Bulk&) = delete;
  Bulk& operator=(const Bulk&) = delete;

  // Moves all but what is too little, by f(offset, bytes), until one comes out short; how many.
  template <typename F>
  size_t Move(size_t n, F f) {
    size_t done = 0;
    while (thread_ != nullptr && thread_->at() == HostThread::Stop::kCall && n - done >= kMinBulk) {
      const size_t part = std::min(n - done, stub::kBulkSize), moved = f(done, part);
      done += moved;
      if (moved < part) break;
    }
    return done;
  }
  HostThread& thread() { return *thread_; }

 private:
  TrapAddressSpace& space_;
  HostThread* thread_ = nullptr;
};

size_t TrapAddressSpace::CopyOut(GuestAddr to, absl::Span<const char> from) {
  size_t done;
  {
    Bulk bulk(*this, to, from.size());
    done = bulk.Move(from.size(), [&](size_t at, size_t n) {
      const size_t there = SafeCopy(stub().slots().bulk(), from.data() + at, n);
      return bulk.thread().Copy(to.value + at, stub::kBulkAddr, there);
    });
  }
  return done == from.size() ? done : done + StubAddressSpace::CopyOut(to + done, from.subspan(done));
}

size_t TrapAddressSpace::CopyInBulk(GuestAddr from, absl::Span<char> to) {
  Bulk bulk(*this, from, to.size());
  return bulk.Move(to.size(), [&](size_t at, size_t n) {
    const size_t there = bulk.thread().Copy(stub::kBulkAddr, from.value + at, n);
    std::memcpy(to.data() + at, stub().slots().bulk(), there);
    return there;
  });
}

}  // namespace caisson::platform::trap
