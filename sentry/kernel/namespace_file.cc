#include "sentry/kernel/namespace_file.h"

#include "absl/strings/str_cat.h"
#include "netstack/sockets/sockets.h"
#include "sentry/ipc/namespace.h"
#include "sentry/kernel/kernel.h"
#include "vfs/operations.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kNsfsMagic = 0x6e736673;
constexpr uint32_t kNsGetUserns = 0xb701, kNsGetParent = 0xb702, kNsGetNstype = 0xb703,
                   kNsGetOwnerUid = 0xb704;

class NamespaceInode final : public vfs::Inode {
 public:
  NamespaceInode(vfs::FileSystem& fs, const NamespaceRef& ns)
      : Inode(fs, vfs::kModeRegular), ns_(ns) {}
  Result<vfs::Attributes> GetAttributes(vfs::CallContext&) override {
    vfs::Attributes attr;
    attr.ino = ns_.inode_number();
    attr.mode = vfs::kModeRegular | 0444;
    attr.dev = fs().device();
    attr.atime = attr.mtime = attr.ctime = made_;
    return attr;
  }
  Result<RefPtr<vfs::FileDescription>> Open(vfs::CallContext&, const vfs::OpenArgs& args) override {
    return RefPtr<vfs::FileDescription>(
        MakeRef<NamespaceFile>(args, RefPtr<vfs::Inode>(this), ns_));
  }

 private:
  const NamespaceRef ns_;
  const vfs::Timestamp made_ = vfs::Timestamp::FromNanoseconds(time::RealtimeNow());
};

class RootInode final : public vfs::Inode {
 public:
  explicit RootInode(vfs::FileSystem& fs) : Inode(fs, vfs::kModeDirectory) {}
  Result<vfs::Attributes> GetAttributes(vfs::CallContext&) override {
    vfs::Attributes attr;
    attr.ino = 1;
    attr.mode = vfs::kModeDirectory | 0555;
    attr.dev = fs().device();
    return attr;
  }
  Result<RefPtr<vfs::FileDescription>> Open(vfs::CallContext&, const vfs::OpenArgs&) override {
    return Errno::kENXIO;
  }
};

class NamespaceFileSystem final : public vfs::FileSystem {
 public:
  NamespaceFileSystem() : FileSystem("nsfs") {}
  RefPtr<vfs::Inode> root() override { return MakeRef<RootInode>(*this); }
  Result<vfs::FsStatistics> Statistics(vfs::CallContext&) override {
    vfs::FsStatistics s;
    s.type = kNsfsMagic;
    return s;
  }
};

// Mount and network namespaces do not keep their owner: it is the sandbox's root here.
const auth::UserNamespace* OwnerOf(const NamespaceRef& ns, Task& task) {
  switch (ns.type) {
    case kCloneNewuts: return &ns.uts->user_ns();
    case kCloneNewipc: return &ns.ipc->user_ns();
    case kCloneNewpid: return &ns.pid->user_ns();
    case kCloneNewuser: return ns.user->parent();
    default: return task.kernel().root_user_ns().get();
  }
}

Result<int64_t> OpenNamespace(Task& task, const NamespaceRef& ns) {
  vfs::VfsPath path = task.kernel().namespace_files().PathOf(ns);
  RefPtr<vfs::FileDescription> file = TRY(vfs::OpenPath(task, path, vfs::kOpenReadOnly));
  int32_t fd = TRY(task.fd_table().Install(std::move(file), 0,
                                           task.group().limits().soft(kRlimitNofile), true));
  return fd;
}

}  // namespace

NamespaceRef::NamespaceRef() = default;
NamespaceRef::NamespaceRef(const NamespaceRef&) = default;
NamespaceRef::~NamespaceRef() = default;

uint64_t NamespaceRef::inode_number() const {
  switch (type) {
    case kCloneNewns: return mount->inode_number();
    case kCloneNewuts: return uts->inode_number();
    case kCloneNewipc: return ipc->inode_number();
    case kCloneNewnet: return net->inode_number();
    case kCloneNewpid: return pid->inode_number();
    case kCloneNewuser: return user->inode_number();
    default: return kCgroupNamespaceInode;
  }
}

const char* NamespaceRef::type_name() const {
  switch (type) {
    case kCloneNewns: return "mnt";
    case kCloneNewuts: return "uts";
    case kCloneNewipc: return "ipc";
    case kCloneNewnet: return "net";
    case kCloneNewpid: return "pid";
    case kCloneNewuser: return "user";
    default: return "cgroup";
  }
}

std::string NamespaceRef::Text() const {
  return absl::StrCat(type_name(), ":[", inode_number(), "]");
}

// ioctl_ns(2); Linux fs/nsfs.c, ns_ioctl().
Result<int64_t> NamespaceFile::Ioctl(vfs::CallContext& ctx, uint32_t request, uint64_t arg) {
  auto* task = static_cast<Task*>(ctx.owner());
  if (task == nullptr) return Errno::kENOTTY;
  const auth::UserNamespace& caller = *task->creds().user_ns;
  switch (request) {
    case kNsGetNstype:
      return static_cast<int64_t>(ns_.type);
    case kNsGetOwnerUid:
      if (ns_.type != kCloneNewuser) return Errno::kEINVAL;
      TRY(ctx.CopyOutObject(GuestAddr(arg), caller.FromKernelUid(ns_.user->owner_uid())));
      return 0;
    case kNsGetUserns:
    case kNsGetParent: {
      NamespaceRef up;
      if (request == kNsGetParent && ns_.type == kCloneNewpid) {
        if (!ns_.pid->parent() || !ns_.pid->parent()->IsWithin(task->pid_namespace()))
          return Errno::kEPERM;
        up.type = kCloneNewpid;
        up.pid = ns_.pid->parent();
        return OpenNamespace(*task, up);
      }
      if (request == kNsGetParent && ns_.type != kCloneNewuser) return Errno::kEINVAL;
      const auth::UserNamespace* owner = OwnerOf(ns_, *task);
      if (owner == nullptr || !owner->IsWithin(caller)) return Errno::kEPERM;
      up.type = kCloneNewuser;
      up.user = RefPtr<auth::UserNamespace>(const_cast<auth::UserNamespace*>(owner));
      return OpenNamespace(*task, up);
    }
    default:
      return Errno::kENOTTY;
  }
}

NamespaceFiles::NamespaceFiles()
    : fs_(MakeRef<NamespaceFileSystem>()),
      mount_(MakeRef<vfs::Mount>(fs_, vfs::Dentry::NewRoot(fs_->root()), uint64_t{0}, "nsfs")) {}

vfs::VfsPath NamespaceFiles::PathOf(const NamespaceRef& ns) const {
  return vfs::VfsPath(mount_,
                      vfs::Dentry::NewRoot(MakeRef<NamespaceInode>(*fs_, ns), ns.Text()));
}

}  // namespace caisson::kernel
