// The rows of /proc/PID and /proc/PID/task/TID, and how a number becomes one of these directories.
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sentry/procfs/register.h"
#include "sentry/procfs/task_files.h"
#include "vfs/permission.h"

namespace caisson::procfs {
namespace {

constexpr Entry WithPermission(Entry e,
                               Result<void> (*permission)(CallContext&, Object&,
                                                          const vfs::Attributes&,
                                                          vfs::AccessMask)) {
  e.permission = permission;
  return e;
}

#define CAISSON_TASK_ENTRIES                                                                    \
  MemoryFile<ReadAuxv>("auxv", 0400), File<ReadCgroup>("cgroup"),                                   \
      WriteOnlyFile<WriteClearRefs>("clear_refs"), File<ReadCmdline>("cmdline"),                \
      File<ReadComm, WriteComm>("comm"), File<ReadCpuset>("cpuset"), MagicLink<CwdText, CwdPath>("cwd"),                    \
      MemoryFile<ReadEnviron>("environ", 0400), MagicLink<ExeText, ExePath>("exe"),             \
      WithPermission(Dir("fd", kFdDirectory, 0500), Adapt<MayUseFdDirectory>::Call),            \
      WithPermission(Dir("fdinfo", kFdinfoDirectory), Adapt<MayInspectDirectory>::Call),        \
      IdMapFile<auth::IdKind::kGid>("gid_map"), File<ReadIo>("io", 0400),                       \
      File<ReadLimits>("limits"), File<ReadLoginuid, WriteLoginuid>("loginuid"),                \
      MemoryFile<ReadMaps>("maps", 0444), SpecialFile<OpenMem>("mem", 0600),                    \
      SpecialFile<OpenMountinfo>("mountinfo", 0444), SpecialFile<OpenMounts>("mounts", 0444),   \
      Dir("net", kNetDirectory), Dir("ns", kNsDirectory, 0511),                                 \
      MemoryFile<ReadNumaMaps>("numa_maps", 0444), File<ReadOomAdj, WriteOomAdj>("oom_adj"),    \
      File<ReadOomScore>("oom_score"), File<ReadOomScoreAdj, WriteOomScoreAdj>("oom_score_adj"), \
      File<ReadPersonality>("personality", 0400), IdMapFile<auth::IdKind::kProject>("projid_map"), MagicLink<RootText, RootPath>("root"), \
      File<ReadSched>("sched"), File<ReadSchedstat>("schedstat"),                               \
      File<ReadSessionid>("sessionid"), SetgroupsFile("setgroups"),       \
      MemoryFile<ReadSmaps>("smaps", 0444), MemoryFile<ReadSmapsRollup>("smaps_rollup", 0444),  \
      File<ReadStat>("stat"), File<ReadStatm>("statm"), File<ReadStatus>("status"),             \
      File<ReadSyscall>("syscall", 0400), IdMapFile<auth::IdKind::kUid>("uid_map"),             \
      File<ReadWchan>("wchan")

// proc_pid_permission().
Result<void> MayEnter(CallContext& ctx, TaskObject& o, const vfs::Attributes& attr,
                      vfs::AccessMask access) {
  TRY(o.Get());
  return vfs::CheckAccess(ctx.creds(), attr, access);
}

constexpr Entry kThreadEntries[] = {CAISSON_TASK_ENTRIES, File<ReadChildren>("children")};
constexpr Directory kThreadDirectory{.entries = kThreadEntries};
constexpr Entry kThread = Dir("", kThreadDirectory);

int64_t ParseNumberName(absl::string_view name) {
  if (name.empty() || name.size() > 10 || (name[0] == '0' && name.size() > 1)) return -1;
  int64_t value = 0;
  for (char c : name) {
    if (c < '0' || c > '9') return -1;
    value = value * 10 + (c - '0');
  }
  return value;
}

// proc_task_lookup(): a thread of that group.
Result<Child> LookupThread(CallContext&, TaskObject& o, absl::string_view name) {
  const int64_t tid = ParseNumberName(name);
  if (tid <= 0 || tid > INT32_MAX) return Errno::kENOENT;
  RefPtr<kernel::Pid> pid = o.pid_ns().Find(static_cast<int32_t>(tid));
  RefPtr<Task> task = o.FindTask();
  if (!pid || !task) return Errno::kENOENT;
  {
    MutexLock lock(o.kernel().tasks_mu());
    if (pid->task == nullptr || &pid->task->group() != &task->group()) return Errno::kENOENT;
  }
  return Child{&kThread, MakeRef<TaskObject>(o.mount_ref(), std::move(pid), false)};
}

Result<void> ListThreads(CallContext&, TaskObject& o, uint64_t from, NameSink sink) {
  RefPtr<Task> task = o.FindTask();
  if (!task) return Errno::kENOENT;
  std::vector<uint64_t> tids;
  {
    MutexLock lock(o.kernel().tasks_mu());
    for (const RefPtr<Task>& t : task->group().tasks)
      if (int32_t tid = t->TidIn(o.pid_ns()); tid > 0) tids.push_back(static_cast<uint64_t>(tid));
  }
  std::sort(tids.begin(), tids.end());
  for (uint64_t tid : tids)
    if (tid >= from && !sink(absl::StrCat(tid), kThread, tid)) break;
  return {};
}

constexpr Directory kThreadsDirectory{.entries = {},
                                      .lookup = Adapt<LookupThread>::Call,
                                      .list = Adapt<ListThreads>::Call};

constexpr Entry kProcessEntries[] = {
    CAISSON_TASK_ENTRIES,
    File<ReadCoredumpFilter, WriteCoredumpFilter>("coredump_filter"),
    SpecialFile<OpenMountstats>("mountstats", 0400),
    WithPermission(Dir("task", kThreadsDirectory), Adapt<MayEnter>::Call),
    File<ReadTimers>("timers"),
    File<ReadTimensOffsets, WriteTimensOffsets>("timens_offsets", 0644),
    File<ReadTimerslack, WriteTimerslack>("timerslack_ns", 0666),
};
#undef CAISSON_TASK_ENTRIES
constexpr Directory kProcessDirectory{.entries = kProcessEntries};
constexpr Entry kProcess = WithPermission(Dir("", kProcessDirectory), Adapt<MayEnter>::Call);

}  // namespace

// Linux fs/proc/base.c, tgid_pidfd_to_pid().
Result<RefPtr<kernel::Pid>> ProcessOfDirectory(const vfs::FileDescription& file) {
  vfs::Inode* inode = file.inode();
  if (inode == nullptr || !inode->is_directory() || inode->fs().type_name() != "proc" ||
      &vfs::proc::EntryOf(*inode) != &kProcess)
    return Errno::kEBADF;
  return static_cast<TaskObject&>(vfs::proc::ObjectOf(*inode)).pid();
}

int64_t NumberFromName(absl::string_view name) { return ParseNumberName(name); }

// proc_pid_lookup(): any thread's number leads to a directory; only processes are listed.
Result<Child> LookupProcess(CallContext&, KernelObject& o, absl::string_view name) {
  const int64_t number = ParseNumberName(name);
  if (number <= 0 || number > INT32_MAX) return Errno::kENOENT;
  RefPtr<kernel::Pid> pid = o.pid_ns().Find(static_cast<int32_t>(number));
  if (!pid) return Errno::kENOENT;
  auto object = MakeRef<TaskObject>(RefPtr<KernelObject>(&o), std::move(pid), true);
  if (!object->Exists()) return Errno::kENOENT;
  return Child{&kProcess, std::move(object)};
}

Result<void> ListProcesses(CallContext&, KernelObject& o, uint64_t from, NameSink sink) {
  std::vector<uint64_t> numbers;
  {
    const std::vector<RefPtr<kernel::Pid>> pids = o.pid_ns().All();  // Outlives the lock.
    MutexLock lock(o.kernel().tasks_mu());
    for (const RefPtr<kernel::Pid>& p : pids)
      if (p->group != nullptr) numbers.push_back(static_cast<uint64_t>(p->NumberIn(o.pid_ns())));
  }
  for (uint64_t n : numbers)
    if (n >= from && !sink(absl::StrCat(n), kProcess, n)) break;
  return {};
}

}  // namespace caisson::procfs
