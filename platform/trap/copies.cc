#include "platform/trap/copies.h"

#include <algorithm>
#include <cstring>

#include "platform/stub/layout.h"

namespace caisson::platform::trap {
namespace {

uint64_t Value(const Registers& regs, uint8_t offset) {
  switch (offset) {
    case offsetof(CallRegisters, rdi): return regs.rdi;
    case offsetof(CallRegisters, rsi): return regs.rsi;
    case offsetof(CallRegisters, rdx): return regs.rdx;
    case offsetof(CallRegisters, r10): return regs.r10;
    case offsetof(CallRegisters, r8): return regs.r8;
    default: return 0;
  }
}

const char* Bytes(const Slot& slot, const CopyOutRecord& record) {
  return reinterpret_cast<const char*>(&slot) + record.offset;
}

}  // namespace

bool Copies::TakeArguments(const Slot& slot, const Registers& regs) {
  if (regs.rax >= kCopyRules.size()) return false;
  const CopyRule& rule = kCopyRules[regs.rax];
  if (rule.address == 0) return false;
  const uint64_t n = *static_cast<const volatile uint64_t*>(&slot.copied_in);
  if (n == 0 || n > kMaxCopyIn) return false;
  uint64_t from = Value(regs, rule.address);
  if (rule.string) from &= ~uint64_t{7};
  const uint64_t end = stub::kGuestRange.end.value;
  if (from < stub::kGuestRange.start.value || from >= end || n > end - from) return false;
  from_ = from;
  size_ = n;
  std::memcpy(in_, reinterpret_cast<const char*>(&slot) + kCopyOffset, n);
  asm volatile("" : : : "memory");  // What follows uses the copy.
  return true;
}

size_t Copies::In(GuestAddr from, absl::Span<char> to) const {
  if (from.value < from_ || from.value - from_ >= size_) return 0;
  const size_t skip = from.value - from_;
  const size_t n = std::min(to.size(), size_ - skip);
  std::memcpy(to.data(), in_ + skip, n);
  return n;
}

bool Copies::Later(Slot& slot, GuestAddr to, absl::Span<const char> from) {
  if (count_ == kMaxCopiesOut || from.size() > kCopySize - used_) return false;
  published_ = false;
  const auto offset = static_cast<uint32_t>(kCopyOffset + used_);
  std::memcpy(reinterpret_cast<char*>(&slot) + offset, from.data(), from.size());
  out_[count_++] = {to.value, static_cast<uint32_t>(from.size()), offset};
  used_ += from.size();
  return true;
}

void Copies::Publish(Slot& slot) {
  std::copy(out_, out_ + count_, slot.copy_out);
  slot.copies = static_cast<uint32_t>(count_);
  published_ = true;
}

bool Copies::Store(const Slot& slot, AddressSpace& space, size_t first, size_t skip) {
  bool stored = true;
  for (size_t i = first; i < count_; ++i, skip = 0) {
    const size_t n = out_[i].length - skip;
    if (n != 0 &&
        space.CopyOut(GuestAddr(out_[i].to + skip), {Bytes(slot, out_[i]) + skip, n}) != n)
      stored = false;
  }
  count_ = used_ = 0;
  return stored;
}

bool Copies::Flush(const Slot& slot, AddressSpace& space) {
  return !waiting() || Store(slot, space, 0, 0);
}

// The registers are the guest's to forge: what is stored too often or not at all is its own loss.
bool Copies::Finish(const Slot& slot, AddressSpace& space, const Trampoline& t,
                    const Registers& here) {
  const uint64_t rip = here.rip;
  size_t first = 0, skip = 0;
  if (rip >= t.restore && rip < t.restore_end) {
    first = count_;
  } else if (rip >= t.copy_out_next && rip < t.copy_out_end && here.r9 <= count_) {
    first = count_ - here.r9;
    if (rip == t.copy_out_store && first < count_ && here.rcx <= out_[first].length)
      skip = out_[first].length - here.rcx;
    if (rip >= t.copy_out_stored && rip < t.copy_out_counted) ++first;
  }
  return Store(slot, space, first, skip);
}

}  // namespace caisson::platform::trap
