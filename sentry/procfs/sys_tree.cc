// sysfs: CPUs, memory, and the directories that programs look for.
#include "absl/strings/str_cat.h"
#include "sentry/kernel/container.h"
#include "sentry/procfs/root_files.h"
#include "sentry/procfs/task_files.h"

namespace caisson::procfs {
namespace {

constexpr Directory kEmpty{.entries = {}, .cached = true};
constexpr char kZero[] = "0\n";
constexpr char kNewline[] = "\n";

// One processor: /sys/devices/system/cpu/cpuN.
class CpuObject final : public Object {
 public:
  CpuObject(RefPtr<KernelObject> mount, uint32_t cpu) : mount_(std::move(mount)), cpu_(cpu) {}
  uint32_t cpu() const { return cpu_; }
  Kernel& kernel() const { return mount_->kernel(); }
  bool Same(const Object& other) const override {
    return cpu_ == static_cast<const CpuObject&>(other).cpu_;
  }

 private:
  const RefPtr<KernelObject> mount_;
  const uint32_t cpu_;
};

Result<std::string> ReadOnline(CallContext&, KernelObject& o) {
  return CpuList(OnlineCpus(o.kernel())) + "\n";
}
Result<std::string> ReadCpuMap(CallContext&, KernelObject& o) {
  return CpuMask(OnlineCpus(o.kernel())) + "\n";
}
Result<std::string> ReadKernelMax(CallContext&, KernelObject&) { return std::string("63\n"); }

// Each CPU is a core of its own in one package, as /proc/cpuinfo says.
Result<std::string> ReadCoreId(CallContext&, CpuObject& o) { return absl::StrCat(o.cpu(), "\n"); }
Result<std::string> ReadOwnMask(CallContext&, CpuObject& o) {
  return CpuMask(uint64_t{1} << o.cpu()) + "\n";
}
Result<std::string> ReadOwnList(CallContext&, CpuObject& o) {
  return CpuList(uint64_t{1} << o.cpu()) + "\n";
}
Result<std::string> ReadAllMask(CallContext&, CpuObject& o) {
  return CpuMask(OnlineCpus(o.kernel())) + "\n";
}
Result<std::string> ReadAllList(CallContext&, CpuObject& o) {
  return CpuList(OnlineCpus(o.kernel())) + "\n";
}

constexpr Entry kTopologyEntries[] = {
    File<ReadOwnMask>("core_cpus"),        File<ReadOwnList>("core_cpus_list"),
    File<ReadCoreId>("core_id"),           File<ReadAllMask>("core_siblings"),
    File<ReadAllList>("core_siblings_list"), File<Constant<kZero>>("die_id"),
    File<ReadAllMask>("package_cpus"),     File<ReadAllList>("package_cpus_list"),
    File<Constant<kZero>>("physical_package_id"), File<ReadOwnMask>("thread_siblings"),
    File<ReadOwnList>("thread_siblings_list"),
};
constexpr Directory kTopologyDirectory{.entries = kTopologyEntries, .cached = true};
constexpr Entry kCpuEntries[] = {Dir("topology", kTopologyDirectory)};
constexpr Directory kCpuDirectory{.entries = kCpuEntries, .cached = true};
constexpr Entry kCpu = Dir("", kCpuDirectory);

Result<Child> LookupCpu(CallContext&, KernelObject& o, absl::string_view name) {
  if (name.substr(0, 3) != "cpu") return Errno::kENOENT;
  const int64_t n = NumberFromName(name.substr(3));
  if (n < 0 || n >= CpuCount(o.kernel())) return Errno::kENOENT;
  return Child{&kCpu, MakeRef<CpuObject>(RefPtr<KernelObject>(&o), static_cast<uint32_t>(n))};
}

Result<void> ListCpus(CallContext&, KernelObject& o, uint64_t from, NameSink sink) {
  for (uint64_t n = from; n < CpuCount(o.kernel()); ++n)
    if (!sink(absl::StrCat("cpu", n), kCpu, n)) break;
  return {};
}

constexpr Entry kCpusEntries[] = {
    File<Constant<kNewline>>("isolated"), File<ReadKernelMax>("kernel_max"),
    File<Constant<kNewline>>("offline"),  File<ReadOnline>("online"),
    File<ReadOnline>("possible"),         File<ReadOnline>("present"),
};
constexpr Directory kCpusDirectory{.entries = kCpusEntries,
                                   .lookup = Adapt<LookupCpu>::Call,
                                   .list = Adapt<ListCpus>::Call,
                                   .cached = true};

Result<std::string> ReadNodeMeminfo(CallContext& ctx, KernelObject& o) {
  RefPtr<kernel::Container> container = ContainerOf(ctx, o.kernel());
  Kernel::MemoryInfo m;
  m.total = m.free = o.kernel().config().total_memory;
  if (container) m = o.kernel().GetMemoryInfo(*container);
  std::string out;
  auto kb = [&](const char* name, uint64_t bytes) {
    Append(&out, "Node 0 %-15s%8llu kB\n", name, static_cast<unsigned long long>(bytes >> 10));
  };
  kb("MemTotal:", m.total);
  kb("MemFree:", m.free);
  kb("MemUsed:", m.total - std::min(m.free, m.total));
  return out;
}

constexpr char kDistance[] = "10\n";
constexpr char kNumastat[] =
    "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n";
constexpr Entry kNodeEntries[] = {
    File<ReadOnline>("cpulist"),         File<ReadCpuMap>("cpumap"),
    File<Constant<kDistance>>("distance"), File<ReadNodeMeminfo>("meminfo"),
    File<Constant<kNumastat>>("numastat"),
};
constexpr Directory kNodeDirectory{.entries = kNodeEntries, .cached = true};
constexpr Entry kNodesEntries[] = {
    File<Constant<kZero>>("has_cpu"), File<Constant<kZero>>("has_memory"),
    File<Constant<kZero>>("has_normal_memory"), Dir("node0", kNodeDirectory),
    File<Constant<kZero>>("online"), File<Constant<kZero>>("possible"),
};
constexpr Directory kNodesDirectory{.entries = kNodesEntries, .cached = true};

constexpr Entry kSystemEntries[] = {Dir("cpu", kCpusDirectory), Dir("node", kNodesDirectory)};
constexpr Directory kSystemDirectory{.entries = kSystemEntries, .cached = true};

// --- The loopback interface ---
constexpr char kLoAddress[] = "00:00:00:00:00:00\n";
constexpr char kLoMtu[] = "65536\n";
constexpr char kLoFlags[] = "0x9\n";
constexpr char kLoType[] = "772\n";
constexpr char kOne[] = "1\n";
constexpr char kSix[] = "6\n";
constexpr char kUnknown[] = "unknown\n";
constexpr char kThousand[] = "1000\n";
constexpr Entry kLoEntries[] = {
    File<Constant<kSix>>("addr_len"),   File<Constant<kLoAddress>>("address"),
    File<Constant<kLoAddress>>("broadcast"), File<Constant<kOne>>("carrier"),
    File<Constant<kZero>>("dev_id"),    File<Constant<kLoFlags>>("flags"),
    File<Constant<kOne>>("ifindex"),    File<Constant<kOne>>("iflink"),
    File<Constant<kLoMtu>>("mtu"),      File<Constant<kUnknown>>("operstate"),
    File<Constant<kThousand>>("tx_queue_len"), File<Constant<kLoType>>("type"),
};
constexpr Directory kLoDirectory{.entries = kLoEntries, .cached = true};
constexpr Entry kVirtualNetEntries[] = {Dir("lo", kLoDirectory)};
constexpr Directory kVirtualNetDirectory{.entries = kVirtualNetEntries, .cached = true};
constexpr Entry kVirtualEntries[] = {Dir("net", kVirtualNetDirectory)};
constexpr Directory kVirtualDirectory{.entries = kVirtualEntries, .cached = true};
constexpr Entry kDevicesEntries[] = {Dir("system", kSystemDirectory),
                                     Dir("virtual", kVirtualDirectory)};
constexpr Directory kDevicesDirectory{.entries = kDevicesEntries, .cached = true};

constexpr char kLoTarget[] = "../../devices/virtual/net/lo";
constexpr Entry kClassNetEntries[] = {Link<Constant<kLoTarget>>("lo")};
constexpr Directory kClassNetDirectory{.entries = kClassNetEntries, .cached = true};
constexpr Entry kClassEntries[] = {Dir("mem", kEmpty), Dir("net", kClassNetDirectory),
                                   Dir("tty", kEmpty)};
constexpr Directory kClassDirectory{.entries = kClassEntries, .cached = true};

// --- kernel ---
constexpr char kThp[] = "always [madvise] never\n";
constexpr char kThpShmem[] = "always within_size advise [never] deny force\n";
constexpr char kThpDefrag[] = "always defer defer+madvise [madvise] never\n";
constexpr char kThpSize[] = "2097152\n";
constexpr Entry kThpEntries[] = {
    File<Constant<kThpDefrag>>("defrag"),   File<Constant<kThp>>("enabled"),
    File<Constant<kThpSize>>("hpage_pmd_size"), File<Constant<kThpShmem>>("shmem_enabled"),
};
constexpr Directory kThpDirectory{.entries = kThpEntries, .cached = true};
constexpr Entry kMmEntries[] = {Dir("hugepages", kEmpty), Dir("transparent_hugepage", kThpDirectory)};
constexpr Directory kMmDirectory{.entries = kMmEntries, .cached = true};
constexpr Entry kKernelEntries[] = {Dir("mm", kMmDirectory), Dir("security", kEmpty)};
constexpr Directory kKernelDirectory{.entries = kKernelEntries, .cached = true};

constexpr Entry kFsEntries[] = {Dir("cgroup", kEmpty)};
constexpr Directory kFsDirectory{.entries = kFsEntries, .cached = true};
constexpr Entry kDevEntries[] = {Dir("block", kEmpty), Dir("char", kEmpty)};
constexpr Directory kDevDirectory{.entries = kDevEntries, .cached = true};

constexpr Entry kEntries[] = {
    Dir("block", kEmpty),    Dir("bus", kEmpty),           Dir("class", kClassDirectory),
    Dir("dev", kDevDirectory), Dir("devices", kDevicesDirectory), Dir("firmware", kEmpty),
    Dir("fs", kFsDirectory), Dir("kernel", kKernelDirectory), Dir("module", kEmpty),
    Dir("power", kEmpty),
};
constexpr Directory kRootDirectory{.entries = kEntries, .cached = true};

}  // namespace

constinit const Entry kSysfsRoot = Dir("", kRootDirectory);

}  // namespace caisson::procfs
