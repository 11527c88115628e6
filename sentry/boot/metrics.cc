#include "sentry/boot/metrics.h"

#include "absl/strings/str_cat.h"
#include "platform/platform.h"

namespace caisson::boot {
namespace {

void Header(std::string* out, absl::string_view name, absl::string_view type, absl::string_view help) {
  absl::StrAppend(out, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

// Prometheus' text format: backslash, quote and newline in label values are escaped.
std::string Label(absl::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') out += "\\n";
    else out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  }
  return out;
}

void AppendHistograms(std::string* out, const syscalls::Dispatcher& dispatcher) {
  if (dispatcher.latency(0) == nullptr) return;
  constexpr absl::string_view kName = "caisson_syscall_duration_seconds";
  Header(out, kName, "histogram", "How long system calls take in the sentry, blocking included.");
  for (int n = 0; n < syscalls::kTableSize; ++n) {
    const syscalls::LatencyHistogram& h = *dispatcher.latency(n);
    uint64_t total = 0;
    for (int i = 0; i < syscalls::kLatencyBuckets; ++i) total += h.bucket(i);
    if (total == 0 || syscalls::Table()[n].name == nullptr) continue;
    const absl::string_view call = syscalls::Table()[n].name;
    uint64_t below = 0;
    for (int i = 0; i + 1 < syscalls::kLatencyBuckets && below < total; ++i) {
      if (h.bucket(i) == 0) continue;
      below += h.bucket(i);
      absl::StrAppend(out, kName, "_bucket{call=\"", call, "\",le=\"",
                      static_cast<double>(uint64_t{1} << i) / 1e9, "\"} ", below, "\n");
    }
    absl::StrAppend(out, kName, "_bucket{call=\"", call, "\",le=\"+Inf\"} ", total, "\n");
    absl::StrAppend(out, kName, "_sum{call=\"", call, "\"} ", static_cast<double>(h.sum_ns()) / 1e9, "\n");
    absl::StrAppend(out, kName, "_count{call=\"", call, "\"} ", total, "\n");
  }
}

}  // namespace

std::string MetricsText(kernel::Kernel& kernel, const syscalls::Dispatcher& dispatcher) {
  std::string out;
  Header(&out, "caisson_syscalls_total", "counter", "System calls that reached the sentry.");
  for (int n = 0; n < syscalls::kTableSize; ++n)
    if (uint64_t count = dispatcher.count(n); count != 0)
      absl::StrAppend(&out, "caisson_syscalls_total{call=\"", syscalls::Table()[n].name, "\"} ", count, "\n");
  if (auto unsupported = kernel.Unsupported(); !unsupported.empty()) {
    Header(&out, "caisson_unsupported_total", "counter", "Requests for what is not there.");
    for (const auto& [what, count] : unsupported)
      absl::StrAppend(&out, "caisson_unsupported_total{what=\"", Label(what), "\"} ", count, "\n");
  }
  const platform::Platform& platform = kernel.platform();
  if (auto counters = platform.Counters(); !counters.empty()) {
    Header(&out, "caisson_handoffs_total", "counter", "Ways from guest code to the sentry and back.");
    for (const auto& counter : counters)
      absl::StrAppend(&out, "caisson_handoffs_total{platform=\"", platform.name(), "\",kind=\"", counter.name,
                      "\"} ", counter.value, "\n");
  }
  size_t processes = 0, threads = 0;
  for (const auto& group : kernel.ThreadGroups()) {
    ++processes;
    MutexLock lock(kernel.tasks_mu());
    threads += static_cast<size_t>(group->live_tasks);
  }
  Header(&out, "caisson_processes", "gauge", "Guest processes, zombies included.");
  absl::StrAppend(&out, "caisson_processes ", processes, "\n");
  Header(&out, "caisson_threads", "gauge", "Guest threads.");
  absl::StrAppend(&out, "caisson_threads ", threads, "\n");
  AppendHistograms(&out, dispatcher);
  return out;
}

}  // namespace caisson::boot
