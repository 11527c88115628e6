// /proc/sys/kernel.
#include <sys/random.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "sentry/kernel/version.h"
#include "sentry/procfs/sysctl.h"

namespace caisson::procfs {

namespace {

// The text of a UUID of version 4 (RFC 9562) from random bytes.
std::string UuidText(std::array<uint8_t, 16> b) {
  b[6] = static_cast<uint8_t>((b[6] & 0x0f) | 0x40);
  b[8] = static_cast<uint8_t>((b[8] & 0x3f) | 0x80);
  std::string out;
  for (int i = 0; i < 16; ++i)
    Append(&out, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", b[i]);
  return out;
}

// The caller's, as the values are of its UTS namespace.
Result<RefPtr<kernel::UtsNamespace>> UtsOf(CallContext& ctx) {
  Task* task = CallerOf(ctx);
  RefPtr<kernel::NamespaceSet> set = task != nullptr ? task->namespaces_ref() : nullptr;
  if (!set || !set->uts) return Errno::kENOENT;
  return set->uts;
}

// proc_do_uts_string(): up to the first newline, cut to 64 bytes.
Result<std::string> NameToSet(CallContext& ctx, absl::string_view data, uint64_t offset,
                              const kernel::UtsNamespace& uts) {
  if (!ctx.creds().HasCapability(auth::Capability::kSysAdmin, uts.user_ns())) return Errno::kEPERM;
  if (offset != 0) return Errno::kEINVAL;
  constexpr size_t kMaxName = 64;
  const absl::string_view end("\n\0", 2);
  return std::string(data.substr(0, std::min(data.find_first_of(end), kMaxName)));
}

Result<std::string> ReadHostname(CallContext& ctx, KernelObject&) {
  RefPtr<kernel::UtsNamespace> uts = TRY(UtsOf(ctx));
  return uts->host_name() + "\n";
}
Result<void> WriteHostname(CallContext& ctx, KernelObject&, absl::string_view data,
                           uint64_t offset) {
  RefPtr<kernel::UtsNamespace> uts = TRY(UtsOf(ctx));
  uts->set_host_name(TRY(NameToSet(ctx, data, offset, *uts)));
  return {};
}
Result<std::string> ReadDomainname(CallContext& ctx, KernelObject&) {
  RefPtr<kernel::UtsNamespace> uts = TRY(UtsOf(ctx));
  return uts->domain_name() + "\n";
}
Result<void> WriteDomainname(CallContext& ctx, KernelObject&, absl::string_view data,
                             uint64_t offset) {
  RefPtr<kernel::UtsNamespace> uts = TRY(UtsOf(ctx));
  uts->set_domain_name(TRY(NameToSet(ctx, data, offset, *uts)));
  return {};
}

Result<std::string> ReadOsrelease(CallContext&, KernelObject&) {
  return absl::StrCat(kernel::kKernelRelease, "\n");
}
Result<std::string> ReadVersionText(CallContext&, KernelObject&) {
  return absl::StrCat(kernel::kKernelVersion, "\n");
}
Result<std::string> ReadPidMax(CallContext&, KernelObject&) {
  return absl::StrCat(kernel::kPidMax, "\n");
}
// What fork(2) refuses to pass, whoever asks.
Result<std::string> ReadThreadsMax(CallContext&, KernelObject& o) {
  return absl::StrCat(o.kernel().config().max_tasks, "\n");
}
Result<std::string> ReadCapLastCap(CallContext&, KernelObject&) {
  return absl::StrCat(auth::kLastCapability, "\n");
}
Result<std::string> ReadBootId(CallContext&, KernelObject& o) {
  return UuidText(o.kernel().boot_id()) + "\n";
}
Result<std::string> ReadUuid(CallContext&, KernelObject&) {
  std::array<uint8_t, 16> bytes;
  CHECK(getrandom(bytes.data(), bytes.size(), 0) == 16);  // Up to 256 bytes come whole.
  return UuidText(bytes) + "\n";
}

constexpr char kZero[] = "0\n";
constexpr char kOne[] = "1\n";
constexpr char kTwo[] = "2\n";
constexpr char kPoolBits[] = "256\n";
constexpr char kCore[] = "core\n";
constexpr char kGroups[] = "65536\n";
constexpr char kOstype[] = "Linux\n";
constexpr char kOverflow[] = "65534\n";
constexpr char kPrintk[] = "7\t4\t1\t7\n";
constexpr char kSeccompActions[] =
    "kill_process kill_thread trap errno user_notif trace log allow\n";
constexpr char kSeccompLogged[] = "kill_process kill_thread trap errno user_notif trace log\n";
constexpr char kSysrq[] = "0\n";
constexpr char kKeys[] = "200\n";
constexpr char kKeyBytes[] = "20000\n";

constexpr Entry kRandomEntries[] = {
    Sysctl<ReadBootId>("boot_id"),   Value<kPoolBits>("entropy_avail"),
    Value<kPoolBits>("poolsize"),    Value<kPoolBits>("write_wakeup_threshold"),
    Sysctl<ReadUuid>("uuid"),
};
constexpr Directory kRandomDirectory{.entries = kRandomEntries, .cached = true};
constexpr Entry kSeccompEntries[] = {Value<kSeccompActions>("actions_avail"),
                                     Value<kSeccompLogged>("actions_logged")};
constexpr Directory kSeccompDirectory{.entries = kSeccompEntries, .cached = true};
constexpr Entry kKeysEntries[] = {Value<kKeyBytes>("maxbytes"), Value<kKeys>("maxkeys")};
constexpr Directory kKeysDirectory{.entries = kKeysEntries, .cached = true};

constexpr Entry kEntries[] = {
    Sysctl<ReadCapLastCap>("cap_last_cap"),
    Value<kCore>("core_pattern"),
    Value<kZero>("core_uses_pid"),
    Value<kZero>("dmesg_restrict"),
    Sysctl<ReadDomainname, WriteDomainname>("domainname"),
    Sysctl<ReadHostname, WriteHostname>("hostname"),
    SysctlDir("keys", kKeysDirectory),
    Value<kOne>("kptr_restrict"),
    NamespacedValue<Namespaced::kMsgmax>("msgmax"),
    NamespacedValue<Namespaced::kMsgmnb>("msgmnb"),
    NamespacedValue<Namespaced::kMsgmni>("msgmni"),
    Value<kGroups>("ngroups_max"),
    Sysctl<ReadOsrelease>("osrelease"),
    Value<kOstype>("ostype"),
    Value<kOverflow>("overflowgid"),
    Value<kOverflow>("overflowuid"),
    Value<kZero>("panic"),
    Value<kZero>("panic_on_oops"),
    Value<kTwo>("perf_event_paranoid"),
    Sysctl<ReadPidMax>("pid_max"),
    Value<kPrintk>("printk"),
    SysctlDir("random", kRandomDirectory),
    Value<kTwo>("randomize_va_space"),
    SysctlDir("seccomp", kSeccompDirectory),
    NamespacedValue<Namespaced::kSem>("sem"),
    NamespacedValue<Namespaced::kShmall>("shmall"),
    NamespacedValue<Namespaced::kShmmax>("shmmax"),
    NamespacedValue<Namespaced::kShmmni>("shmmni"),
    Value<kSysrq>("sysrq"),
    Value<kZero>("tainted"),
    Sysctl<ReadThreadsMax>("threads-max"),
    Sysctl<ReadVersionText>("version"),
};

}  // namespace

constinit const Directory kSysctlKernelDirectory{.entries = kEntries, .cached = true};

}  // namespace caisson::procfs
