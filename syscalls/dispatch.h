// The table of system calls and what runs before and after each: seccomp, strace, counters.
#ifndef CAISSON_SYSCALLS_DISPATCH_H_
#define CAISSON_SYSCALLS_DISPATCH_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "base/mutex.h"
#include "sentry/kernel/kernel.h"
#include "syscalls/latency.h"

namespace caisson::syscalls {

inline constexpr int kTableSize = 470;

enum class Support : uint8_t { kNone, kFull, kPartial, kRefused };

struct Entry {
  const char* name = nullptr;
  const char* note = "";  // What a partial call leaves out, or why a call is refused.
  Support support = Support::kNone;
  kernel::SyscallResult (*invoke)(kernel::Task&) = nullptr;
  void (*format)(kernel::Task&, std::string*) = nullptr;
};

// Entries by number; unused ones have no name.
const std::array<Entry, kTableSize>& Table();

// Thread-safe.
class Dispatcher final : public kernel::SyscallDispatcher {
 public:
  kernel::SyscallResult Dispatch(kernel::Task& task, int number) override;
  void NoteSignal(kernel::Task& task, const signal::Info& info) override;
  // `filter`: comma-separated names, empty for all calls.
  void SetStrace(bool on, absl::string_view filter = "");
  uint64_t count(int number) const {
    return counts_[number].load(std::memory_order_relaxed);
  }
  // Histograms of what calls take, blocking included, are kept from the first time this is called
  // with true; false stops the clock, and keeps them.
  void SetTiming(bool on);
  // Whether either is on: then every call has to come here.
  bool watched() const { return watched_.load(std::memory_order_relaxed) != 0; }
  // Null if there are none.
  const LatencyHistogram* latency(int number) const {
    const auto* all = latencies_.load(std::memory_order_acquire);
    return all == nullptr ? nullptr : &(*all)[static_cast<size_t>(number)];
  }

 private:
  // A call that somebody watches: strace, histograms.
  kernel::SyscallResult Watched(kernel::Task& task, int number, const Entry& entry);
  kernel::SyscallResult Traced(kernel::Task& task, const Entry& entry);
  // Applies the task's filters. Nothing: go on with the call.
  std::optional<kernel::SyscallResult> ApplySeccomp(kernel::Task& task, int number, bool again = false);
  using Latencies = std::array<LatencyHistogram, kTableSize>;
  static constexpr uint32_t kStrace = 1, kTiming = 2;
  std::atomic<uint32_t> watched_{0};                     // kStrace, kTiming. Relaxed.
  std::array<std::atomic<bool>, kTableSize> traced_{};   // Relaxed.
  std::array<std::atomic<uint64_t>, kTableSize> counts_{};  // Relaxed: statistics.
  Mutex latencies_mu_;
  std::unique_ptr<Latencies> owned_latencies_ ABSL_GUARDED_BY(latencies_mu_);
  std::atomic<Latencies*> latencies_{nullptr};  // Release once, when made.
};

}  // namespace caisson::syscalls

#endif  // CAISSON_SYSCALLS_DISPATCH_H_
