// Small files of /proc/PID (Linux fs/proc/base.c).
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "sentry/kernel/container.h"
#include "sentry/procfs/task_files.h"

namespace caisson::procfs {
namespace {

constexpr int kOomAdjMax = 1000, kOomScaleOld = 15, kOomDisableOld = -17;

// The sandbox's own number of a number that a guest wrote, all of it: strict as kstrtoint().
Result<int> ParseInt(absl::string_view data) {
  const int64_t value = TRY(ParseNumber(data));
  if (value < INT32_MIN || value > INT32_MAX) return Errno::kEINVAL;
  return static_cast<int>(value);
}

// __set_oom_adj(): lower than what a privileged task has set takes CAP_SYS_RESOURCE.
Result<void> SetOomScoreAdj(CallContext& ctx, TaskObject& o, int value) {
  RefPtr<Task> task = TRY(o.Get());
  kernel::ThreadGroup& g = task->group();
  const bool privileged = ctx.creds().HasRootCapability(auth::Capability::kSysResource);
  if (value < g.oom_score_adj_min.load(std::memory_order_relaxed) && !privileged)
    return Errno::kEACCES;
  g.oom_score_adj.store(value, std::memory_order_relaxed);
  if (privileged) g.oom_score_adj_min.store(value, std::memory_order_relaxed);
  return {};
}

}  // namespace

Result<std::string> ReadComm(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  return absl::StrCat(Escape(task->comm(), "\n\\"), "\n");
}

// comm_write(): only by a thread of the same group; up to the first NUL, else cut.
Result<void> WriteComm(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t) {
  RefPtr<Task> task = TRY(o.Get());
  Task* caller = CallerOf(ctx);
  if (caller == nullptr || &caller->group() != &task->group()) return Errno::kEINVAL;
  absl::string_view name = data.substr(0, 15);
  name = name.substr(0, name.find('\0'));
  task->set_comm(name);
  return {};
}

// There is one cgroup hierarchy, version 2, and the container's namespace starts at its own group.
Result<std::string> ReadCgroup(CallContext&, TaskObject& o) {
  TRY(o.Get());
  return std::string("0::/\n");
}

Result<std::string> ReadCpuset(CallContext&, TaskObject& o) {
  TRY(o.Get());
  return std::string("/\n");
}

Result<std::string> ReadChildren(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  std::string out;
  MutexLock lock(o.kernel().tasks_mu());
  // Children belong to the group here; they are shown as those of its leader.
  if (task->group().leader != task.get()) return out;
  for (const RefPtr<kernel::ThreadGroup>& child : task->group().children)
    if (int32_t pid = child->pid().NumberIn(o.pid_ns()); pid != 0) absl::StrAppend(&out, pid, " ");
  return out;
}

// Referenced and soft-dirty bits are nowhere shown, so that there is nothing to clear; the peak of
// resident memory (5) is the host's and stays.
Result<void> WriteClearRefs(CallContext&, TaskObject& o, absl::string_view data, uint64_t) {
  const int64_t what = TRY(ParseNumber(data));
  if (what < 1 || what > 4) return Errno::kEINVAL;
  TRY(o.Get());
  return {};
}

Result<std::string> ReadCoredumpFilter(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  if (!task->mm_ref()) return std::string();
  std::string out;
  Append(&out, "%08x\n", task->group().coredump_filter.load(std::memory_order_relaxed));
  return out;
}

Result<void> WriteCoredumpFilter(CallContext&, TaskObject& o, absl::string_view data, uint64_t) {
  data = absl::StripAsciiWhitespace(data);
  uint64_t value = 0;
  const bool hex = data.size() > 2 && data[0] == '0' && (data[1] | 0x20) == 'x';
  if (hex ? !absl::SimpleHexAtoi(data, &value) : !absl::SimpleAtoi(data, &value))
    return Errno::kEINVAL;
  constexpr uint64_t kMask = 0x1ff;
  RefPtr<Task> task = TRY(o.Get());
  task->group().coredump_filter.store(static_cast<uint32_t>(value & kMask),
                                      std::memory_order_relaxed);
  return {};
}

// Linux differs: bytes are not counted.
Result<std::string> ReadIo(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  TRY(MayInspect(ctx, *task));
  return std::string(
      "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\n"
      "cancelled_write_bytes: 0\n");
}

Result<std::string> ReadLimits(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  static constexpr struct {
    const char* name;
    const char* unit;
  } kRows[] = {{"Max cpu time", "seconds"},       {"Max file size", "bytes"},
               {"Max data size", "bytes"},        {"Max stack size", "bytes"},
               {"Max core file size", "bytes"},   {"Max resident set", "bytes"},
               {"Max processes", "processes"},    {"Max open files", "files"},
               {"Max locked memory", "bytes"},    {"Max address space", "bytes"},
               {"Max file locks", "locks"},       {"Max pending signals", "signals"},
               {"Max msgqueue size", "bytes"},    {"Max nice priority", nullptr},
               {"Max realtime priority", nullptr}, {"Max realtime timeout", "us"}};
  static_assert(std::size(kRows) == kernel::kRlimitCount);
  std::string out =
      "Limit                     Soft Limit           Hard Limit           Units     \n";
  const auto limits = task->group().limits().Snapshot();
  auto text = [](uint64_t v) {
    return v == kernel::kRlimInfinity ? std::string("unlimited") : absl::StrCat(v);
  };
  for (size_t i = 0; i < std::size(kRows); ++i) {
    Append(&out, "%-25s %-20s %-20s ", kRows[i].name, text(limits[i].soft).c_str(),
           text(limits[i].hard).c_str());
    if (kRows[i].unit != nullptr) Append(&out, "%-10s\n", kRows[i].unit);
    else out += '\n';
  }
  return out;
}

Result<std::string> ReadLoginuid(CallContext& ctx, TaskObject& o, const auth::Credentials& opener) {
  RefPtr<Task> task = TRY(o.Get());
  const uint32_t uid = task->group().login_uid.load(std::memory_order_relaxed);
  return absl::StrCat(opener.user_ns->FromKernel(auth::IdKind::kUid, uid).value_or(~0u));
}

// proc_loginuid_write(), audit_set_loginuid(): once by anyone who has CAP_AUDIT_CONTROL.
Result<void> WriteLoginuid(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t offset,
                           const auth::Credentials& opener) {
  RefPtr<Task> task = TRY(o.Get());
  if (task.get() != CallerOf(ctx)) return Errno::kEPERM;
  if (offset != 0) return Errno::kEINVAL;
  const int64_t value = TRY(ParseNumber(data));
  if (value < 0 || value > UINT32_MAX) return Errno::kEINVAL;
  std::optional<uint32_t> uid = ~0u;
  if (value != UINT32_MAX) uid = opener.user_ns->ToKernelUid(static_cast<uint32_t>(value));
  if (!uid) return Errno::kEINVAL;
  if (task->group().login_uid.load(std::memory_order_relaxed) != ~0u &&
      !ctx.creds().HasRootCapability(auth::Capability::kAuditControl))
    return Errno::kEPERM;
  task->group().login_uid.store(*uid, std::memory_order_relaxed);
  return {};
}

Result<std::string> ReadSessionid(CallContext&, TaskObject& o) {
  TRY(o.Get());
  return std::string("4294967295");
}

Result<std::string> ReadOomAdj(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  const int adj = task->group().oom_score_adj.load(std::memory_order_relaxed);
  return absl::StrCat(
      adj == kOomAdjMax ? kOomScaleOld : std::min(adj * -kOomDisableOld / kOomAdjMax, kOomScaleOld),
      "\n");
}

Result<void> WriteOomAdj(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t) {
  const int adj = TRY(ParseInt(data));
  if ((adj < -16 || adj > kOomScaleOld) && adj != kOomDisableOld) return Errno::kEINVAL;
  return SetOomScoreAdj(ctx, o, adj == kOomScaleOld ? kOomAdjMax : adj * kOomAdjMax / -kOomDisableOld);
}

// proc_oom_score(), oom_badness().
Result<std::string> ReadOomScore(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  const auto total =
      static_cast<int64_t>(o.kernel().GetMemoryInfo(task->container()).total / kPageSize);
  const int adj = task->group().oom_score_adj.load(std::memory_order_relaxed);
  RefPtr<mm::MemoryManager> mm = task->mm_ref();
  int64_t points = 0;
  if (mm && adj != -kOomAdjMax && total > 0) {
    const auto pages =
        static_cast<int64_t>(mm->address_space().GetUsage().resident / kPageSize);
    const int64_t badness = pages + int64_t{adj} * total / kOomAdjMax;
    points = std::max<int64_t>((1000 + badness * 1000 / total) * 2 / 3, 0);
  }
  return absl::StrCat(points, "\n");
}

Result<std::string> ReadOomScoreAdj(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  return absl::StrCat(task->group().oom_score_adj.load(std::memory_order_relaxed), "\n");
}

Result<void> WriteOomScoreAdj(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t) {
  const int adj = TRY(ParseInt(data));
  if (adj < -kOomAdjMax || adj > kOomAdjMax) return Errno::kEINVAL;
  return SetOomScoreAdj(ctx, o, adj);
}

Result<std::string> ReadPersonality(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  TRY(MayInspect(ctx, *task));
  std::string out;
  Append(&out, "%08x\n", task->personality.load(std::memory_order_relaxed));
  return out;
}

Result<std::string> ReadSched(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  const kernel::CpuTimes cpu = task->GetCpuTimes();
  const uint64_t ns = cpu.user_ns + cpu.system_ns;
  int threads = 0;
  {
    MutexLock lock(o.kernel().tasks_mu());
    threads = task->group().live_tasks;
  }
  std::string out = absl::StrCat(task->comm(), " (", task->TidIn(o.pid_ns()), ", #threads: ",
                                 std::max(threads, 1), ")\n", std::string(67, '-'), "\n");
  Append(&out, "%-45s:%14llu.%06llu\n", "se.sum_exec_runtime",
         static_cast<unsigned long long>(ns / 1'000'000),
         static_cast<unsigned long long>(ns % 1'000'000));
  const int policy = task->sched_policy.load(std::memory_order_relaxed) & ~0x40000000;
  Append(&out, "%-45s:%21d\n", "policy", policy);
  Append(&out, "%-45s:%21d\n", "prio", 120 + task->nice.load(std::memory_order_relaxed));
  return out;
}

// Only the own thread's registers hold still.
Result<std::string> ReadSyscall(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  TRY(MayInspect(ctx, *task));
  if (task.get() != CallerOf(ctx)) return std::string("running\n");
  const platform::Registers& r = task->full_regs();
  std::string out = absl::StrCat(task->current_syscall());
  auto hex = [&](uint64_t v) { Append(&out, " 0x%llx", static_cast<unsigned long long>(v)); };
  for (int i = 0; i < 6; ++i) hex(r.arg(i));
  hex(r.rsp);
  hex(r.rip);
  out += '\n';
  return out;
}

// timerslack_ns_show(): others' takes CAP_SYS_NICE.
Result<std::string> ReadTimerslack(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  if (task.get() != CallerOf(ctx) && !ctx.creds().HasRootCapability(auth::Capability::kSysNice))
    return Errno::kEPERM;
  return absl::StrCat(task->timer_slack.load(std::memory_order_relaxed), "\n");
}

Result<void> WriteTimerslack(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t) {
  const int64_t value = TRY(ParseNumber(data));
  if (value < 0) return Errno::kEINVAL;
  RefPtr<Task> task = TRY(o.Get());
  if (task.get() != CallerOf(ctx) && !ctx.creds().HasRootCapability(auth::Capability::kSysNice))
    return Errno::kEPERM;
  constexpr uint64_t kDefault = 50'000;
  task->timer_slack.store(value == 0 ? kDefault : static_cast<uint64_t>(value),
                          std::memory_order_relaxed);
  return {};
}

Result<std::string> ReadWchan(CallContext&, TaskObject& o) {
  TRY(o.Get());
  return std::string("0");
}

}  // namespace caisson::procfs
