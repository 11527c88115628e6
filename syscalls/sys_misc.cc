// uname, sysinfo, limits, randomness and what has no better home.
#include <sys/random.h>
#include <sys/sysinfo.h>

#include <algorithm>

#include "sentry/kernel/container.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/version.h"
#include "syscalls/handlers.h"
#include "vfs/operations.h"

namespace caisson::syscalls {

using auth::Capability;

Result<void> CheckZeroTail(Task& task, GuestAddr address, uint64_t known, uint64_t size) {
  for (uint64_t at = known; at < size;) {
    char buffer[256];
    size_t n = std::min<uint64_t>(size - at, sizeof(buffer));
    TRY(task.CopyInBytes(address + at, absl::Span<char>(buffer, n)));
    for (size_t i = 0; i < n; ++i)
      if (buffer[i] != 0) return Errno::kE2BIG;
    at += n;
  }
  return {};
}

SyscallResult Uname(Task& task, GuestAddr out) {
  struct Utsname {
    char sysname[65], nodename[65], release[65], version[65], machine[65], domainname[65];
  } u{};
  auto put = [](char(&to)[65], absl::string_view from) { memcpy(to, from.data(), std::min<size_t>(from.size(), 64)); };
  const kernel::UtsNamespace& uts = *task.namespaces().uts;
  put(u.sysname, "Linux");
  put(u.nodename, uts.host_name());
  put(u.release, kernel::kKernelRelease);
  put(u.version, kernel::kKernelVersion);
  put(u.machine, "x86_64");
  put(u.domainname, uts.domain_name());
  TRY(task.Write(out, u));
  return 0;
}

static SyscallResult SetName(Task& task, GuestAddr name, int32_t length, bool host) {
  constexpr int32_t kMax = 64;
  if (!task.creds().HasCapability(Capability::kSysAdmin, task.namespaces().uts->user_ns())) return Errno::kEPERM;
  if (length < 0 || length > kMax) return Errno::kEINVAL;
  std::string text(static_cast<size_t>(length), '\0');
  if (length != 0) TRY(task.CopyInBytes(name, absl::Span<char>(text.data(), text.size())));
  text = text.substr(0, text.find('\0'));
  if (host) task.namespaces().uts->set_host_name(std::move(text));
  else task.namespaces().uts->set_domain_name(std::move(text));
  return 0;
}
SyscallResult Sethostname(Task& task, GuestAddr name, int32_t length) { return SetName(task, name, length, true); }
SyscallResult Setdomainname(Task& task, GuestAddr name, int32_t length) { return SetName(task, name, length, false); }

SyscallResult Sysinfo(Task& task, GuestAddr out) {
  struct Layout {
    int64_t uptime;
    uint64_t loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
    uint16_t procs, pad;
    uint64_t totalhigh, freehigh;
    uint32_t mem_unit;
    char tail[4];
  } s{};
  static_assert(sizeof(Layout) == 112);
  auto memory = task.kernel().GetMemoryInfo(task.container());
  s.uptime = (time::BoottimeNow() - task.kernel().boot_time() +
              task.namespaces().time->offsets().boottime) / 1'000'000'000;
  constexpr double kLoadScale = 1 << 16;  // SI_LOAD_SHIFT.
  const std::array<double, 3> loads = task.kernel().GetLoadAverages();
  for (size_t i = 0; i < loads.size(); ++i) s.loads[i] = static_cast<uint64_t>(loads[i] * kLoadScale);
  s.totalram = memory.total;
  s.freeram = memory.free;
  s.sharedram = memory.shared;
  s.procs = static_cast<uint16_t>(std::min<uint64_t>(task.kernel().task_count(), 65535));
  s.mem_unit = 1;
  TRY(task.Write(out, s));
  return 0;
}

SyscallResult Getrandom(Task& task, GuestAddr buffer, uint64_t length, Flags flags) {
  constexpr uint32_t kKnown = 7;
  if ((flags.value & ~kKnown) != 0 || (flags.value & 6) == 6) return Errno::kEINVAL;
  length = std::min<uint64_t>(length, INT32_MAX);
  char chunk[4096];
  uint64_t done = 0;
  while (done < length) {
    size_t n = std::min<uint64_t>(length - done, sizeof(chunk));
    if (::getrandom(chunk, n, 0) != static_cast<ssize_t>(n)) return Errno::kEIO;
    size_t copied = task.memory().CopyOutPartial(buffer + done, {chunk, n});
    done += copied;
    if (copied < n) break;
    if (done < length && task.HasInterrupt()) break;
  }
  if (done == 0 && length != 0) return Errno::kEFAULT;
  return static_cast<int64_t>(done);
}

// --- Limits ---

namespace {

Result<void> SetLimit(Task& task, kernel::ThreadGroup& target, int resource, kernel::Rlimit value) {
  if (value.soft > value.hard) return Errno::kEINVAL;
  constexpr uint64_t kNrOpen = 1048576;
  if (resource == kernel::kRlimitNofile && value.hard > kNrOpen) return Errno::kEPERM;
  kernel::Rlimit old = target.limits().Get(resource);
  if (value.hard > old.hard && !task.creds().HasRootCapability(Capability::kSysResource)) return Errno::kEPERM;
  target.limits().Set(resource, value);
  if (resource == kernel::kRlimitCpu) target.timers().WatchCpuLimit();
  return {};
}

}  // namespace

SyscallResult Prlimit64(Task& task, int32_t pid, int32_t resource, GuestAddr new_limit, GuestAddr old_limit) {
  if (resource < 0 || resource >= kernel::kRlimitCount) return Errno::kEINVAL;
  RefPtr<kernel::ThreadGroup> target = task.group_ref();
  if (pid != 0) {
    RefPtr<Task> t = task.kernel().FindTask(task.pid_namespace(), pid);
    if (!t) return Errno::kESRCH;
    if (&t->group() != &task.group()) {
      RefPtr<const auth::Credentials> c = t->creds_ref();
      const auth::Credentials& me = task.creds();
      const bool same = me.ruid == c->euid && me.ruid == c->suid && me.ruid == c->ruid && me.rgid == c->egid &&
                        me.rgid == c->sgid && me.rgid == c->rgid;
      if (!same && !me.HasCapability(Capability::kSysResource, *c->user_ns)) return Errno::kEPERM;
    }
    target = t->group_ref();
  }
  kernel::Rlimit value;
  if (!new_limit.is_null()) value = TRY(task.Read<kernel::Rlimit>(new_limit));
  kernel::Rlimit old = target->limits().Get(resource);
  if (!new_limit.is_null()) TRY(SetLimit(task, *target, resource, value));
  if (!old_limit.is_null()) TRY(task.Write(old_limit, old));
  return 0;
}
SyscallResult Getrlimit(Task& task, int32_t resource, GuestAddr out) {
  if (resource < 0 || resource >= kernel::kRlimitCount) return Errno::kEINVAL;
  TRY(task.Write(out, task.group().limits().Get(resource)));
  return 0;
}
SyscallResult Setrlimit(Task& task, int32_t resource, GuestAddr in) {
  kernel::Rlimit value = TRY(task.Read<kernel::Rlimit>(in));
  if (resource < 0 || resource >= kernel::kRlimitCount) return Errno::kEINVAL;
  TRY(SetLimit(task, task.group(), resource, value));
  return 0;
}

SyscallResult Personality(Task& task, uint32_t persona) {
  uint32_t old = task.personality.load();
  if (persona != 0xffffffff) task.personality = persona;
  return old;
}
SyscallResult Umask(Task& task, Mode mask) { return task.fs().set_umask(mask.value); }

SyscallResult Syslog(Task& task, int32_t type, GuestAddr buffer, int32_t length) {
  const std::string log = task.kernel().KernelLog();
  constexpr int kReadAll = 3, kReadClear = 4, kSizeUnread = 9, kSizeBuffer = 10;
  if (type < 0 || type > kSizeBuffer) return Errno::kEINVAL;
  if (type != kReadAll && type != kSizeBuffer && !task.creds().HasRootCapability(Capability::kSyslog)) return Errno::kEPERM;
  switch (type) {
    case kReadAll:
    case kReadClear: {
      if (buffer.is_null() || length < 0) return Errno::kEINVAL;
      size_t n = std::min<size_t>(log.size(), static_cast<size_t>(length));
      TRY(task.CopyOutBytes(buffer, {log.data() + (log.size() - n), n}));
      return static_cast<int64_t>(n);
    }
    case kSizeUnread:
      return 0;
    case kSizeBuffer:
      return static_cast<int64_t>(log.size());
    default:
      return 0;
  }
}

}  // namespace caisson::syscalls
