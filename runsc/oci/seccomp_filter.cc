#include "runsc/oci/seccomp_filter.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace caisson::oci {
namespace {

// The kernel's BPF_MAXINSNS.
constexpr size_t kMaxInstructions = 4096;

const std::map<std::string, scmp_compare>& Operators() {
  static const auto* operators =
      new std::map<std::string, scmp_compare>{{"SCMP_CMP_NE", SCMP_CMP_NE},
                                              {"SCMP_CMP_LT", SCMP_CMP_LT},
                                              {"SCMP_CMP_LE", SCMP_CMP_LE},
                                              {"SCMP_CMP_EQ", SCMP_CMP_EQ},
                                              {"SCMP_CMP_GE", SCMP_CMP_GE},
                                              {"SCMP_CMP_GT", SCMP_CMP_GT},
                                              {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  return *operators;
}

absl::StatusOr<uint32_t> ActionValue(const std::string& name, std::optional<uint32_t> errno_ret) {
  // The kernel truncates to 16 bits and caps at MAX_ERRNO; a larger value is a mistake.
  uint32_t data = errno_ret.value_or(EPERM);
  if (data > 0xffff) return absl::InvalidArgumentError("seccomp: errnoRet is above 65535");
  if (name == "SCMP_ACT_KILL" || name == "SCMP_ACT_KILL_THREAD") return SCMP_ACT_KILL_THREAD;
  if (name == "SCMP_ACT_KILL_PROCESS") return SCMP_ACT_KILL_PROCESS;
  if (name == "SCMP_ACT_TRAP") return SCMP_ACT_TRAP;
  if (name == "SCMP_ACT_ERRNO") return SCMP_ACT_ERRNO(data);
  if (name == "SCMP_ACT_TRACE") return SCMP_ACT_TRACE(data);
  if (name == "SCMP_ACT_ALLOW") return SCMP_ACT_ALLOW;
  if (name == "SCMP_ACT_LOG") return SCMP_ACT_LOG;
  if (name == "SCMP_ACT_NOTIFY") {
    return absl::UnimplementedError("seccomp: SCMP_ACT_NOTIFY is not supported yet");
  }
  return absl::InvalidArgumentError(absl::StrCat("seccomp: unknown action \"", name, "\""));
}

absl::StatusOr<std::vector<scmp_arg_cmp>> Conditions(const SeccompRule& rule) {
  std::vector<scmp_arg_cmp> out;
  for (const SeccompArg& arg : rule.args) {
    auto op = Operators().find(arg.op);
    if (op == Operators().end()) {
      return absl::InvalidArgumentError(absl::StrCat("seccomp: unknown operator \"", arg.op, "\""));
    }
    out.push_back({arg.index, op->second, arg.value, arg.value_two});
  }
  return out;
}

absl::Status AddRule(scmp_filter_ctx ctx, int number, const std::string& name, uint32_t action,
                     const std::vector<scmp_arg_cmp>& conditions) {
  // libseccomp takes one condition an argument. Two on the same one are alternatives in runc: each
  // condition becomes a rule of its own.
  bool repeated = false;
  uint32_t seen = 0;
  for (const scmp_arg_cmp& condition : conditions) {
    repeated |= (seen & (1u << condition.arg)) != 0;
    seen |= 1u << condition.arg;
  }
  int rc = 0;
  if (!repeated) {
    rc = seccomp_rule_add_array(ctx, action, number, static_cast<unsigned>(conditions.size()),
                                conditions.data());
  } else {
    for (size_t i = 0; i < conditions.size() && rc == 0; ++i) {
      rc = seccomp_rule_add_array(ctx, action, number, 1, &conditions[i]);
    }
  }
  // The same rule twice, or one that a broader rule includes, is no error for runc.
  if (rc == 0 || rc == -EEXIST) return absl::OkStatus();
  return HostErrnoStatus(-rc, absl::StrCat("seccomp: rule for ", name));
}

absl::StatusOr<std::string> Export(scmp_filter_ctx ctx) {
  UniqueFd memory(memfd_create("seccomp", MFD_CLOEXEC));
  if (!memory) return HostErrnoStatus(errno, "seccomp: memfd_create");
  if (int rc = seccomp_export_bpf(ctx, memory.get()); rc != 0) {
    return HostErrnoStatus(-rc, "seccomp: compiling the filter");
  }
  struct stat st {};
  if (fstat(memory.get(), &st) != 0) return HostErrnoStatus(errno, "seccomp: fstat");
  std::string out(static_cast<size_t>(st.st_size), '\0');
  if (pread(memory.get(), out.data(), out.size(), 0) != static_cast<ssize_t>(out.size())) {
    return absl::InternalError("seccomp: reading the compiled filter");
  }
  return out;
}

// In front of `bpf`: a native call above `highest` answers ENOSYS.
std::string WithUnknownCallsAnsweringEnosys(const std::string& bpf, uint32_t highest) {
  const sock_filter prologue[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, highest, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
  };
  return std::string(reinterpret_cast<const char*>(prologue), sizeof(prologue)) + bpf;
}

absl::StatusOr<uint32_t> Flags(const Seccomp& seccomp) {
  uint32_t out = 0;
  for (const std::string& flag : seccomp.flags) {
    if (flag == "SECCOMP_FILTER_FLAG_TSYNC") {
      out |= SECCOMP_FILTER_FLAG_TSYNC;
    } else if (flag == "SECCOMP_FILTER_FLAG_LOG") {
      out |= SECCOMP_FILTER_FLAG_LOG;
    } else if (flag == "SECCOMP_FILTER_FLAG_SPEC_ALLOW") {
      out |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    } else {
      return absl::InvalidArgumentError(absl::StrCat("seccomp: unknown flag \"", flag, "\""));
    }
  }
  return out;
}

absl::Status CheckArchitectures(const Seccomp& seccomp) {
  for (const std::string& name : seccomp.architectures) {
    if (name.rfind("SCMP_ARCH_", 0) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("seccomp: unknown architecture \"", name, "\""));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SeccompFilter> CompileSeccomp(const Seccomp& seccomp) {
  SeccompFilter out;
  ASSIGN_OR_RETURN(out.flags, Flags(seccomp));
  RETURN_IF_ERROR(CheckArchitectures(seccomp));
  ASSIGN_OR_RETURN(uint32_t default_action,
                   ActionValue(seccomp.default_action, seccomp.default_errno_ret));
  scmp_filter_ctx ctx = seccomp_init(default_action);
  if (ctx == nullptr) return absl::InternalError("seccomp: cannot make a filter");
  absl::Cleanup release = [ctx] { seccomp_release(ctx); };
  seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  // Another architecture's calls cannot be made from inside; the program answers them all the same.
  seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

  uint32_t highest = 0;
  for (const SeccompRule& rule : seccomp.rules) {
    ASSIGN_OR_RETURN(uint32_t action, ActionValue(rule.action, rule.errno_ret));
    ASSIGN_OR_RETURN(std::vector<scmp_arg_cmp> conditions, Conditions(rule));
    for (const std::string& name : rule.names) {
      int number = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name.c_str());
      if (number < 0) continue;  // Unknown, or not one of this architecture's.
      highest = std::max(highest, static_cast<uint32_t>(number));
      if (action == default_action) continue;  // libseccomp refuses a rule that changes nothing.
      RETURN_IF_ERROR(AddRule(ctx, number, name, action, conditions));
    }
  }
  ASSIGN_OR_RETURN(out.bpf, Export(ctx));
  bool permissive = default_action == SCMP_ACT_ALLOW || default_action == SCMP_ACT_LOG;
  if (!permissive && highest > 0) out.bpf = WithUnknownCallsAnsweringEnosys(out.bpf, highest);
  if (out.bpf.size() > kMaxInstructions * sizeof(sock_filter)) {
    return absl::InvalidArgumentError(
        absl::StrCat("seccomp: the profile needs more than ", kMaxInstructions, " instructions"));
  }
  return out;
}

std::vector<std::string> SeccompActions() {
  return {"SCMP_ACT_ALLOW",       "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",  "SCMP_ACT_KILL_PROCESS",
          "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",   "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"};
}

std::vector<std::string> SeccompOperators() {
  std::vector<std::string> out;
  for (const auto& entry : Operators()) out.push_back(entry.first);
  return out;
}

std::string LibseccompVersion() {
  const scmp_version* version = seccomp_version();
  return absl::StrCat(version->major, ".", version->minor, ".", version->micro);
}

}  // namespace caisson::oci
