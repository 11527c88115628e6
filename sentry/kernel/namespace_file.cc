#include "sentry/kernel/namespace_file.h"

#include <optional>

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

const auth::UserNamespace* OwnerOf(const NamespaceRef& ns, Kernel& kernel) {
  switch (ns.type) {
    case kCloneNewuts: return &ns.uts->user_ns();
    case kCloneNewipc: return &ns.ipc->user_ns();
    case kCloneNewpid: return &ns.pid->user_ns();
    case kCloneNewcgroup: return &ns.cgroup->user_ns();
    case kCloneNewtime: return &ns.time->user_ns();
    case kCloneNewuser: return ns.user->parent();
    default:
      // The first ones are the sandbox's.
      return ns.mount_or_net_owner ? ns.mount_or_net_owner.get() : kernel.root_user_ns().get();
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
    case kCloneNewtime: return time->inode_number();
    default: return cgroup->inode_number();
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
    case kCloneNewtime: return "time";
    default: return "cgroup";
  }
}

std::string NamespaceRef::Text() const {
  return absl::StrCat(type_name(), ":[", inode_number(), "]");
}

Result<NamespaceRef> NamespaceOf(Task& task, uint64_t type, bool for_children) {
  NamespaceRef ns;
  ns.type = type;
  RefPtr<NamespaceSet> set = task.namespaces_ref();
  // An ended task has left its namespaces, but for those of its ids.
  const bool ended = task.mm_ref() == nullptr || !set;
  if (type == kCloneNewuser) {
    ns.user = task.creds_ref()->user_ns;
    return ns;
  }
  if (type == kCloneNewpid && !for_children) {
    ns.pid = RefPtr<PidNamespace>(&task.pid_ref()->ns());
    return ns;
  }
  if (ended) return Errno::kENOENT;
  switch (type) {
    case kCloneNewpid: ns.pid = set->pid_for_children; break;
    case kCloneNewns:
      ns.mount = set->mount;
      ns.mount_or_net_owner = set->mount_owner;
      break;
    case kCloneNewnet:
      ns.net = set->net;
      ns.mount_or_net_owner = set->net_owner;
      break;
    case kCloneNewuts: ns.uts = set->uts; break;
    case kCloneNewipc: ns.ipc = set->ipc; break;
    case kCloneNewcgroup: ns.cgroup = set->cgroup; break;
    case kCloneNewtime: ns.time = for_children ? set->time_for_children : set->time; break;
    default: return Errno::kEINVAL;
  }
  if (!ns.pid && !ns.mount && !ns.net && !ns.uts && !ns.ipc && !ns.cgroup && !ns.time)
    return Errno::kENOENT;
  return ns;
}

// validate_nsset() and the install functions of each kind of namespace. The user namespace comes
// first: the others are entered with the capabilities that it gives.
Result<void> EnterNamespaces(Task& task, const std::vector<NamespaceRef>& wanted) {
  using auth::Capability;
  Kernel& kernel = task.kernel();
  RefPtr<const auth::Credentials> creds = task.creds_ref();
  auto set = MakeRef<NamespaceSet>(task.namespaces());
  std::optional<vfs::VfsPath> root;
  bool leaves_ipc = false, single_threaded = !task.group().HasOtherThreads();
  for (const NamespaceRef& ns : wanted) {
    if (ns.type != kCloneNewuser) continue;
    if (ns.user == creds->user_ns || !single_threaded || task.fs().shared()) return Errno::kEINVAL;
    if (!creds->HasCapability(Capability::kSysAdmin, *ns.user)) return Errno::kEPERM;
    auto now = MakeRef<auth::Credentials>(*creds);
    now->user_ns = ns.user;
    now->permitted = now->effective = now->bounding = auth::kAllCapabilities;
    now->inheritable = now->ambient = 0;
    now->securebits = 0;
    creds = RefPtr<const auth::Credentials>(now);
  }
  for (const NamespaceRef& ns : wanted) {
    if (ns.type == kCloneNewuser) continue;
    if (!creds->HasCapability(Capability::kSysAdmin, *OwnerOf(ns, kernel)) ||
        !creds->HasCapability(Capability::kSysAdmin))
      return Errno::kEPERM;
    switch (ns.type) {
      case kCloneNewns:
        if (!creds->HasCapability(Capability::kSysChroot)) return Errno::kEPERM;
        // Together with others it moves all who share root and cwd: prepare_nsset() makes a copy, which is
        // nobody else's, and commit_nsset() stores what it has.
        if (wanted.size() == 1 && task.fs().shared()) return Errno::kEINVAL;
        set->mount = ns.mount;
        set->mount_owner = ns.mount_or_net_owner;
        root = ns.mount->root();
        break;
      case kCloneNewuts: set->uts = ns.uts; break;
      case kCloneNewipc:
        leaves_ipc = set->ipc != ns.ipc;
        set->ipc = ns.ipc;
        break;
      case kCloneNewnet:
        set->net = ns.net;
        set->net_owner = ns.mount_or_net_owner;
        break;
      case kCloneNewcgroup: set->cgroup = ns.cgroup; break;
      case kCloneNewpid:
        // Only downwards: a process cannot get out of what its ids are in.
        if (!ns.pid->IsWithin(task.pid_namespace())) return Errno::kEINVAL;
        set->pid_for_children = ns.pid;
        break;
      case kCloneNewtime:
        if (!single_threaded) return Errno::kEUSERS;
        ns.time->Freeze();
        TRY(task.ReplaceVdso(task.mm(), *ns.time));
        set->time = set->time_for_children = ns.time;
        break;
      default: return Errno::kEINVAL;
    }
  }
  if (leaves_ipc) task.DropSemUndo();
  if (root) {
    task.fs().set_root(*root);
    task.fs().set_cwd(*root);
  }
  task.set_namespaces(std::move(set));
  if (creds != task.creds_ref()) task.CommitCreds(std::move(creds));
  return {};
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
      const auth::UserNamespace* owner = OwnerOf(ns_, task->kernel());
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
