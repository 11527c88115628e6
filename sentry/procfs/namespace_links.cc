// /proc/PID/ns (Linux fs/proc/namespaces.c).
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
  RefPtr<kernel::NamespaceSet> set = task->namespaces_ref();
  RefPtr<const auth::Credentials> creds = task->creds_ref();
  RefPtr<kernel::Pid> pid = task->pid_ref();
  // An ended task has left its namespaces, but for those of its ids.
  const bool ended = task->mm_ref() == nullptr;
  NamespaceRef ns;
  ns.type = kType;
  switch (kType) {
    case kernel::kCloneNewuser: ns.user = creds->user_ns; return ns;
    case kernel::kCloneNewpid:
      if (!kForChildren) {
        ns.pid = RefPtr<PidNamespace>(&pid->ns());
        return ns;
      }
      if (ended || !set) return Errno::kENOENT;
      ns.pid = set->pid_for_children ? set->pid_for_children
                                     : RefPtr<PidNamespace>(&pid->ns());
      return ns;
    case kernel::kCloneNewcgroup: return ns;
    default: break;
  }
  if (ended || !set) return Errno::kENOENT;
  switch (kType) {
    case kernel::kCloneNewns: ns.mount = set->mount; break;
    case kernel::kCloneNewuts: ns.uts = set->uts; break;
    case kernel::kCloneNewipc: ns.ipc = set->ipc; break;
    default: ns.net = set->net; break;
  }
  if (!ns.mount && !ns.uts && !ns.ipc && !ns.net) return Errno::kENOENT;
  return ns;
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
    NsLink<kernel::kCloneNewuser>("user"),     NsLink<kernel::kCloneNewuts>("uts"),
};

}  // namespace

constinit const Directory kNsDirectory{.entries = kEntries};

}  // namespace caisson::procfs
