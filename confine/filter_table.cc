#include "confine/filter_table.h"

#include <set>

namespace caisson::confine {

uint32_t ActionOf(const FilterTable& table, const bpf::SeccompData& data) {
  if (data.arch != bpf::kArchX86_64) return bpf::kRetKillProcess;
  for (const FilterRule& rule : table.rules) {
    if (rule.number != data.number) continue;
    bool matches = true;
    for (int i = 0; i < rule.checks.count; ++i) {
      const ArgCheck& check = rule.checks.list[i];
      if ((data.args[check.index] & check.mask) != check.value) matches = false;
    }
    if (matches) return rule.action;
  }
  return bpf::kRetKillProcess;
}

size_t AllowedCalls(const FilterTable& table) {
  std::set<int> numbers;
  for (const FilterRule& rule : table.rules) {
    if (rule.action == bpf::kRetAllow) numbers.insert(rule.number);
  }
  return numbers.size();
}

}  // namespace caisson::confine
