// The cgroup file system as a container sees it: one hierarchy of version 2, whose root is the
// container's own group, with the limits that hold for it (Linux Documentation/admin-guide/cgroup-v2).
// It can be read only: limits come from outside.
#include "absl/strings/str_cat.h"
#include "sentry/kernel/container.h"
#include "sentry/procfs/root_files.h"

namespace caisson::procfs {
namespace {

constexpr char kZero[] = "0\n";
constexpr char kMax[] = "max\n";
constexpr char kEmptyText[] = "";
constexpr char kControllers[] = "cpuset cpu memory pids\n";
constexpr char kDomain[] = "domain\n";
constexpr char kEvents[] = "populated 1\nfrozen 0\n";
constexpr char kGroupStat[] = "nr_descendants 0\nnr_dying_descendants 0\n";
constexpr char kWeight[] = "100\n";
constexpr char kMemoryEvents[] = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";
constexpr char kMemoryEventsSwap[] = "high 0\nmax 0\nfail 0\n";
constexpr char kPidsEvents[] = "max 0\n";
constexpr char kMember[] = "member\n";

std::string Limit(uint64_t value) { return value == 0 ? "max\n" : absl::StrCat(value, "\n"); }

Result<RefPtr<kernel::Container>> Group(CallContext& ctx, KernelObject& o) {
  RefPtr<kernel::Container> container = ContainerOf(ctx, o.kernel());
  if (!container) return Errno::kENODEV;
  return container;
}

Kernel::MemoryInfo Memory(KernelObject& o, const kernel::Container& container) {
  return o.kernel().GetMemoryInfo(container);
}

Result<std::string> ReadMemoryMax(CallContext& ctx, KernelObject& o) {
  RefPtr<kernel::Container> container = TRY(Group(ctx, o));
  return Limit(container->memory_limit());
}
Result<std::string> ReadMemoryCurrent(CallContext& ctx, KernelObject& o) {
  RefPtr<kernel::Container> container = TRY(Group(ctx, o));
  return absl::StrCat(Memory(o, *container).used, "\n");
}
Result<std::string> ReadMemoryStat(CallContext& ctx, KernelObject& o) {
  RefPtr<kernel::Container> container = TRY(Group(ctx, o));
  const Kernel::MemoryInfo m = Memory(o, *container);
  const uint64_t anon = m.used - std::min(m.shared, m.used);
  return absl::StrCat("anon ", anon, "\nfile ", m.shared, "\nkernel 0\nkernel_stack 0\npagetables 0\nsock 0\nshmem ",
                      m.shared, "\nfile_mapped ", m.shared, "\nfile_dirty 0\nfile_writeback 0\ninactive_anon 0\n"
                      "active_anon ", anon, "\ninactive_file 0\nactive_file 0\nunevictable 0\nslab 0\npgfault 0\n"
                      "pgmajfault 0\n");
}
Result<std::string> ReadPidsMax(CallContext& ctx, KernelObject& o) {
  RefPtr<kernel::Container> container = TRY(Group(ctx, o));
  return Limit(container->pids_limit());
}
Result<std::string> ReadPidsCurrent(CallContext& ctx, KernelObject& o) {
  RefPtr<kernel::Container> container = TRY(Group(ctx, o));
  return absl::StrCat(container->task_count(), "\n");
}
// "$MAX $PERIOD" in microseconds.
Result<std::string> ReadCpuMax(CallContext& ctx, KernelObject& o) {
  RefPtr<kernel::Container> container = TRY(Group(ctx, o));
  constexpr uint64_t kPeriod = 100'000;
  const double cpus = container->cpu_limit();
  if (!(cpus > 0)) return absl::StrCat("max ", kPeriod, "\n");
  return absl::StrCat(static_cast<uint64_t>(cpus * static_cast<double>(kPeriod) + 0.5), " ", kPeriod, "\n");
}
Result<std::string> ReadCpuStat(CallContext&, KernelObject& o) {
  const kernel::CpuTimes cpu = o.kernel().TotalCpu();
  return absl::StrCat("usage_usec ", (cpu.user_ns + cpu.system_ns) / 1000, "\nuser_usec ", cpu.user_ns / 1000,
                      "\nsystem_usec ", cpu.system_ns / 1000,
                      "\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n");
}
Result<std::string> ReadCpus(CallContext&, KernelObject& o) {
  return CpuList(OnlineCpus(o.kernel())) + "\n";
}

// Ids as the reader's pid namespace has them; whom it cannot see is left out.
Result<std::string> List(CallContext& ctx, KernelObject& o, bool threads) {
  Task* caller = CallerOf(ctx);
  const PidNamespace& ns = caller != nullptr ? caller->pid_namespace() : o.pid_ns();
  const std::vector<RefPtr<kernel::ThreadGroup>> groups = o.kernel().ThreadGroups();
  std::string out;
  MutexLock lock(o.kernel().tasks_mu());
  for (const RefPtr<kernel::ThreadGroup>& g : groups) {
    if (g->zombie) continue;
    if (!threads) {
      if (int32_t pid = g->pid().NumberIn(ns); pid != 0) absl::StrAppend(&out, pid, "\n");
      continue;
    }
    for (const RefPtr<Task>& t : g->tasks)
      if (int32_t tid = t->TidIn(ns); tid != 0) absl::StrAppend(&out, tid, "\n");
  }
  return out;
}
Result<std::string> ReadProcs(CallContext& ctx, KernelObject& o) { return List(ctx, o, false); }
Result<std::string> ReadThreads(CallContext& ctx, KernelObject& o) { return List(ctx, o, true); }

// kernfs_fop_open(): a file without a writer is not opened for writing, whoever asks.
Result<void> ReadOnly(CallContext&, KernelObject&, const vfs::Attributes&, vfs::AccessMask access) {
  if ((access & vfs::kMayWrite) != 0) return Errno::kEACCES;
  return {};
}
template <auto Read>
constexpr Entry Row(absl::string_view name) {
  Entry e = File<Read>(name);
  e.permission = Adapt<ReadOnly>::Call;
  return e;
}

constexpr Entry kEntries[] = {
    Row<Constant<kControllers>>("cgroup.controllers"),
    Row<Constant<kEvents>>("cgroup.events"),
    Row<Constant<kZero>>("cgroup.freeze"),
    Row<Constant<kMax>>("cgroup.max.depth"),
    Row<Constant<kMax>>("cgroup.max.descendants"),
    Row<ReadProcs>("cgroup.procs"),
    Row<Constant<kGroupStat>>("cgroup.stat"),
    Row<Constant<kEmptyText>>("cgroup.subtree_control"),
    Row<ReadThreads>("cgroup.threads"),
    Row<Constant<kDomain>>("cgroup.type"),
    Row<Constant<kZero>>("cpu.idle"),
    Row<ReadCpuMax>("cpu.max"),
    Row<Constant<kZero>>("cpu.max.burst"),
    Row<ReadCpuStat>("cpu.stat"),
    Row<Constant<kWeight>>("cpu.weight"),
    Row<Constant<kZero>>("cpu.weight.nice"),
    Row<ReadCpus>("cpuset.cpus"),
    Row<ReadCpus>("cpuset.cpus.effective"),
    Row<Constant<kMember>>("cpuset.cpus.partition"),
    Row<Constant<kZero>>("cpuset.mems"),
    Row<Constant<kZero>>("cpuset.mems.effective"),
    Row<ReadMemoryCurrent>("memory.current"),
    Row<Constant<kMemoryEvents>>("memory.events"),
    Row<Constant<kMemoryEvents>>("memory.events.local"),
    Row<Constant<kMax>>("memory.high"),
    Row<Constant<kZero>>("memory.low"),
    Row<ReadMemoryMax>("memory.max"),
    Row<Constant<kZero>>("memory.min"),
    Row<Constant<kZero>>("memory.oom.group"),
    Row<ReadMemoryStat>("memory.stat"),
    Row<Constant<kZero>>("memory.swap.current"),
    Row<Constant<kMemoryEventsSwap>>("memory.swap.events"),
    Row<Constant<kZero>>("memory.swap.max"),
    Row<ReadPidsCurrent>("pids.current"),
    Row<Constant<kPidsEvents>>("pids.events"),
    Row<ReadPidsMax>("pids.max"),
};
constexpr Directory kRootDirectory{.entries = kEntries, .cached = true};

}  // namespace

constinit const Entry kCgroupRoot = Dir("", kRootDirectory);

}  // namespace caisson::procfs
