// /proc/PID/cwd, root, exe: magic links (Linux fs/proc/base.c, proc_pid_get_link()).
#include "sentry/procfs/task_files.h"
#include "vfs/operations.h"

namespace caisson::procfs {
namespace {

Result<RefPtr<Task>> Inspected(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = o.FindTask();
  if (!task) return Errno::kENOENT;
  TRY(MayInspect(ctx, *task));
  return task;
}

Result<std::string> Text(CallContext& ctx, Result<vfs::VfsPath> path) {
  if (!path.ok()) return path.error();
  return vfs::PathName(*path, ctx.root());
}

}  // namespace

Result<vfs::VfsPath> CwdPath(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(Inspected(ctx, o));
  RefPtr<kernel::FsContext> fs = task->fs_ref();
  if (!fs) return Errno::kENOENT;
  return fs->cwd();
}
Result<std::string> CwdText(CallContext& ctx, TaskObject& o) { return Text(ctx, CwdPath(ctx, o)); }

Result<vfs::VfsPath> RootPath(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(Inspected(ctx, o));
  RefPtr<kernel::FsContext> fs = task->fs_ref();
  if (!fs) return Errno::kENOENT;
  return fs->root();
}
Result<std::string> RootText(CallContext& ctx, TaskObject& o) {
  return Text(ctx, RootPath(ctx, o));
}

Result<vfs::VfsPath> ExePath(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(Inspected(ctx, o));
  RefPtr<mm::MemoryManager> mm = task->mm_ref();
  RefPtr<vfs::FileDescription> file = mm ? mm->executable() : nullptr;
  if (!file || !file->path()) return Errno::kENOENT;
  return file->path();
}
Result<std::string> ExeText(CallContext& ctx, TaskObject& o) { return Text(ctx, ExePath(ctx, o)); }

}  // namespace caisson::procfs
