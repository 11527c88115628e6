// uname, sysinfo, limits, prctl, seccomp, scheduling and what has no better home.
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
  s.uptime = (time::BoottimeNow() - task.kernel().boot_time()) / 1'000'000'000;
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
    size_t copied = task.mm().CopyOutPartial(buffer + done, {chunk, n});
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
  if (value.hard > old.hard && !task.creds().HasCapability(Capability::kSysResource)) return Errno::kEPERM;
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

// --- Scheduling: kept and reported; the host schedules ---

namespace {
Result<RefPtr<Task>> TaskOf(Task& task, int32_t pid) {
  if (pid < 0) return Errno::kEINVAL;
  if (pid == 0) return RefPtr<Task>(&task);
  RefPtr<Task> target = task.kernel().FindTask(task.pid_namespace(), pid);
  if (!target) return Errno::kESRCH;
  return target;
}
constexpr int kSchedOther = 0, kSchedFifo = 1, kSchedRr = 2, kSchedBatch = 3, kSchedIdle = 5;
bool IsRealtimePolicy(int policy) { return policy == kSchedFifo || policy == kSchedRr; }
Result<void> CheckPolicy(Task& task, int policy, int priority) {
  if (policy != kSchedOther && policy != kSchedBatch && policy != kSchedIdle && !IsRealtimePolicy(policy))
    return Errno::kEINVAL;
  if (IsRealtimePolicy(policy) ? (priority < 1 || priority > 99) : priority != 0) return Errno::kEINVAL;
  if (IsRealtimePolicy(policy) && !task.creds().HasCapability(Capability::kSysNice) &&
      static_cast<uint64_t>(priority) > task.group().limits().soft(kernel::kRlimitRtprio))
    return Errno::kEPERM;
  return {};
}
}  // namespace

SyscallResult SchedYield(Task& task) {
  sched_yield();
  return 0;
}
SyscallResult SchedGetaffinity(Task& task, int32_t pid, uint32_t size, GuestAddr out) {
  if (size % 8 != 0) return Errno::kEINVAL;
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  const uint32_t cpus = task.kernel().config().cpu_count;
  uint64_t all = cpus >= 64 ? ~uint64_t{0} : (uint64_t{1} << cpus) - 1;
  uint64_t mask = target->cpu_affinity.load(std::memory_order_relaxed) & all;
  const uint32_t bytes = std::min<uint32_t>(size, 8);
  if (bytes < 8) return Errno::kEINVAL;
  TRY(task.CopyOutBytes(out, {reinterpret_cast<const char*>(&mask), bytes}));
  return bytes;
}
SyscallResult SchedSetaffinity(Task& task, int32_t pid, uint32_t size, GuestAddr in) {
  uint64_t mask = 0;
  TRY(task.CopyInBytes(in, absl::Span<char>(reinterpret_cast<char*>(&mask), std::min<uint32_t>(size, 8))));
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  const uint32_t cpus = task.kernel().config().cpu_count;
  uint64_t all = cpus >= 64 ? ~uint64_t{0} : (uint64_t{1} << cpus) - 1;
  if ((mask & all) == 0) return Errno::kEINVAL;
  target->cpu_affinity.store(mask & all, std::memory_order_relaxed);
  return 0;
}
SyscallResult SchedGetscheduler(Task& task, int32_t pid) { return TRY(TaskOf(task, pid))->sched_policy.load(); }
SyscallResult SchedSetscheduler(Task& task, int32_t pid, int32_t policy, GuestAddr param) {
  if (pid < 0 || param.is_null()) return Errno::kEINVAL;
  int32_t priority = TRY(task.Read<int32_t>(param));
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  constexpr int kResetOnFork = 0x40000000;
  TRY(CheckPolicy(task, policy & ~kResetOnFork, priority));
  target->sched_policy = policy & ~kResetOnFork;
  target->sched_priority = priority;
  return 0;
}
SyscallResult SchedGetparam(Task& task, int32_t pid, GuestAddr param) {
  if (param.is_null()) return Errno::kEINVAL;
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  TRY(task.Write(param, int32_t{target->sched_priority.load()}));
  return 0;
}
SyscallResult SchedSetparam(Task& task, int32_t pid, GuestAddr param) {
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  return SchedSetscheduler(task, pid, target->sched_policy.load(), param);
}
SyscallResult SchedGetPriorityMax(Task& task, int32_t policy) {
  if (IsRealtimePolicy(policy)) return 99;
  if (policy == kSchedOther || policy == kSchedBatch || policy == kSchedIdle) return 0;
  return Errno::kEINVAL;
}
SyscallResult SchedGetPriorityMin(Task& task, int32_t policy) {
  if (IsRealtimePolicy(policy)) return 1;
  if (policy == kSchedOther || policy == kSchedBatch || policy == kSchedIdle) return 0;
  return Errno::kEINVAL;
}
SyscallResult SchedRrGetInterval(Task& task, int32_t pid, GuestAddr out) {
  RefPtr<Task> target = TRY(TaskOf(task, pid));
  struct Spec { int64_t sec, nsec; };
  TRY(task.Write(out, Spec{0, target->sched_policy.load() == kSchedRr ? 100'000'000 : 4'000'000}));
  return 0;
}
SyscallResult Getcpu(Task& task, OutPtr<uint32_t> cpu, OutPtr<uint32_t> node, GuestAddr) {
  int now = sched_getcpu();
  if (!cpu.is_null())
    TRY(cpu.Write(task, now < 0 ? 0 : static_cast<uint32_t>(now) % task.kernel().config().cpu_count));
  if (!node.is_null()) TRY(node.Write(task, 0));
  return 0;
}

namespace {
// The tasks that setpriority(2) and ioprio_set(2) name.
Result<std::vector<RefPtr<Task>>> TasksOf(Task& task, int which, int who) {
  constexpr int kProcess = 0, kGroup = 1, kUser = 2;
  std::vector<RefPtr<Task>> out;
  if (which == kProcess) {
    out.push_back(TRY(TaskOf(task, who)));
    return out;
  }
  if (which != kGroup && which != kUser) return Errno::kEINVAL;
  RefPtr<kernel::Pid> pg = who == 0 ? nullptr : task.pid_namespace().Find(who);
  for (const auto& g : task.kernel().ThreadGroups()) {
    MutexLock lock(task.kernel().tasks_mu());
    for (const RefPtr<Task>& t : g->tasks) {
      bool match = which == kUser
                       ? t->creds_ref()->ruid == (who == 0 ? task.creds().ruid : static_cast<uint32_t>(who))
                       : (who == 0 ? g->process_group == task.group().process_group
                                   : pg && g->process_group && &g->process_group->id() == pg.get());
      if (match) out.push_back(t);
    }
  }
  if (out.empty()) return Errno::kESRCH;
  return out;
}
}  // namespace

SyscallResult Getpriority(Task& task, int32_t which, int32_t who) {
  auto tasks = TRY(TasksOf(task, which, who));
  int best = 20;
  for (const auto& t : tasks) best = std::min(best, t->nice.load());
  return 20 - best;
}
SyscallResult Setpriority(Task& task, int32_t which, int32_t who, int32_t nice) {
  nice = std::clamp(nice, -20, 19);
  auto tasks = TRY(TasksOf(task, which, who));
  for (const auto& t : tasks) {
    const auth::Credentials& me = task.creds();
    RefPtr<const auth::Credentials> c = t->creds_ref();
    const bool capable = me.HasCapability(Capability::kSysNice);
    if (me.euid != c->ruid && me.euid != c->euid && !capable) return Errno::kEPERM;
    if (nice < t->nice.load() && !capable &&
        static_cast<uint64_t>(20 - nice) > t->group().limits().soft(kernel::kRlimitNice))
      return Errno::kEACCES;
    t->nice = nice;
  }
  return 0;
}
SyscallResult IoprioGet(Task& task, int32_t which, int32_t who) {
  auto tasks = TRY(TasksOf(task, which - 1, who));
  return tasks.front()->io_priority.load();
}
SyscallResult IoprioSet(Task& task, int32_t which, int32_t who, int32_t priority) {
  const int io_class = priority >> 13;
  if (io_class < 0 || io_class > 3 || (priority & 0x1fff) > 7) return Errno::kEINVAL;
  if (io_class == 1 && !task.creds().HasCapability(Capability::kSysAdmin)) return Errno::kEPERM;
  auto tasks = TRY(TasksOf(task, which - 1, who));
  for (const auto& t : tasks) t->io_priority = priority;
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
  if (type != kReadAll && type != kSizeBuffer && !task.creds().HasCapability(Capability::kSyslog)) return Errno::kEPERM;
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

// --- seccomp ---

namespace {
constexpr uint32_t kFilterTsync = 1, kFilterLog = 2, kFilterSpecAllow = 4, kFilterNewListener = 8;

SyscallResult InstallFilter(Task& task, uint32_t flags, GuestAddr address) {
  if ((flags & ~(kFilterTsync | kFilterLog | kFilterSpecAllow | kFilterNewListener)) != 0) return Errno::kEINVAL;
  struct Fprog {
    uint16_t length;
    uint16_t pad[3];
    uint64_t filter;
  };
  Fprog prog = TRY(task.Read<Fprog>(address));
  if (prog.length == 0 || prog.length > bpf::kMaxInstructions) return Errno::kEINVAL;
  if (!task.no_new_privs.load() && !task.creds().HasCapability(Capability::kSysAdmin)) return Errno::kEACCES;
  std::vector<bpf::Instruction> program(prog.length);
  TRY(task.CopyInBytes(GuestAddr(prog.filter), absl::Span<char>(reinterpret_cast<char*>(program.data()),
                                                                program.size() * sizeof(bpf::Instruction))));
  if ((flags & kFilterNewListener) != 0) {
    task.kernel().NoteUnsupported("seccomp: SECCOMP_FILTER_FLAG_NEW_LISTENER");
    return Errno::kEINVAL;
  }
  if (task.seccomp_mode.load() == 1) return Errno::kEINVAL;
  auto filter = TRY(kernel::SeccompFilter::New(std::move(program), task.seccomp, (flags & kFilterLog) != 0));
  if ((flags & kFilterTsync) != 0) return task.SyncSeccomp(std::move(filter));
  task.seccomp = std::move(filter);
  task.seccomp_mode = 2;
  return 0;
}
}  // namespace

SyscallResult Seccomp(Task& task, uint32_t operation, Flags flags, GuestAddr args) {
  constexpr uint32_t kStrict = 0, kFilter = 1, kActionAvail = 2, kNotifSizes = 3;
  switch (operation) {
    case kStrict:
      if (flags.value != 0 || !args.is_null()) return Errno::kEINVAL;
      if (task.seccomp_mode.load() == 2) return Errno::kEINVAL;
      task.seccomp_mode = 1;
      return 0;
    case kFilter:
      return InstallFilter(task, flags.value, args);
    case kActionAvail: {
      if (flags.value != 0) return Errno::kEINVAL;
      uint32_t action = TRY(task.Read<uint32_t>(args));
      switch (action) {
        case bpf::kRetKillProcess: case bpf::kRetKillThread: case bpf::kRetTrap: case bpf::kRetErrno:
        case bpf::kRetTrace: case bpf::kRetLog: case bpf::kRetAllow:
          return 0;
        default:
          return Errno::kEOPNOTSUPP;
      }
    }
    case kNotifSizes:
      return Errno::kEINVAL;
    default:
      return Errno::kEINVAL;
  }
}

// --- prctl ---

namespace {

SyscallResult AmbientCap(Task& task, uint64_t op, uint64_t cap) {
  constexpr uint64_t kIsSet = 1, kRaise = 2, kLower = 3, kClearAll = 4;
  const auth::Credentials& c = task.creds();
  if (op == kClearAll) {
    if (cap != 0) return Errno::kEINVAL;
  } else if (cap > auth::kLastCapability) {
    return Errno::kEINVAL;
  }
  auth::CapSet bit = op == kClearAll ? 0 : auth::CapSet{1} << cap;
  if (op == kIsSet) return (c.ambient & bit) != 0;
  auto now = MakeRef<auth::Credentials>(c);
  switch (op) {
    case kClearAll: now->ambient = 0; break;
    case kRaise:
      if ((c.permitted & bit) == 0 || (c.inheritable & bit) == 0 || (c.securebits & auth::kSecNoCapAmbientRaise) != 0)
        return Errno::kEPERM;
      now->ambient |= bit;
      break;
    case kLower: now->ambient &= ~bit; break;
    default: return Errno::kEINVAL;
  }
  task.set_creds(RefPtr<const auth::Credentials>(now));
  return 0;
}

SyscallResult SetSecurebits(Task& task, uint64_t bits) {
  const auth::Credentials& c = task.creds();
  constexpr uint32_t kAll = 0xff, kLocks = 0xaa;
  const uint32_t locked = c.securebits & kLocks;
  if ((bits & ~uint64_t{kAll}) != 0 || (((locked >> 1) & (c.securebits ^ bits)) != 0) || (locked & ~bits) != 0 ||
      !task.creds().HasCapability(Capability::kSetpcap))
    return Errno::kEPERM;
  auto now = MakeRef<auth::Credentials>(c);
  now->securebits = static_cast<uint32_t>(bits);
  task.set_creds(RefPtr<const auth::Credentials>(now));
  return 0;
}

}  // namespace

SyscallResult Prctl(Task& task, int32_t option, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) {
  switch (option) {
    case 1:  // PR_SET_PDEATHSIG
      if (a2 > signal::kSignalCount) return Errno::kEINVAL;
      task.pdeath_signal = static_cast<int>(a2);
      return 0;
    case 2:  // PR_GET_PDEATHSIG
      TRY(task.Write(GuestAddr(a2), int32_t{task.pdeath_signal.load()}));
      return 0;
    case 3:  // PR_GET_DUMPABLE
      return task.mm().dumpable();
    case 4:  // PR_SET_DUMPABLE
      if (a2 > 1) return Errno::kEINVAL;
      task.mm().set_dumpable(static_cast<int>(a2));
      return 0;
    case 7:  // PR_GET_KEEPCAPS
      return (task.creds().securebits & auth::kSecKeepCaps) != 0;
    case 8: {  // PR_SET_KEEPCAPS
      if (a2 > 1) return Errno::kEINVAL;
      if ((task.creds().securebits & auth::kSecKeepCapsLocked) != 0) return Errno::kEPERM;
      auto now = MakeRef<auth::Credentials>(task.creds());
      now->securebits = (now->securebits & ~auth::kSecKeepCaps) | (a2 != 0 ? auth::kSecKeepCaps : 0);
      task.set_creds(RefPtr<const auth::Credentials>(now));
      return 0;
    }
    case 13:  // PR_GET_TIMING
      return 0;
    case 14:  // PR_SET_TIMING
      if (a2 != 0) return Errno::kEINVAL;
      return 0;
    case 15: {  // PR_SET_NAME
      char name[16] = {};
      Result<std::string> text = task.mm().CopyInString(GuestAddr(a2), 15);
      if (text.ok()) {
        task.set_comm(*text);
      } else {
        if (text.error() != Errno::kENAMETOOLONG) return text.error();
        TRY(task.CopyInBytes(GuestAddr(a2), absl::Span<char>(name, 15)));
        task.set_comm(absl::string_view(name, 15));
      }
      return 0;
    }
    case 16: {  // PR_GET_NAME
      char name[16] = {};
      std::string comm = task.comm();
      memcpy(name, comm.data(), std::min<size_t>(comm.size(), 15));
      TRY(task.CopyOutBytes(GuestAddr(a2), {name, sizeof(name)}));
      return 0;
    }
    case 21:  // PR_GET_SECCOMP
      return task.seccomp_mode.load();
    case 22:  // PR_SET_SECCOMP
      if (a2 == 1) return Seccomp(task, 0, Flags{0}, GuestAddr());
      if (a2 == 2) return InstallFilter(task, 0, GuestAddr(a3));
      return Errno::kEINVAL;
    case 23:  // PR_CAPBSET_READ
      if (a2 > auth::kLastCapability) return Errno::kEINVAL;
      return (task.creds().bounding >> a2) & 1;
    case 24: {  // PR_CAPBSET_DROP
      if (!task.creds().HasCapability(Capability::kSetpcap)) return Errno::kEPERM;
      if (a2 > auth::kLastCapability) return Errno::kEINVAL;
      auto now = MakeRef<auth::Credentials>(task.creds());
      now->bounding &= ~(auth::CapSet{1} << a2);
      task.set_creds(RefPtr<const auth::Credentials>(now));
      return 0;
    }
    case 25: case 26:  // PR_GET_TSC, PR_SET_TSC
      if (option == 25) {
        TRY(task.Write(GuestAddr(a2), int32_t{1}));
        return 0;
      }
      return a2 == 1 ? SyscallResult(0) : SyscallResult(Errno::kEINVAL);
    case 27:  // PR_GET_SECUREBITS
      return task.creds().securebits;
    case 28:
      return SetSecurebits(task, a2);
    case 29:  // PR_SET_TIMERSLACK
      task.timer_slack = a2 == 0 ? 50'000 : a2;
      return 0;
    case 30:
      return static_cast<int64_t>(task.timer_slack.load());
    case 36: {  // PR_SET_CHILD_SUBREAPER
      MutexLock lock(task.kernel().tasks_mu());
      task.group().is_subreaper = a2 != 0;
      return 0;
    }
    case 37: {
      int32_t on;
      {
        MutexLock lock(task.kernel().tasks_mu());
        on = task.group().is_subreaper;
      }
      TRY(task.Write(GuestAddr(a2), on));
      return 0;
    }
    case 38:  // PR_SET_NO_NEW_PRIVS
      if (a2 != 1 || a3 != 0 || a4 != 0 || a5 != 0) return Errno::kEINVAL;
      task.no_new_privs = true;
      return 0;
    case 39:
      if (a2 != 0 || a3 != 0 || a4 != 0 || a5 != 0) return Errno::kEINVAL;
      return task.no_new_privs.load() ? 1 : 0;
    case 40:  // PR_GET_TID_ADDRESS
      TRY(task.Write(GuestAddr(a2), task.clear_child_tid.value));
      return 0;
    case 41:  // PR_SET_THP_DISABLE
    case 42:
      return option == 42 ? 0 : (a3 != 0 || a4 != 0 || a5 != 0 ? SyscallResult(Errno::kEINVAL) : SyscallResult(0));
    case 47:  // PR_CAP_AMBIENT
      if (a4 != 0 || a5 != 0) return Errno::kEINVAL;
      return AmbientCap(task, a2, a3);
    case 0x53564d41:  // PR_SET_VMA: anonymous names, refused as CONFIG_ANON_VMA_NAME=n.
      return Errno::kEINVAL;
    case 0x59616d61:  // PR_SET_PTRACER: as with Yama absent.
      return Errno::kEINVAL;
    default:
      task.kernel().NoteUnsupported(absl::StrCat("prctl: option ", option));
      return Errno::kEINVAL;
  }
}

SyscallResult ArchPrctl(Task& task, int32_t code, uint64_t address) {
  constexpr int kSetGs = 0x1001, kSetFs = 0x1002, kGetFs = 0x1003, kGetGs = 0x1004;
  switch (code) {
    case kSetFs:
    case kSetGs:
      if (address >> 47 != 0) return Errno::kEPERM;
      (code == kSetFs ? task.regs().fs_base : task.regs().gs_base) = address;
      return 0;
    case kGetFs:
    case kGetGs:
      TRY(task.Write(GuestAddr(address), code == kGetFs ? task.regs().fs_base : task.regs().gs_base));
      return 0;
    default:
      return Errno::kEINVAL;
  }
}

}  // namespace caisson::syscalls
