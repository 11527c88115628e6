#include "confine/filter_compile.h"

#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace caisson::confine {
namespace {

uint32_t LibraryAction(uint32_t action) {
  return (action & bpf::kRetActionMask) == bpf::kRetErrno ? SCMP_ACT_ERRNO(action & 0xffff)
                                                          : SCMP_ACT_ALLOW;
}

absl::Status AddRule(scmp_filter_ctx context, const FilterRule& rule) {
  scmp_arg_cmp checks[4];
  for (int i = 0; i < rule.checks.count; ++i) {
    const ArgCheck& check = rule.checks.list[i];
    for (int j = 0; j < i; ++j) {
      if (checks[j].arg == check.index) {
        return absl::InvalidArgumentError(absl::StrCat("call ", rule.number, ": argument twice"));
      }
    }
    if ((check.value & ~check.mask) != 0) {
      return absl::InvalidArgumentError(absl::StrCat("call ", rule.number, ": never matches"));
    }
    checks[i] = {.arg = check.index, .op = SCMP_CMP_MASKED_EQ, .datum_a = check.mask,
                 .datum_b = check.value};
  }
  const int r = seccomp_rule_add_exact_array(context, LibraryAction(rule.action), rule.number,
                                             rule.checks.count, checks);
  if (r == 0 || r == -EEXIST) return absl::OkStatus();
  return HostErrnoStatus(-r, absl::StrCat("rule for call ", rule.number));
}

}  // namespace

absl::StatusOr<std::vector<bpf::Instruction>> CompileFilter(const FilterTable& table) {
  scmp_filter_ctx context = seccomp_init(SCMP_ACT_KILL_PROCESS);
  if (context == nullptr) return absl::InternalError("seccomp_init failed");
  absl::Cleanup release = [context] { seccomp_release(context); };
  seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);  // Binary tree.
  std::map<int, uint32_t> actions;
  std::set<int> unconditional;
  for (const FilterRule& rule : table.rules) {
    if (!actions.emplace(rule.number, rule.action).second &&
        actions[rule.number] != rule.action) {
      return absl::InvalidArgumentError(absl::StrCat("call ", rule.number, ": two actions"));
    }
    if (rule.checks.count == 0 && !unconditional.insert(rule.number).second) {
      return absl::InvalidArgumentError(absl::StrCat("call ", rule.number, ": listed twice"));
    }
    RETURN_IF_ERROR(AddRule(context, rule));
  }
  UniqueFd file(memfd_create("bpf", MFD_CLOEXEC));
  if (!file) return HostErrnoStatus(errno, "memfd_create");
  if (int r = seccomp_export_bpf(context, file.get()); r != 0) {
    return HostErrnoStatus(-r, "seccomp_export_bpf");
  }
  const off_t size = lseek(file.get(), 0, SEEK_END);
  std::vector<bpf::Instruction> program(static_cast<size_t>(size) / sizeof(bpf::Instruction));
  if (pread(file.get(), program.data(), static_cast<size_t>(size), 0) != size) {
    return absl::InternalError("reading the program back");
  }
  if (!bpf::IsValidSeccompProgram(program)) return absl::InternalError("not a valid program");
  return program;
}

}  // namespace caisson::confine
