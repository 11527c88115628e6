#include "runsc/oci/names.h"

#include <sys/resource.h>

#include <csignal>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"

namespace caisson::oci {
namespace {

// Linux include/uapi/linux/capability.h; the index is the number.
constexpr absl::string_view kCapabilities[] = {"CHOWN",
                                               "DAC_OVERRIDE",
                                               "DAC_READ_SEARCH",
                                               "FOWNER",
                                               "FSETID",
                                               "KILL",
                                               "SETGID",
                                               "SETUID",
                                               "SETPCAP",
                                               "LINUX_IMMUTABLE",
                                               "NET_BIND_SERVICE",
                                               "NET_BROADCAST",
                                               "NET_ADMIN",
                                               "NET_RAW",
                                               "IPC_LOCK",
                                               "IPC_OWNER",
                                               "SYS_MODULE",
                                               "SYS_RAWIO",
                                               "SYS_CHROOT",
                                               "SYS_PTRACE",
                                               "SYS_PACCT",
                                               "SYS_ADMIN",
                                               "SYS_BOOT",
                                               "SYS_NICE",
                                               "SYS_RESOURCE",
                                               "SYS_TIME",
                                               "SYS_TTY_CONFIG",
                                               "MKNOD",
                                               "LEASE",
                                               "AUDIT_WRITE",
                                               "AUDIT_CONTROL",
                                               "SETFCAP",
                                               "MAC_OVERRIDE",
                                               "MAC_ADMIN",
                                               "SYSLOG",
                                               "WAKE_ALARM",
                                               "BLOCK_SUSPEND",
                                               "AUDIT_READ",
                                               "PERFMON",
                                               "BPF",
                                               "CHECKPOINT_RESTORE"};

struct Name {
  absl::string_view name;
  int number;
};

constexpr Name kRlimits[] = {{"CPU", RLIMIT_CPU},           {"FSIZE", RLIMIT_FSIZE},
                             {"DATA", RLIMIT_DATA},         {"STACK", RLIMIT_STACK},
                             {"CORE", RLIMIT_CORE},         {"RSS", RLIMIT_RSS},
                             {"NPROC", RLIMIT_NPROC},       {"NOFILE", RLIMIT_NOFILE},
                             {"MEMLOCK", RLIMIT_MEMLOCK},   {"AS", RLIMIT_AS},
                             {"LOCKS", RLIMIT_LOCKS},       {"SIGPENDING", RLIMIT_SIGPENDING},
                             {"MSGQUEUE", RLIMIT_MSGQUEUE}, {"NICE", RLIMIT_NICE},
                             {"RTPRIO", RLIMIT_RTPRIO},     {"RTTIME", RLIMIT_RTTIME}};

constexpr Name kSignals[] = {
    {"HUP", SIGHUP},       {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"ILL", SIGILL},
    {"TRAP", SIGTRAP},     {"ABRT", SIGABRT},   {"IOT", SIGABRT},  {"BUS", SIGBUS},
    {"FPE", SIGFPE},       {"KILL", SIGKILL},   {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},
    {"USR2", SIGUSR2},     {"PIPE", SIGPIPE},   {"ALRM", SIGALRM}, {"TERM", SIGTERM},
    {"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD},   {"CLD", SIGCHLD},  {"CONT", SIGCONT},
    {"STOP", SIGSTOP},     {"TSTP", SIGTSTP},   {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},
    {"URG", SIGURG},       {"XCPU", SIGXCPU},   {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM},
    {"PROF", SIGPROF},     {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"POLL", SIGIO},
    {"PWR", SIGPWR},       {"SYS", SIGSYS},     {"UNUSED", SIGSYS}};

// As the shell and docker number them: glibc's SIGRTMIN, two above the kernel's.
constexpr int kRealtimeMin = 34;
constexpr int kRealtimeMax = 64;

}  // namespace

std::optional<int> CapabilityNumber(absl::string_view name) {
  std::string upper = absl::AsciiStrToUpper(name);
  absl::string_view rest = upper;
  absl::ConsumePrefix(&rest, "CAP_");
  int number = 0;
  for (absl::string_view capability : kCapabilities) {
    if (capability == rest) return number;
    ++number;
  }
  return std::nullopt;
}

std::vector<std::string> CapabilityNames() {
  std::vector<std::string> out;
  for (absl::string_view capability : kCapabilities)
    out.push_back(absl::StrCat("CAP_", capability));
  return out;
}

uint64_t CapabilitySet(const std::vector<std::string>& names) {
  uint64_t out = 0;
  for (const std::string& name : names) {
    if (std::optional<int> number = CapabilityNumber(name)) {
      out |= uint64_t{1} << *number;
    } else {
      LOG_WARNING("unknown capability \"", name, "\", ignored");
    }
  }
  return out;
}

std::optional<uint32_t> RlimitNumber(absl::string_view name) {
  if (!absl::ConsumePrefix(&name, "RLIMIT_")) return std::nullopt;
  for (const Name& limit : kRlimits) {
    if (limit.name == name) return limit.number;
  }
  return std::nullopt;
}

absl::StatusOr<int> SignalNumber(absl::string_view name) {
  auto bad = [&] {
    return absl::InvalidArgumentError(absl::StrCat("unknown signal \"", name, "\""));
  };
  int number = 0;
  if (absl::SimpleAtoi(name, &number)) {
    if (number < 1 || number > 64) return bad();
    return number;
  }
  std::string upper = absl::AsciiStrToUpper(name);
  absl::string_view rest = upper;
  absl::ConsumePrefix(&rest, "SIG");
  for (const Name& signal : kSignals) {
    if (signal.name == rest) return signal.number;
  }
  int base = 0;
  int sign = 1;
  if (absl::ConsumePrefix(&rest, "RTMIN")) {
    base = kRealtimeMin;
    if (!rest.empty() && !absl::ConsumePrefix(&rest, "+")) return bad();
  } else if (absl::ConsumePrefix(&rest, "RTMAX")) {
    base = kRealtimeMax;
    sign = -1;
    if (!rest.empty() && !absl::ConsumePrefix(&rest, "-")) return bad();
  } else {
    return bad();
  }
  int offset = 0;
  // SimpleAtoi takes blanks and signs: what is left must be digits.
  for (char c : rest) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) return bad();
  }
  bool has_sign = upper.back() == '+' || upper.back() == '-';
  if (has_sign || (!rest.empty() && !absl::SimpleAtoi(rest, &offset))) return bad();
  number = base + sign * offset;
  if (offset > kRealtimeMax || number < kRealtimeMin || number > kRealtimeMax) return bad();
  return number;
}

}  // namespace caisson::oci
