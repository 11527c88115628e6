// Files of /proc that count: memory, CPU time, load.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "sentry/kernel/container.h"
#include "sentry/procfs/root_files.h"

namespace caisson::procfs {
namespace {

constexpr uint64_t kTick = 10'000'000;  // USER_HZ is 100.

// As the reader's time namespace shows it.
uint64_t UptimeNs(CallContext& ctx, Kernel& kernel) {
  int64_t offset = 0;
  if (Task* task = CallerOf(ctx); task != nullptr && task->namespaces_ref())
    offset = task->namespaces_ref()->time->offsets().boottime;
  return static_cast<uint64_t>(std::max<int64_t>(0, time::BoottimeNow() - kernel.boot_time() + offset));
}

Kernel::MemoryInfo MemoryOf(CallContext& ctx, Kernel& kernel) {
  RefPtr<kernel::Container> container = ContainerOf(ctx, kernel);
  if (container) return kernel.GetMemoryInfo(*container);
  Kernel::MemoryInfo info;
  info.total = info.free = info.available = kernel.config().total_memory;
  return info;
}

struct TaskCounts {
  uint64_t running = 0, total = 0;
};

TaskCounts CountTasks(Kernel& kernel) {
  TaskCounts counts;
  const std::vector<RefPtr<kernel::ThreadGroup>> groups = kernel.ThreadGroups();
  MutexLock lock(kernel.tasks_mu());
  for (const RefPtr<kernel::ThreadGroup>& g : groups)
    for (const RefPtr<Task>& t : g->tasks) {
      ++counts.total;
      counts.running += t->StateCode() == 'R';
    }
  return counts;
}

}  // namespace

Result<std::string> ReadLoadavg(CallContext&, KernelObject& o) {
  const std::array<double, 3> load = o.kernel().GetLoadAverages();
  const TaskCounts counts = CountTasks(o.kernel());
  std::string out;
  Append(&out, "%.2f %.2f %.2f %llu/%llu %d\n", load[0], load[1], load[2],
         static_cast<unsigned long long>(counts.running),
         static_cast<unsigned long long>(counts.total), o.pid_ns().last());
  return out;
}

Result<std::string> ReadUptime(CallContext& ctx, KernelObject& o) {
  const uint64_t up = UptimeNs(ctx, o.kernel());
  const kernel::CpuTimes cpu = o.kernel().TotalCpu();
  const uint64_t all = up * CpuCount(o.kernel());
  const uint64_t idle = all - std::min(all, cpu.user_ns + cpu.system_ns);
  std::string out;
  auto part = [&](uint64_t ns, char end) {
    Append(&out, "%llu.%02llu%c", static_cast<unsigned long long>(ns / 1'000'000'000),
           static_cast<unsigned long long>(ns / kTick % 100), end);
  };
  part(up, ' ');
  part(idle, '\n');
  return out;
}

// Time is not accounted to CPUs: each has its share.
Result<std::string> ReadKernelStat(CallContext& ctx, KernelObject& o) {
  Kernel& kernel = o.kernel();
  const uint32_t cpus = CpuCount(kernel);
  const kernel::CpuTimes cpu = kernel.TotalCpu();
  const uint64_t all = UptimeNs(ctx, kernel) * cpus;
  const uint64_t idle = all - std::min(all, cpu.user_ns + cpu.system_ns);
  std::string out;
  auto line = [&](absl::string_view name, uint64_t share) {
    absl::StrAppend(&out, name, " ", cpu.user_ns / kTick / share, " 0 ",
                    cpu.system_ns / kTick / share, " ", idle / kTick / share, " 0 0 0 0 0 0\n");
  };
  line("cpu ", 1);
  for (uint32_t i = 0; i < cpus; ++i) line(absl::StrCat("cpu", i), cpus);
  const TaskCounts counts = CountTasks(kernel);
  absl::StrAppend(&out, "intr 0\nctxt 0\nbtime ", kernel.boot_realtime() / 1'000'000'000,
                  "\nprocesses ", kernel.total_forks() + 1, "\nprocs_running ", counts.running,
                  "\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n");
  return out;
}

Result<std::string> ReadMeminfo(CallContext& ctx, KernelObject& o) {
  const Kernel::MemoryInfo m = MemoryOf(ctx, o.kernel());
  const uint64_t anonymous = m.used > m.shared ? m.used - m.shared : 0;
  std::string out;
  auto kb = [&out](const char* name, uint64_t bytes) {
    Append(&out, "%-16s%8llu kB\n", name, static_cast<unsigned long long>(bytes >> 10));
  };
  kb("MemTotal:", m.total);
  kb("MemFree:", m.free);
  kb("MemAvailable:", m.available);
  kb("Buffers:", 0);
  kb("Cached:", m.cached + m.shared);
  kb("SwapCached:", 0);
  kb("Active:", anonymous);
  kb("Inactive:", m.cached + m.shared);
  kb("Active(anon):", anonymous);
  kb("Inactive(anon):", m.shared);
  kb("Active(file):", 0);
  kb("Inactive(file):", m.cached);
  kb("Unevictable:", 0);
  kb("Mlocked:", 0);
  kb("SwapTotal:", 0);
  kb("SwapFree:", 0);
  kb("Zswap:", 0);
  kb("Zswapped:", 0);
  kb("Dirty:", 0);
  kb("Writeback:", 0);
  kb("AnonPages:", anonymous);
  kb("Mapped:", m.shared);
  kb("Shmem:", m.shared);
  kb("KReclaimable:", 0);
  kb("Slab:", 0);
  kb("SReclaimable:", 0);
  kb("SUnreclaim:", 0);
  kb("KernelStack:", 0);
  kb("PageTables:", 0);
  kb("SecPageTables:", 0);
  kb("NFS_Unstable:", 0);
  kb("Bounce:", 0);
  kb("WritebackTmp:", 0);
  kb("CommitLimit:", m.total);
  kb("Committed_AS:", m.used);
  kb("VmallocTotal:", uint64_t{1} << 45);
  kb("VmallocUsed:", 0);
  kb("VmallocChunk:", 0);
  kb("Percpu:", 0);
  kb("HardwareCorrupted:", 0);
  kb("AnonHugePages:", 0);
  kb("ShmemHugePages:", 0);
  kb("ShmemPmdMapped:", 0);
  kb("FileHugePages:", 0);
  kb("FilePmdMapped:", 0);
  out += "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\n"
         "HugePages_Surp:        0\n";
  kb("Hugepagesize:", 2 << 20);
  kb("Hugetlb:", 0);
  kb("DirectMap4k:", m.total);
  kb("DirectMap2M:", 0);
  return out;
}

Result<std::string> ReadVmstat(CallContext& ctx, KernelObject& o) {
  const Kernel::MemoryInfo m = MemoryOf(ctx, o.kernel());
  std::string out;
  const std::pair<const char*, uint64_t> rows[] = {
      {"nr_free_pages", m.free / kPageSize},
      {"nr_zone_inactive_anon", m.shared / kPageSize},
      {"nr_zone_active_anon", (m.used - std::min(m.shared, m.used)) / kPageSize},
      {"nr_inactive_file", m.cached / kPageSize},
      {"nr_active_file", 0},
      {"nr_anon_pages", (m.used - std::min(m.shared, m.used)) / kPageSize},
      {"nr_mapped", m.shared / kPageSize},
      {"nr_file_pages", (m.cached + m.shared) / kPageSize},
      {"nr_dirty", 0},
      {"nr_writeback", 0},
      {"nr_shmem", m.shared / kPageSize},
      {"nr_slab_reclaimable", 0},
      {"nr_slab_unreclaimable", 0},
      {"pgpgin", 0},
      {"pgpgout", 0},
      {"pswpin", 0},
      {"pswpout", 0},
      {"pgalloc_normal", 0},
      {"pgfree", 0},
      {"pgfault", 0},
      {"pgmajfault", 0},
      {"oom_kill", 0},
  };
  for (const auto& [name, value] : rows) absl::StrAppend(&out, name, " ", value, "\n");
  return out;
}

Result<std::string> ReadBuddyinfo(CallContext& ctx, KernelObject& o) {
  const uint64_t pages = MemoryOf(ctx, o.kernel()).free / kPageSize;
  std::string out = "Node 0, zone   Normal ";
  // As free blocks of the largest order, and what is left as single pages.
  for (int order = 0; order < 11; ++order)
    Append(&out, "%6llu ",
           static_cast<unsigned long long>(order == 0 ? pages % 1024 : order == 10 ? pages / 1024 : 0));
  out += '\n';
  return out;
}

Result<std::string> ReadZoneinfo(CallContext& ctx, KernelObject& o) {
  const Kernel::MemoryInfo m = MemoryOf(ctx, o.kernel());
  return absl::StrCat("Node 0, zone   Normal\n  pages free     ", m.free / kPageSize,
                      "\n        min      0\n        low      0\n        high     0\n"
                      "        spanned  ", m.total / kPageSize, "\n        present  ",
                      m.total / kPageSize, "\n        managed  ", m.total / kPageSize, "\n");
}

}  // namespace caisson::procfs
