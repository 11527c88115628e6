#include <algorithm>
#include <cstring>
#include <utility>

#include "platform/fake/fake_platform.h"

namespace caisson::platform::fake {
namespace {

constexpr size_t kHeader = 512, kMxcsr = 24;

}  // namespace

void FakeContext::Push(Step step) {
  MutexLock lock(mu_);
  steps_.push_back(std::move(step));
  changed_.Signal();
}

void FakeContext::PushEvent(Event event) {
  Push([event](AddressSpace&, Registers&) { return event; });
}

void FakeContext::PushSyscall(uint64_t number, std::vector<uint64_t> args) {
  args.resize(6);
  Push([number, args = std::move(args)](AddressSpace&, Registers& regs) {
    regs.orig_rax = regs.rax = number;
    regs.rdi = args[0];
    regs.rsi = args[1];
    regs.rdx = args[2];
    regs.r10 = args[3];
    regs.r8 = args[4];
    regs.r9 = args[5];
    regs.rip += 2;
    regs.rcx = regs.rip;
    regs.r11 = regs.eflags;
    Event event;
    event.kind = Event::Kind::kSyscall;
    return event;
  });
}

size_t FakeContext::steps_left() {
  MutexLock lock(mu_);
  return steps_.size();
}

void FakeContext::MoveAlong(GuestAddr address, std::string bytes) {
  moves_along_ = true;
  copied_address_ = address;
  copied_ = std::move(bytes);
}

size_t FakeContext::CopiedIn(GuestAddr from, absl::Span<char> to) {
  if (from < copied_address_ || from - copied_address_ >= copied_.size()) return 0;
  return copied_.copy(to.data(), to.size(), from - copied_address_);
}

bool FakeContext::CopyOutLater(GuestAddr to, absl::Span<const char> from) {
  if (moves_along_) later_.emplace_back(to, std::string(from.data(), from.size()));
  return moves_along_;
}

void FakeContext::FlushCopies(AddressSpace& space) {
  for (const auto& [to, bytes] : later_) space.CopyOut(to, absl::MakeConstSpan(bytes.data(), bytes.size()));
  later_.clear();
}

Event FakeContext::Switch(AddressSpace& space, Registers& regs) {
  FlushCopies(space);
  attached_.store(true);
  Step step;
  {
    MutexLock lock(mu_);
    while (!interrupt_ && steps_.empty()) changed_.Wait(mu_);
    if (std::exchange(interrupt_, false)) return Event{};
    step = std::move(steps_.front());
    steps_.pop_front();
  }
  return step(space, regs);
}

void FakeContext::Interrupt() {
  MutexLock lock(mu_);
  interrupt_ = true;
  changed_.Signal();
}

Result<void> FakeContext::GetFpState(absl::Span<char> out) {
  if (out.size() < FakePlatform::kFpStateSize) return Errno::kEINVAL;
  std::fill(out.begin(), out.end(), 0);
  if (!fp_.empty()) {
    std::memcpy(out.data(), fp_.data(), fp_.size());
    return OkResult();
  }
  constexpr uint16_t kFcw = 0x037f;
  constexpr uint32_t kInitialMxcsr = 0x1f80;
  std::memcpy(&out[0], &kFcw, sizeof(kFcw));
  std::memcpy(&out[kMxcsr], &kInitialMxcsr, sizeof(kInitialMxcsr));
  out[kHeader] = 3;
  return OkResult();
}

Result<void> FakeContext::SetFpState(absl::Span<const char> in) {
  if (in.size() != FakePlatform::kFpStateSize) return Errno::kEINVAL;
  uint64_t header[8];
  std::memcpy(header, &in[kHeader], sizeof(header));
  uint32_t mxcsr;
  std::memcpy(&mxcsr, &in[kMxcsr], sizeof(mxcsr));
  if ((header[0] & ~uint64_t{7}) != 0 || (mxcsr & ~0xffffu) != 0) return Errno::kEINVAL;
  for (size_t i = 1; i < 8; ++i) {
    if (header[i] != 0) return Errno::kEINVAL;
  }
  fp_.assign(in.data(), in.size());
  return OkResult();
}

}  // namespace caisson::platform::fake
