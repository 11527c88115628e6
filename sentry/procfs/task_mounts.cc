// /proc/PID/mounts, mountinfo, mountstats (Linux fs/proc_namespace.c): as seen by that task when
// the file is opened; poll(2) tells of changes with EPOLLERR | EPOLLPRI.
#include "sentry/procfs/task_files.h"

namespace caisson::procfs {
namespace {

using vfs::MountNamespace;

class MountsFile final : public vfs::SeekableFile {
 public:
  MountsFile(const vfs::OpenArgs& args, vfs::Inode& inode, RefPtr<MountNamespace> ns,
             vfs::VfsPath root, MountNamespace::Format format)
      : SeekableFile(vfs::FileKind::kGenerated, args.path, RefPtr<vfs::Inode>(&inode), args.flags),
        ns_(std::move(ns)),
        root_(std::move(root)),
        format_(format),
        seen_(ns_->generation()) {}

  Result<size_t> PRead(CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t) override {
    MutexLock lock(mu_);
    if (!made_ || offset == 0) {
      text_ = ns_->Show(ctx, format_, root_);
      made_ = true;
    }
    if (offset >= text_.size()) return size_t{0};
    return to.Put({text_.data() + offset, text_.size() - static_cast<size_t>(offset)});
  }
  Result<int64_t> Seek(CallContext& ctx, int64_t offset, int whence) override {
    if (whence != 0 && whence != 1) return Errno::kEINVAL;
    return SeekableFile::Seek(ctx, offset, whence);
  }
  // mounts_poll(): each change is told once.
  EventMask Readiness(EventMask mask) override {
    EventMask events = kReadable;
    const uint64_t now = ns_->generation();
    if (seen_.exchange(now, std::memory_order_relaxed) != now) events |= kEventErr | kEventPri;
    return events & (mask | kEventErr);
  }
  WaitQueue* EventQueue() override { return &ns_->change_queue(); }

 private:
  const RefPtr<MountNamespace> ns_;
  const vfs::VfsPath root_;
  const MountNamespace::Format format_;
  std::atomic<uint64_t> seen_;  // Relaxed: a number that is compared.
  Mutex mu_;
  bool made_ ABSL_GUARDED_BY(mu_) = false;
  std::string text_ ABSL_GUARDED_BY(mu_);
};

Result<RefPtr<vfs::FileDescription>> OpenAs(TaskObject& o, const vfs::OpenArgs& args,
                                            vfs::Inode& inode, MountNamespace::Format format) {
  RefPtr<Task> task = o.FindTask();
  if (!task) return Errno::kEINVAL;
  RefPtr<kernel::NamespaceSet> namespaces = task->namespaces_ref();
  if (!namespaces || !namespaces->mount) return Errno::kEINVAL;
  RefPtr<kernel::FsContext> fs = task->fs_ref();
  if (!fs) return Errno::kENOENT;
  return RefPtr<vfs::FileDescription>(
      MakeRef<MountsFile>(args, inode, namespaces->mount, fs->root(), format));
}

}  // namespace

Result<RefPtr<vfs::FileDescription>> OpenMounts(CallContext&, TaskObject& o,
                                                const vfs::OpenArgs& args, vfs::Inode& inode) {
  return OpenAs(o, args, inode, MountNamespace::Format::kMounts);
}
Result<RefPtr<vfs::FileDescription>> OpenMountinfo(CallContext&, TaskObject& o,
                                                   const vfs::OpenArgs& args, vfs::Inode& inode) {
  return OpenAs(o, args, inode, MountNamespace::Format::kMountinfo);
}
Result<RefPtr<vfs::FileDescription>> OpenMountstats(CallContext&, TaskObject& o,
                                                    const vfs::OpenArgs& args, vfs::Inode& inode) {
  return OpenAs(o, args, inode, MountNamespace::Format::kMountstats);
}

}  // namespace caisson::procfs
