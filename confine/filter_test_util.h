// For the tests of each process's filter: the compiled program against its table.
#ifndef CAISSON_CONFINE_FILTER_TEST_UTIL_H_
#define CAISSON_CONFINE_FILTER_TEST_UTIL_H_

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <set>
#include <vector>

#include "base/bpf.h"
#include "confine/confine.h"
#include "confine/filter_table.h"
#include "gtest/gtest.h"

namespace caisson::confine {

// Values of an argument at which some check of `table` could change its mind, and some others.
inline std::vector<uint64_t> InterestingValues(const FilterTable& table, int number, int index) {
  std::set<uint64_t> values = {0, 1, ~uint64_t{0}, 0xffffffff, 0x100000000};
  for (const FilterRule& rule : table.rules) {
    if (rule.number != number) continue;
    for (int i = 0; i < rule.checks.count; ++i) {
      const ArgCheck& check = rule.checks.list[i];
      if (check.index != index) continue;
      values.insert({check.value, check.value ^ 1, check.value | uint64_t{1} << 32, ~check.mask,
                     check.value | ~check.mask});
      for (int bit = 0; bit < 64; ++bit) values.insert(check.value ^ uint64_t{1} << bit);
    }
  }
  return {values.begin(), values.end()};
}

// Every call number on every architecture, and for numbers with argument checks each argument
// through its interesting values while the others hold one rule's values.
inline void ExpectProgramMatchesTable(const FilterTable& table,
                                      absl::Span<const bpf::Instruction> program) {
  ASSERT_TRUE(bpf::IsValidSeccompProgram(program));
  for (uint32_t arch : {bpf::kArchX86_64, bpf::kArchI386, uint32_t{0}, uint32_t{0xc00000b7}}) {
    for (int64_t base : {int64_t{0}, int64_t{0x40000000}, int64_t{0x7fffff00}, int64_t{-1024}}) {
      for (int64_t n = base; n < base + 1024; ++n) {
        bpf::SeccompData data{.number = static_cast<int32_t>(n), .arch = arch};
        ASSERT_EQ(bpf::RunSeccompProgram(program, data), ActionOf(table, data))
            << table.name << ": call " << n << " arch " << arch;
      }
    }
  }
  for (const FilterRule& rule : table.rules) {
    bpf::SeccompData matching{.number = rule.number, .arch = bpf::kArchX86_64};
    for (int i = 0; i < rule.checks.count; ++i) {
      matching.args[rule.checks.list[i].index] = rule.checks.list[i].value;
    }
    ASSERT_EQ(bpf::RunSeccompProgram(program, matching), rule.action)
        << table.name << ": call " << rule.number << " (" << rule.why << ")";
    for (int index = 0; index < 6; ++index) {
      for (uint64_t value : InterestingValues(table, rule.number, index)) {
        bpf::SeccompData data = matching;
        data.args[index] = value;
        ASSERT_EQ(bpf::RunSeccompProgram(program, data), ActionOf(table, data))
            << table.name << ": call " << rule.number << " argument " << index << " = " << value;
      }
    }
    EXPECT_GT(std::string(rule.why).size(), 0u);
  }
  printf("%s allows %zu calls, %zu instructions\n", table.name, AllowedCalls(table),
         program.size());
}

// Makes call `number` with `args` in a child that has installed the filter; its wait status, where
// an exit status is the errno. (Calls that end the child give what they give.)
inline int ProbeCall(absl::Span<const bpf::Instruction> program, int number,
                     const std::vector<long>& args) {
  std::vector<long> a = args;
  a.resize(6);
  const pid_t child = fork();
  if (child == 0) {
    if (!SetNoNewPrivileges().ok() || !InstallFilter(program).ok()) _exit(255);
    const long r = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    _exit(r == -1 ? errno : 0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

// Every call that the table does not have, asked of the real kernel, kills; and so do the ones with
// conditions, when none of them holds.
inline void ExpectDeniedCallsKill(const FilterTable& table,
                                  absl::Span<const bpf::Instruction> program) {
  constexpr int kNumbers = 470;  // Past the last one that there is.
  // Descriptor -1, length and flags -1: harmless should the filter let one through.
  const std::vector<long> args(6, -1);
  for (int number = 0; number < kNumbers; ++number) {
    // uretprobe and uprobe: since 6.14 the kernel does not ask filters about them. They work from
    // the kernel's own trampolines only.
    if (number == 335 || number == 336) continue;
    bpf::SeccompData data{.number = number, .arch = bpf::kArchX86_64};
    for (uint64_t& arg : data.args) arg = ~uint64_t{0};
    if (ActionOf(table, data) != bpf::kRetKillProcess) continue;
    const int status = ProbeCall(program, number, args);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        << table.name << ": call " << number << " gave " << status;
  }
}

}  // namespace caisson::confine

#endif  // CAISSON_CONFINE_FILTER_TEST_UTIL_H_
