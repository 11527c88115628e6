// /proc/PID/fd and fdinfo (Linux fs/proc/fd.c).
#include <algorithm>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "sentry/procfs/root_files.h"
#include "sentry/procfs/task_files.h"
#include "vfs/file_lock.h"
#include "vfs/operations.h"
#include "vfs/permission.h"

namespace caisson::procfs {
namespace {

class FdObject final : public TaskObject {
 public:
  FdObject(const TaskObject& task, int32_t fd)
      : TaskObject(task.mount_ref(), task.pid(), task.whole()), fd_(fd) {}
  int32_t fd() const { return fd_; }
  RefPtr<kernel::FdTable> table() const {
    RefPtr<Task> task = FindTask();
    return task ? task->fd_table_ref() : nullptr;
  }
  // Errors: ENOENT.
  Result<RefPtr<vfs::FileDescription>> File() const {
    RefPtr<kernel::FdTable> fds = table();
    if (!fds) return Errno::kENOENT;
    auto file = fds->Get(fd_);
    if (!file.ok()) return Errno::kENOENT;
    return file;
  }

  bool Exists() const override { return File().ok(); }
  bool Same(const Object& other) const override {
    return TaskObject::Same(other) && fd_ == static_cast<const FdObject&>(other).fd_;
  }
  void FillAttributes(CallContext& ctx, const Entry& entry, vfs::Attributes& attr) override {
    TaskObject::FillAttributes(ctx, entry, attr);
    if ((entry.mode & vfs::kModeType) != kModeLink) return;
    attr.size = 64;
    auto file = File();
    if (!file.ok()) return;
    // The link's bits tell the access mode.
    attr.mode = kModeLink | ((*file)->readable() ? 0500 : 0) | ((*file)->writable() ? 0300 : 0);
  }

 private:
  const int32_t fd_;
};

// proc_fd_access_allowed().
Result<RefPtr<vfs::FileDescription>> InspectedFile(CallContext& ctx, FdObject& o) {
  RefPtr<Task> task = o.FindTask();
  if (!task) return Errno::kENOENT;
  TRY(MayInspect(ctx, *task));
  return o.File();
}

// The path's name for files that have one, else what the file says it is.
std::string NameOf(CallContext& ctx, vfs::FileDescription& file) {
  std::string name;
  if (file.path()) name = vfs::PathName(file.path(), ctx.root());
  if (name.empty()) name = file.Describe();
  return name.empty() ? "anon_inode:[unknown]" : name;
}

Result<std::string> FdText(CallContext& ctx, FdObject& o) {
  RefPtr<vfs::FileDescription> file = TRY(InspectedFile(ctx, o));
  return NameOf(ctx, *file);
}

// A file without a path leads to a nameless place of its inode, so that stat(2) sees the inode;
// opening it is that inode's to refuse.
Result<vfs::VfsPath> FdPath(CallContext& ctx, FdObject& o) {
  RefPtr<vfs::FileDescription> file = TRY(InspectedFile(ctx, o));
  if (file->path()) return file->path();
  if (file->inode() == nullptr) return Errno::kENXIO;
  return vfs::VfsPath(o.mount().nameless_mount(),
                      vfs::Dentry::NewRoot(file->inode_ref(), NameOf(ctx, *file)));
}

// lock_get_status(): what follows the number. `wanted` says whose locks.
template <typename F>
std::vector<std::string> LockLines(vfs::Inode& inode, const vfs::Attributes& attr,
                                   KernelObject& mount, F wanted) {
  std::vector<std::string> lines;
  if (inode.locks_if_any() == nullptr) return lines;
  for (const vfs::FileLocks::Info& info : inode.locks().Snapshot()) {
    const vfs::RecordLock& l = info.lock;
    if (!wanted(l)) continue;
    int32_t pid = -1;
    if (l.tgid > 0)
      if (RefPtr<kernel::Pid> p = mount.kernel().root_pid_ns()->Find(l.tgid))
        pid = p->NumberIn(mount.pid_ns());
    if (l.tgid > 0 && pid <= 0) pid = 0;
    std::string line = absl::StrCat(info.flock ? "FLOCK " : l.ofd ? "OFDLCK" : "POSIX ",
                                    " ADVISORY  ",
                                    l.type == vfs::LockType::kWrite ? "WRITE " : "READ  ", pid, " ");
    Append(&line, "%02x:%02x:%llu ", attr.dev.major, attr.dev.minor,
           static_cast<unsigned long long>(attr.ino));
    absl::StrAppend(&line, l.range.start, " ");
    if (l.range.end == INT64_MAX) line += "EOF\n";
    else absl::StrAppend(&line, l.range.end, "\n");
    lines.push_back(std::move(line));
  }
  return lines;
}

// seq_show() of fs/proc/fd.c.
Result<std::string> ReadFdinfo(CallContext& ctx, FdObject& o) {
  RefPtr<vfs::FileDescription> file = TRY(o.File());
  RefPtr<kernel::FdTable> fds = o.table();
  constexpr int kSeekCur = 1;
  const int64_t position = file->Seek(ctx, 0, kSeekCur).value_or(0);
  uint32_t flags = file->flags();
  if (fds && fds->close_on_exec(o.fd()).value_or(false)) flags |= vfs::kOpenCloexec;
  vfs::Attributes attr;
  if (Result<vfs::Attributes> got = file->GetAttributes(ctx); got.ok()) attr = *got;
  std::string out;
  Append(&out, "pos:\t%lli\nflags:\t0%o\nmnt_id:\t%i\nino:\t%llu\n",
         static_cast<long long>(position), flags,
         file->path().mount ? file->path().mount->id() : 0,
         static_cast<unsigned long long>(attr.ino));
  if (file->inode() != nullptr) {
    int number = 0;
    auto wanted = [&](const vfs::RecordLock& l) {
      return l.owner == file.get() || l.owner == fds.get();
    };
    for (const std::string& line : LockLines(*file->inode(), attr, o.mount(), wanted))
      absl::StrAppend(&out, "lock:\t", ++number, ": ", line);
  }
  out += file->FdInfo();
  return out;
}

constexpr Entry kFdEntry = MagicLink<FdText, FdPath>("");
constexpr Entry kFdinfoEntry = File<ReadFdinfo>("", 0444);

template <const Entry& kEntry>
Result<Child> LookupFd(CallContext&, TaskObject& o, absl::string_view name) {
  const int64_t fd = NumberFromName(name);
  if (fd < 0 || fd > INT32_MAX) return Errno::kENOENT;
  auto child = MakeRef<FdObject>(o, static_cast<int32_t>(fd));
  if (!child->Exists()) return Errno::kENOENT;
  return Child{&kEntry, std::move(child)};
}

template <const Entry& kEntry>
Result<void> ListFds(CallContext&, TaskObject& o, uint64_t from, NameSink sink) {
  RefPtr<Task> task = o.FindTask();
  if (!task) return Errno::kENOENT;
  RefPtr<kernel::FdTable> fds = task->fd_table_ref();
  if (!fds) return {};
  for (int32_t fd : fds->Descriptors()) {
    if (static_cast<uint64_t>(fd) < from) continue;
    if (!sink(absl::StrCat(fd), kEntry, static_cast<uint64_t>(fd))) break;
  }
  return {};
}

}  // namespace

// There is no list of all locks: those of the files that any process has open.
Result<std::string> ReadLocks(CallContext& ctx, KernelObject& o) {
  std::vector<RefPtr<kernel::FdTable>> tables;
  {
    const std::vector<RefPtr<kernel::ThreadGroup>> groups = o.kernel().ThreadGroups();
    MutexLock lock(o.kernel().tasks_mu());
    for (const RefPtr<kernel::ThreadGroup>& g : groups)
      for (const RefPtr<Task>& t : g->tasks)
        if (RefPtr<kernel::FdTable> fds = t->fd_table_ref()) tables.push_back(std::move(fds));
  }
  std::sort(tables.begin(), tables.end(),
            [](const auto& a, const auto& b) { return a.get() < b.get(); });
  tables.erase(std::unique(tables.begin(), tables.end()), tables.end());
  absl::flat_hash_set<const vfs::Inode*> seen;
  std::string out;
  int number = 0;
  for (const RefPtr<kernel::FdTable>& fds : tables)
    for (int32_t fd : fds->Descriptors()) {
      auto file = fds->Get(fd);
      if (!file.ok() || (*file)->inode() == nullptr) continue;
      vfs::Inode& inode = *(*file)->inode();
      if (inode.locks_if_any() == nullptr || !seen.insert(&inode).second) continue;
      vfs::Attributes attr;
      if (Result<vfs::Attributes> got = (*file)->GetAttributes(ctx); got.ok()) attr = *got;
      for (const std::string& line :
           LockLines(inode, attr, o, [](const vfs::RecordLock&) { return true; }))
        absl::StrAppend(&out, ++number, ": ", line);
    }
  return out;
}

// proc_fd_permission(): the threads of a group may look, whatever their ids have become.
Result<void> MayUseFdDirectory(CallContext& ctx, TaskObject& o, const vfs::Attributes& attr,
                               vfs::AccessMask access) {
  Result<void> generic = vfs::CheckAccess(ctx.creds(), attr, access);
  if (generic.ok()) return generic;
  RefPtr<Task> task = o.FindTask();
  Task* caller = CallerOf(ctx);
  if (task && caller != nullptr && &task->group() == &caller->group()) return {};
  return generic;
}

// proc_fdinfo_permission().
Result<void> MayInspectDirectory(CallContext& ctx, TaskObject& o, const vfs::Attributes& attr,
                                 vfs::AccessMask access) {
  RefPtr<Task> task = TRY(o.Get());
  TRY(MayInspect(ctx, *task));
  return vfs::CheckAccess(ctx.creds(), attr, access);
}

constinit const Directory kFdDirectory{.entries = {},
                                       .lookup = Adapt<LookupFd<kFdEntry>>::Call,
                                       .list = Adapt<ListFds<kFdEntry>>::Call};
constinit const Directory kFdinfoDirectory{.entries = {},
                                           .lookup = Adapt<LookupFd<kFdinfoEntry>>::Call,
                                           .list = Adapt<ListFds<kFdinfoEntry>>::Call};

}  // namespace caisson::procfs
