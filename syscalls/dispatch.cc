#include "syscalls/dispatch.h"

#include <optional>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/log.h"
#include "syscalls/arguments.h"
#include "syscalls/handlers.h"
#include "syscalls/trace.h"

namespace caisson::syscalls {
namespace {

// Decodes the registers by the types of a table line and calls the handler.
template <auto Handler, typename... Args>
struct Glue {
  template <size_t... I>
  static SyscallResult Call(Task& task, std::index_sequence<I...>) {
    [[maybe_unused]] const platform::Registers& regs = task.regs();
    return Handler(task, Argument<Args>::Decode(regs.arg(I))...);
  }
  static SyscallResult Invoke(Task& task) { return Call(task, std::index_sequence_for<Args...>{}); }
  template <size_t... I>
  static void FormatAll(Task& task, std::string* out, std::index_sequence<I...>) {
    [[maybe_unused]] const platform::Registers& regs = task.regs();
    ((I != 0 ? out->append(", ") : *out,
      Argument<Args>::Format(task, Argument<Args>::Decode(regs.arg(I)), out)),
     ...);
  }
  static void Format(Task& task, std::string* out) {
    FormatAll(task, out, std::index_sequence_for<Args...>{});
  }
};

// SYSCALL_REFUSED: known, and answered with the errno of a kernel configured without it.
template <Errno E>
SyscallResult Refuse(Task& task) {
  task.kernel().NoteUnsupported(absl::StrCat("system call ", Table()[task.regs().orig_rax].name));
  return E;
}

constexpr std::array<Entry, kTableSize> MakeTable() {
  std::array<Entry, kTableSize> table{};
#define SYSCALL(number, name, handler, ...)                                                     \
  table[number] = Entry{#name, "", Support::kFull, &Glue<&handler __VA_OPT__(, ) __VA_ARGS__>::Invoke, \
                        &Glue<&handler __VA_OPT__(, ) __VA_ARGS__>::Format};
#define SYSCALL_PARTIAL(number, name, handler, note, ...)                                       \
  table[number] = Entry{#name, note, Support::kPartial,                                         \
                        &Glue<&handler __VA_OPT__(, ) __VA_ARGS__>::Invoke,                     \
                        &Glue<&handler __VA_OPT__(, ) __VA_ARGS__>::Format};
#define SYSCALL_REFUSED(number, name, error, note) \
  table[number] = Entry{#name, note, Support::kRefused, &Refuse<Errno::error>, nullptr};
#include "syscalls/table.inc"
#undef SYSCALL
#undef SYSCALL_PARTIAL
#undef SYSCALL_REFUSED
  return table;
}

constexpr std::array<Entry, kTableSize> kTable = MakeTable();

// The numbers of table.inc in the order they stand: a number out of order does not compile.
constexpr int kNumbers[] = {
#define SYSCALL(number, ...) number,
#define SYSCALL_PARTIAL(number, ...) number,
#define SYSCALL_REFUSED(number, ...) number,
#include "syscalls/table.inc"
#undef SYSCALL
#undef SYSCALL_PARTIAL
#undef SYSCALL_REFUSED
};
constexpr bool InOrder() {
  for (size_t i = 1; i < std::size(kNumbers); ++i)
    if (kNumbers[i - 1] >= kNumbers[i]) return false;
  return true;
}
static_assert(InOrder(), "syscalls/table.inc is not in number order");

}  // namespace

const std::array<Entry, kTableSize>& Table() { return kTable; }

SyscallResult Dispatcher::Dispatch(Task& task, int number) {
  // Numbers with the x32 bit, and negative ones, have never had a table here.
  if (number < 0 || number >= kTableSize || kTable[number].invoke == nullptr) {
    if (task.seccomp_mode() != 0) {
      if (auto answer = ApplySeccomp(task, number)) return *answer;
    }
    task.kernel().NoteUnsupported(absl::StrCat("system call ", number));
    return Errno::kENOSYS;
  }
  const Entry& entry = kTable[number];
  counts_[number].fetch_add(1, std::memory_order_relaxed);
  if (__builtin_expect(task.seccomp_mode() != 0, 0)) {
    if (auto answer = ApplySeccomp(task, number)) return *answer;
  }
  if (__builtin_expect(watched_.load(std::memory_order_relaxed) != 0, 0))
    return Watched(task, number, entry);
  return entry.invoke(task);
}

std::optional<SyscallResult> Dispatcher::ApplySeccomp(Task& task, int number, bool again) {
  constexpr int kStrictMode = 1;
  if (task.seccomp_mode() == kStrictMode) {
    // read, write, exit and rt_sigreturn only.
    if (number == 0 || number == 1 || number == 60 || number == 15) return std::nullopt;
    task.PrepareGroupExit(signal::kSIGKILL);
    return SyscallResult(Errno::kENOSYS);
  }
  const kernel::SeccompFilter* filter = task.seccomp_filter();
  if (filter == nullptr) return std::nullopt;
  uint32_t answer = filter->Evaluate(number, task.regs());
  uint32_t data = answer & bpf::kRetDataMask;
  switch (answer & bpf::kRetActionMask) {
    case bpf::kRetAllow:
      return std::nullopt;
    case bpf::kRetLog:
      LOG_INFO("seccomp: tid ", task.tid(), " call ", number);
      return std::nullopt;
    case bpf::kRetErrno: {
      constexpr uint32_t kMaxErrno = 4095;
      uint32_t e = std::min(data, kMaxErrno);
      if (e == 0) return SyscallResult(int64_t{0});
      return SyscallResult(static_cast<int64_t>(-static_cast<int64_t>(e)));
    }
    case bpf::kRetTrap: {
      signal::Info info(signal::kSIGSYS, signal::kSysSeccomp);
      info.errno_value = static_cast<int32_t>(data);
      info.syscall.call_address = task.regs().rip;
      info.syscall.number = number;
      info.syscall.arch = bpf::kArchX86_64;
      task.ForceSignal(info);
      // The handler sees the call's number in rax, as after syscall_rollback().
      task.regs().rax = task.regs().orig_rax;
      task.MarkRegistersReplaced();
      return SyscallResult(int64_t{0});
    }
    case bpf::kRetTrace: {
      if (again) return std::nullopt;
      if (!task.PtraceSeccomp(data)) return SyscallResult(Errno::kENOSYS);
      // The tracer may have put another call here, or none; filters look once more.
      const int now = static_cast<int>(task.regs().orig_rax);
      if (now == -1 || task.IsKilled()) return SyscallResult(static_cast<int64_t>(task.regs().rax));
      if (auto refused = ApplySeccomp(task, now, /*again=*/true)) return refused;
      if (now < 0 || now >= kTableSize || kTable[now].invoke == nullptr) return SyscallResult(Errno::kENOSYS);
      return kTable[now].invoke(task);
    }
    case bpf::kRetUserNotif:
      return SyscallResult(Errno::kENOSYS);  // Without a tracer or a listener.
    case bpf::kRetKillThread:
      if (task.group().HasOtherThreads()) {
        task.PrepareExit(signal::kSIGSYS);
        return SyscallResult(Errno::kENOSYS);
      }
      [[fallthrough]];
    default:
      task.PrepareGroupExit(signal::kSIGSYS);
      return SyscallResult(Errno::kENOSYS);
  }
}

SyscallResult Dispatcher::Watched(Task& task, int number, const Entry& entry) {
  const uint32_t watched = watched_.load(std::memory_order_acquire);
  const bool traced =
      (watched & kStrace) != 0 && traced_[number].load(std::memory_order_relaxed);
  if ((watched & kTiming) == 0) return traced ? Traced(task, entry) : entry.invoke(task);
  const int64_t start = time::MonotonicNow();
  SyscallResult result = traced ? Traced(task, entry) : entry.invoke(task);
  Latencies* all = latencies_.load(std::memory_order_acquire);
  (*all)[static_cast<size_t>(number)].Record(
      static_cast<uint64_t>(std::max<int64_t>(0, time::MonotonicNow() - start)));
  return result;
}

void Dispatcher::SetTiming(bool on) {
  MutexLock lock(latencies_mu_);
  if (on && owned_latencies_ == nullptr) {
    owned_latencies_ = std::make_unique<Latencies>();
    latencies_.store(owned_latencies_.get(), std::memory_order_release);
  }
  // After the table is there: who sees the bit finds it.
  if (on) watched_.fetch_or(kTiming, std::memory_order_release);
  else watched_.fetch_and(~kTiming, std::memory_order_relaxed);
}

SyscallResult Dispatcher::Traced(Task& task, const Entry& entry) {
  const auto number = static_cast<int>(&entry - kTable.data());
  const std::string head = absl::StrCat("[", task.tid(), "] ", task.comm(), ": ", entry.name, "(");
  std::string line = head;
  // Before the call: it may replace the registers and the memory.
  if (!FormatArguments(task, number, nullptr, &line) && entry.format != nullptr) entry.format(task, &line);
  int64_t start = time::MonotonicNow();
  SyscallResult result = entry.invoke(task);
  const int64_t took = time::MonotonicNow() - start;
  if (result.ok() && FillsIn(number)) {
    line = head;
    FormatArguments(task, number, &result, &line);
  }
  absl::StrAppend(&line, ") = ", FormatResult(number, result), " <", took / 1000, " us>");
  LogLine(LogLevel::kInfo, line);
  return result;
}

void Dispatcher::NoteSignal(Task& task, const signal::Info& info) {
  if ((watched_.load(std::memory_order_relaxed) & kStrace) == 0) return;
  LogLine(LogLevel::kInfo, absl::StrCat("[", task.tid(), "] ", task.comm(), ": --- ", FormatSignal(info), " ---"));
}

void Dispatcher::SetStrace(bool on, absl::string_view filter) {
  std::vector<absl::string_view> names;
  if (!filter.empty()) names = absl::StrSplit(filter, ',');
  for (int i = 0; i < kTableSize; ++i) {
    bool wanted = names.empty();
    for (absl::string_view name : names) wanted |= kTable[i].name != nullptr && name == kTable[i].name;
    traced_[i].store(wanted, std::memory_order_relaxed);
  }
  if (on) watched_.fetch_or(kStrace, std::memory_order_relaxed);
  else watched_.fetch_and(~kStrace, std::memory_order_relaxed);
}

}  // namespace caisson::syscalls
