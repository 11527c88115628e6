// /proc/sysvipc (Linux ipc/util.c, sysvipc_*_proc_show()): the caller's IPC namespace.
#include "sentry/ipc/namespace.h"
#include "sentry/procfs/root_files.h"

namespace caisson::procfs {
namespace {

RefPtr<ipc::IpcNamespace> IpcOf(CallContext& ctx) {
  Task* task = CallerOf(ctx);
  RefPtr<kernel::NamespaceSet> set = task != nullptr ? task->namespaces_ref() : nullptr;
  return set ? set->ipc : nullptr;
}

// As this mount's pid namespace shows it.
int32_t PidIn(KernelObject& o, int32_t global) {
  RefPtr<kernel::Pid> pid = global > 0 ? o.kernel().root_pid_ns()->Find(global) : nullptr;
  return pid ? pid->NumberIn(o.pid_ns()) : 0;
}

unsigned long long U(uint64_t v) { return v; }
long long S(int64_t v) { return v; }

}  // namespace

Result<std::string> ReadSysvMsg(CallContext& ctx, KernelObject& o) {
  std::string out =
      "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      "
      "stime      rtime      ctime\n";
  RefPtr<ipc::IpcNamespace> ns = IpcOf(ctx);
  if (!ns) return out;
  std::vector<int> ids;
  const std::vector<abi::MsqidDs> all = ns->msg.All(ctx, &ids);
  for (size_t i = 0; i < all.size() && i < ids.size(); ++i) {
    const abi::MsqidDs& q = all[i];
    Append(&out, "%10d %10d  %4o  %10llu %10llu %5d %5d %5u %5u %5u %5u %10lld %10lld %10lld\n",
           q.perm.key, ids[i], q.perm.mode, U(q.cbytes), U(q.qnum), PidIn(o, q.lspid),
           PidIn(o, q.lrpid), q.perm.uid, q.perm.gid, q.perm.cuid, q.perm.cgid, S(q.stime),
           S(q.rtime), S(q.ctime));
  }
  return out;
}

Result<std::string> ReadSysvSem(CallContext& ctx, KernelObject&) {
  std::string out =
      "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
  RefPtr<ipc::IpcNamespace> ns = IpcOf(ctx);
  if (!ns) return out;
  std::vector<int> ids;
  const std::vector<abi::SemidDs> all = ns->sem.All(ctx, &ids);
  for (size_t i = 0; i < all.size() && i < ids.size(); ++i) {
    const abi::SemidDs& s = all[i];
    Append(&out, "%10d %10d  %4o %10llu %5u %5u %5u %5u %10lld %10lld\n", s.perm.key, ids[i],
           s.perm.mode, U(s.nsems), s.perm.uid, s.perm.gid, s.perm.cuid, s.perm.cgid, S(s.otime),
           S(s.ctime));
  }
  return out;
}

Result<std::string> ReadSysvShm(CallContext& ctx, KernelObject& o) {
  std::string out =
      "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid "
      "     atime      dtime      ctime                   rss                  swap\n";
  RefPtr<ipc::IpcNamespace> ns = IpcOf(ctx);
  if (!ns) return out;
  std::vector<int> ids;
  const std::vector<abi::ShmidDs> all = ns->shm.All(ctx, &ids);
  for (size_t i = 0; i < all.size() && i < ids.size(); ++i) {
    const abi::ShmidDs& s = all[i];
    Append(&out,
           "%10d %10d  %4o %21llu %5d %5d  %5llu %5u %5u %5u %5u %10lld %10lld %10lld %21llu "
           "%21llu\n",
           s.perm.key, ids[i], s.perm.mode, U(s.segsz), PidIn(o, s.cpid), PidIn(o, s.lpid),
           U(s.nattch), s.perm.uid, s.perm.gid, s.perm.cuid, s.perm.cgid, S(s.atime), S(s.dtime),
           S(s.ctime), U(PageRoundUp(s.segsz)), U(0));
  }
  return out;
}

}  // namespace caisson::procfs
