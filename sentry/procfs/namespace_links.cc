// /proc/PID/ns (Linux fs/proc/namespaces.c).
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "netstack/sockets/sockets.h"
#include "sentry/ipc/namespace.h"
#include "sentry/procfs/task_files.h"

namespace caisson::procfs {
namespace {

using kernel::NamespaceRef;

// `kForChildren`: pid_for_children, what clone(2) would use.
template <uint64_t kType, bool kForChildren = false>
Result<NamespaceRef> Find(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = o.FindTask();
  if (!task) return Errno::kENOENT;
  TRY(MayInspect(ctx, *task));
  return kernel::NamespaceOf(*task, kType, kForChildren);
}

template <uint64_t kType, bool kForChildren = false>
Result<std::string> Text(CallContext& ctx, TaskObject& o) {
  NamespaceRef ns = TRY(Find<kType, kForChildren>(ctx, o));
  return ns.Text();
}

template <uint64_t kType, bool kForChildren = false>
Result<vfs::VfsPath> Path(CallContext& ctx, TaskObject& o) {
  NamespaceRef ns = TRY(Find<kType, kForChildren>(ctx, o));
  return o.kernel().namespace_files().PathOf(ns);
}

template <uint64_t kType, bool kForChildren = false>
constexpr Entry NsLink(absl::string_view name) {
  return MagicLink<Text<kType, kForChildren>, Path<kType, kForChildren>>(name);
}

constexpr Entry kEntries[] = {
    NsLink<kernel::kCloneNewcgroup>("cgroup"), NsLink<kernel::kCloneNewipc>("ipc"),
    NsLink<kernel::kCloneNewns>("mnt"),        NsLink<kernel::kCloneNewnet>("net"),
    NsLink<kernel::kCloneNewpid>("pid"),       NsLink<kernel::kCloneNewpid, true>("pid_for_children"),
    NsLink<kernel::kCloneNewtime>("time"),     NsLink<kernel::kCloneNewtime, true>("time_for_children"),
    NsLink<kernel::kCloneNewuser>("user"),     NsLink<kernel::kCloneNewuts>("uts"),
};

}  // namespace

constinit const Directory kNsDirectory{.entries = kEntries};

// --- timens_offsets (Linux kernel/time/namespace.c, timens_offsets_show() and proc_timens_set_offset()) ---

namespace {

constexpr int64_t kSecond = 1'000'000'000;

Result<RefPtr<kernel::TimeNamespace>> TimeForChildren(TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  RefPtr<kernel::NamespaceSet> set = task->namespaces_ref();
  if (!set || !set->time_for_children) return Errno::kESRCH;
  return set->time_for_children;
}

}  // namespace

Result<std::string> ReadTimensOffsets(CallContext&, TaskObject& o) {
  RefPtr<kernel::TimeNamespace> ns = TRY(TimeForChildren(o));
  std::string out;
  auto line = [&out](const char* name, int64_t offset) {
    // Nanoseconds are positive, as in struct timespec.
    int64_t sec = offset / kSecond, nsec = offset % kSecond;
    if (nsec < 0) {
      --sec;
      nsec += kSecond;
    }
    Append(&out, "%-10s %10lld %9lld\n", name, static_cast<long long>(sec), static_cast<long long>(nsec));
  };
  line("monotonic", ns->offsets().monotonic);
  line("boottime", ns->offsets().boottime);
  return out;
}

Result<void> WriteTimensOffsets(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t offset,
                                const auth::Credentials& opener) {
  if (offset != 0 || data.size() >= kPageSize) return Errno::kEINVAL;
  RefPtr<kernel::TimeNamespace> ns = TRY(TimeForChildren(o));
  kernel::TimeNamespace::Offsets offsets = ns->offsets();
  int lines = 0;
  for (absl::string_view line : absl::StrSplit(data, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    int64_t sec = 0, nsec = 0;
    if (words.size() != 3 || !absl::SimpleAtoi(words[1], &sec) || !absl::SimpleAtoi(words[2], &nsec))
      return Errno::kEINVAL;
    if (nsec < 0 || nsec >= kSecond || ++lines > 2) return Errno::kEINVAL;
    const bool monotonic = words[0] == "monotonic" || words[0] == "1";
    if (!monotonic && words[0] != "boottime" && words[0] != "7") return Errno::kEINVAL;
    // The clock must stay positive, and far from its end.
    const int64_t now = monotonic ? time::MonotonicNow() : time::BoottimeNow();
    if (sec > INT64_MAX / kSecond / 2 || sec < -(INT64_MAX / kSecond / 2)) return Errno::kERANGE;
    const int64_t value = sec * kSecond + nsec;
    if (now + value < 0 || now + value > INT64_MAX / 2) return Errno::kERANGE;
    (monotonic ? offsets.monotonic : offsets.boottime) = value;
  }
  if (lines == 0) return Errno::kEINVAL;
  if (!opener.HasCapability(auth::Capability::kSysTime, ns->user_ns())) return Errno::kEPERM;
  return ns->SetOffsets(offsets);
}

}  // namespace caisson::procfs
