// A platform for unit tests: no guest code runs, no process is made, no privilege is needed.
#ifndef CAISSON_PLATFORM_FAKE_FAKE_PLATFORM_H_
#define CAISSON_PLATFORM_FAKE_FAKE_PLATFORM_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "platform/platform.h"

namespace caisson::platform::fake {

// Guest addresses are offsets into a reserved part of the test's own address space, and each MapOp
// is the real host call there: mappings, copy-on-write of files, end of files and protections are
// the kernel's. Copies are process_vm_readv(2) of the test itself, so they stop where pages do.
//
// Fork() copies private memory at once. Linux differs: pages of a private file mapping past the end
// of the file are zero in the copy. Compare-exchange is atomic among callers only. Thread-safe.
class FakeAddressSpace final : public AddressSpace {
 public:
  static constexpr AddrRange kRange{GuestAddr(0x10000), GuestAddr(uint64_t{1} << 38)};

  FakeAddressSpace();
  ~FakeAddressSpace() override;

  Result<void> Apply(absl::Span<const MapOp> ops, size_t* done = nullptr) override;
  Result<std::unique_ptr<AddressSpace>> Fork() override;
  size_t CopyIn(GuestAddr from, absl::Span<char> to) override;
  size_t CopyOut(GuestAddr to, absl::Span<const char> from) override;
  size_t CopyOutForced(GuestAddr to, absl::Span<const char> from) override;
  Result<uint32_t> Load32(GuestAddr addr) override;
  Result<uint32_t> CompareExchange32(GuestAddr addr, uint32_t expected,
                                     uint32_t desired) override;
  Result<uint64_t> Load64(GuestAddr addr) override;
  Result<void> Residency(GuestAddr addr, uint64_t length, absl::Span<uint8_t> out) override;
  Usage GetUsage() override;
  void CountWaiter(GuestAddr addr, int delta) override;

  // For tests.
  // Who waits on words of this address.
  int Waiters(GuestAddr addr);
  // The fewest at any time since the last such question, on all words.
  int FewestWaiters();
  // The `n`th next op, from 0, fails with `error`, and is not done.
  void FailOp(size_t n, Errno error);
  void FailNextFork(Errno error);
  // The protection at `addr`; nothing if nothing is mapped.
  std::optional<Protection> ProtectionAt(GuestAddr addr);
  // All ops that were done, oldest first.
  std::vector<MapOp> TakeLog();

 private:
  struct Piece {
    uint64_t end;
    Protection protection;
    bool shared;
  };
  char* Host(uint64_t guest) const { return base_ + guest; }
  Result<void> ApplyOneLocked(const MapOp& op) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> RemapLocked(const MapOp& op) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> ReserveLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SplitLocked(uint64_t at) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EraseLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool CoveredLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool CopyPieceLocked(uint64_t start, const Piece& piece, FakeAddressSpace& to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  template <bool kWrite>
  size_t Copy(GuestAddr addr, char* data, size_t length) const;

  char* base_;  // Of guest address 0.
  Mutex mu_;
  std::map<uint64_t, Piece> pieces_ ABSL_GUARDED_BY(mu_);  // By start.
  std::vector<MapOp> log_ ABSL_GUARDED_BY(mu_);
  std::optional<std::pair<size_t, Errno>> fail_op_ ABSL_GUARDED_BY(mu_);
  std::optional<Errno> fail_fork_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, int> waiters_ ABSL_GUARDED_BY(mu_);
  int all_waiters_ ABSL_GUARDED_BY(mu_) = 0;
  int fewest_waiters_ ABSL_GUARDED_BY(mu_) = 0;
};

// A context whose events the test provides. Switch() takes the oldest step, or waits for one.
// Thread-safe.
class FakeContext final : public Context {
 public:
  // A step may read and write registers and memory, as guest code would.
  using Step = std::function<Event(AddressSpace&, Registers&)>;

  void Push(Step step) ABSL_LOCKS_EXCLUDED(mu_);
  // A system call with these arguments; the result is seen by the next step in regs.rax.
  void PushSyscall(uint64_t number, std::vector<uint64_t> args = {});
  void PushEvent(Event event);
  size_t steps_left() ABSL_LOCKS_EXCLUDED(mu_);
  bool attached() const { return attached_.load(); }  // Between a Switch() and a Detach().

  Event Switch(AddressSpace& space, Registers& regs) override;
  void Interrupt() override;
  void Detach() override { attached_.store(false); }
  Result<void> GetFpState(absl::Span<char> out) override;
  Result<void> SetFpState(absl::Span<const char> in) override;
  void ResetFpState() override { fp_.clear(); }
  uint64_t GuestCpuTime() override { return cpu_time_ns_.load(); }
  size_t CopiedIn(GuestAddr from, absl::Span<char> to) override;
  bool CopyOutLater(GuestAddr to, absl::Span<const char> from) override;
  void FlushCopies(AddressSpace& space) override;
  // The next events come with these bytes; results may wait from now on.
  void MoveAlong(GuestAddr address, std::string bytes);
  size_t copies_waiting() const { return later_.size(); }
  void set_guest_cpu_time(uint64_t ns) { cpu_time_ns_.store(ns); }

 private:
  Mutex mu_;
  CondVar changed_;
  std::deque<Step> steps_ ABSL_GUARDED_BY(mu_);
  bool interrupt_ ABSL_GUARDED_BY(mu_) = false;
  std::atomic<bool> attached_{false};
  std::atomic<uint64_t> cpu_time_ns_{0};
  std::string fp_;  // Empty: the initial state.
  bool moves_along_ = false;  // This and what follows: the task's thread.
  GuestAddr copied_address_;
  std::string copied_;
  std::vector<std::pair<GuestAddr, std::string>> later_;
};

class FakePlatform final : public Platform {
 public:
  static constexpr size_t kFpStateSize = 832;  // x87, SSE, AVX.

  absl::string_view name() const override { return "fake"; }
  AddrRange guest_range() const override { return FakeAddressSpace::kRange; }
  Result<std::unique_ptr<AddressSpace>> NewAddressSpace() override {
    return std::unique_ptr<AddressSpace>(std::make_unique<FakeAddressSpace>());
  }
  std::unique_ptr<Context> NewContext() override { return std::make_unique<FakeContext>(); }
  size_t fp_state_size() const override { return kFpStateSize; }
  uint64_t fp_features() const override { return 7; }
  uint64_t min_signal_stack() const override { return 2048; }
};

}  // namespace caisson::platform::fake

#endif  // CAISSON_PLATFORM_FAKE_FAKE_PLATFORM_H_
