// The table of system calls and what runs before and after each: seccomp, strace, counters.
#ifndef CAISSON_SYSCALLS_DISPATCH_H_
#define CAISSON_SYSCALLS_DISPATCH_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <string>

#include "sentry/kernel/kernel.h"

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
  // `filter`: comma-separated names, empty for all calls.
  void SetStrace(bool on, absl::string_view filter = "");
  uint64_t count(int number) const {
    return counts_[number].load(std::memory_order_relaxed);
  }

 private:
  kernel::SyscallResult Traced(kernel::Task& task, int number, const Entry& entry);
  // Applies the task's filters. Nothing: go on with the call.
  std::optional<kernel::SyscallResult> ApplySeccomp(kernel::Task& task, int number);
  std::atomic<bool> strace_{false};                      // Relaxed.
  std::array<std::atomic<bool>, kTableSize> traced_{};   // Relaxed.
  std::array<std::atomic<uint64_t>, kTableSize> counts_{};  // Relaxed: statistics.
};

}  // namespace caisson::syscalls

#endif  // CAISSON_SYSCALLS_DISPATCH_H_
