#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/cgroup/file.h"

namespace caisson::cgroup {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

// v1's limits are "no limit" at PAGE_COUNTER_MAX, a page below 2^63.
uint64_t LimitOrZero(uint64_t limit) { return limit >= (1ull << 63) - 4096 ? 0 : limit; }

void CpuV1(const std::string& dir, Stats& out) {
  out.cpu_total_ns = ReadNumber(dir + "/cpuacct.usage").value_or(0);
  absl::StatusOr<std::string> percpu = ReadText(dir + "/cpuacct.usage_percpu");
  if (percpu.ok()) {
    for (absl::string_view value :
         absl::StrSplit(*percpu, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
      uint64_t ns = 0;
      if (absl::SimpleAtoi(value, &ns)) out.cpu_percpu_ns.push_back(ns);
    }
  }
  auto ticks = static_cast<uint64_t>(sysconf(_SC_CLK_TCK));
  for (const auto& [key, value] : ReadKeyed(dir + "/cpuacct.stat")) {
    if (key == "user") out.cpu_user_ns = value * (kNsPerSecond / ticks);
    if (key == "system") out.cpu_system_ns = value * (kNsPerSecond / ticks);
  }
}

void CpuV2(const std::string& dir, Stats& out) {
  for (const auto& [key, value] : ReadKeyed(dir + "/cpu.stat")) {
    if (key == "usage_usec") out.cpu_total_ns = value * 1000;
    if (key == "user_usec") out.cpu_user_ns = value * 1000;
    if (key == "system_usec") out.cpu_system_ns = value * 1000;
    if (key == "nr_periods") out.throttle_periods = value;
    if (key == "nr_throttled") out.throttled_periods = value;
    if (key == "throttled_usec") out.throttled_ns = value * 1000;
  }
}

void MemoryV1(const std::string& dir, Stats& out) {
  out.memory_usage = ReadNumber(dir + "/memory.usage_in_bytes").value_or(0);
  out.memory_peak = ReadNumber(dir + "/memory.max_usage_in_bytes").value_or(0);
  out.memory_limit = LimitOrZero(ReadNumber(dir + "/memory.limit_in_bytes").value_or(0));
  out.memory_failures = ReadNumber(dir + "/memory.failcnt").value_or(0);
  out.swap_usage = ReadNumber(dir + "/memory.memsw.usage_in_bytes").value_or(0);
  out.swap_limit = LimitOrZero(ReadNumber(dir + "/memory.memsw.limit_in_bytes").value_or(0));
  for (const auto& [key, value] : ReadKeyed(dir + "/memory.stat")) out.memory_raw[key] = value;
  out.memory_cache = out.memory_raw["cache"];
  for (const auto& [key, value] : ReadKeyed(dir + "/memory.oom_control")) {
    if (key == "oom_kill") out.oom_kills = value;
  }
}

void MemoryV2(const std::string& dir, Stats& out) {
  out.memory_usage = ReadNumber(dir + "/memory.current").value_or(0);
  out.memory_peak = ReadNumber(dir + "/memory.peak").value_or(0);
  out.memory_limit = LimitOrZero(ReadNumber(dir + "/memory.max").value_or(0));
  out.swap_usage = ReadNumber(dir + "/memory.swap.current").value_or(0);
  out.swap_limit = LimitOrZero(ReadNumber(dir + "/memory.swap.max").value_or(0));
  for (const auto& [key, value] : ReadKeyed(dir + "/memory.stat")) out.memory_raw[key] = value;
  out.memory_cache = out.memory_raw["file"];
  for (const auto& [key, value] : ReadKeyed(dir + "/memory.events")) {
    if (key == "oom_kill") out.oom_kills = value;
    if (key == "max") out.memory_failures = value;
  }
}

}  // namespace

Stats Cgroup::ReadStats() const {
  Stats out;
  bool is_v2 = false;
  if (auto it = paths_.find("cpuacct"); it != paths_.end()) {
    CpuV1(it->second, out);
  } else if (auto v2 = paths_.find(""); v2 != paths_.end()) {
    CpuV2(v2->second, out);
  }
  if (auto it = paths_.find("cpu"); it != paths_.end()) {
    for (const auto& [key, value] : ReadKeyed(it->second + "/cpu.stat")) {
      if (key == "nr_periods") out.throttle_periods = value;
      if (key == "nr_throttled") out.throttled_periods = value;
      if (key == "throttled_time") out.throttled_ns = value;
    }
  }
  if (std::string dir = DirOf("memory", is_v2); !dir.empty()) {
    is_v2 ? MemoryV2(dir, out) : MemoryV1(dir, out);
  }
  if (std::string dir = DirOf("pids", is_v2); !dir.empty()) {
    out.pids_current = ReadNumber(dir + "/pids.current").value_or(0);
    out.pids_limit = LimitOrZero(ReadNumber(dir + "/pids.max").value_or(0));
  }
  return out;
}

}  // namespace caisson::cgroup
