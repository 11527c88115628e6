#include "sentry/boot/container_mounts.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/status.h"
#include "sentry/kernel/kernel_context.h"
#include "sentry/procfs/register.h"
#include "vfs/dev/devtmpfs.h"
#include "vfs/gofer/filesystem.h"
#include "vfs/operations.h"
#include "vfs/overlay/overlay.h"
#include "vfs/tmpfs/filesystem.h"

namespace caisson::boot {
namespace {

using protocol::Mount;

absl::Status Failed(absl::string_view what, absl::string_view path, Errno e) {
  return absl::InvalidArgumentError(absl::StrCat(what, " ", path, ": ", ErrnoName(e)));
}

class Builder {
 public:
  Builder(kernel::Kernel& kernel, vfs::GoferWatcher& watcher, vfs::GoferDevices& devices, const protocol::Container& container,
          RefPtr<kernel::PidNamespace> pid_ns, RefPtr<vfs::FileSystem> queues, std::vector<UniqueFd> sockets)
      : kernel_(kernel),
        watcher_(watcher),
        devices_(devices),
        container_(container),
        pid_ns_(std::move(pid_ns)),
        queues_(std::move(queues)),
        sockets_(std::move(sockets)) {
    auto creds = MakeRef<auth::Credentials>(kernel.root_user_ns());
    creds->permitted = creds->effective = auth::kAllCapabilities;
    creds_ = RefPtr<const auth::Credentials>(creds);
  }

  absl::StatusOr<MountedContainer> Build();

 private:
  absl::StatusOr<RefPtr<vfs::FileSystem>> NewFileSystem(const Mount& mount);
  absl::StatusOr<RefPtr<vfs::FileSystem>> NewGofer(const Mount& mount);
  absl::Status MountAt(const Mount& mount);
  // Makes the directories of `path` that are missing, and the file itself if `is_file`.
  absl::StatusOr<vfs::VfsPath> MakeTarget(const std::string& path, bool is_file);
  absl::Status MaskPath(const std::string& path);
  absl::Status ProtectPath(const std::string& path);
  kernel::KernelContext& ctx() { return *ctx_; }

  kernel::Kernel& kernel_;
  vfs::GoferWatcher& watcher_;
  vfs::GoferDevices& devices_;
  const protocol::Container& container_;
  const RefPtr<kernel::PidNamespace> pid_ns_;
  const RefPtr<vfs::FileSystem> queues_;
  std::vector<UniqueFd> sockets_;
  RefPtr<const auth::Credentials> creds_;
  MountedContainer out_;
  std::unique_ptr<kernel::KernelContext> ctx_;
};

absl::StatusOr<RefPtr<vfs::FileSystem>> Builder::NewGofer(const Mount& mount) {
  if (mount.gofer_index() >= sockets_.size() || !sockets_[mount.gofer_index()])
    return absl::InvalidArgumentError(absl::StrCat("mount ", mount.destination(), ": no gofer connection"));
  vfs::GoferOptions options;
  options.watcher = &watcher_;
  options.devices = &devices_;
  options.mount_options = "";
  options.unwatched_looks = 128;
  // Bind mounts are shared with the host and with other containers; the root is not.
  options.host_locks = mount.destination() != "/";
  auto fs = vfs::GoferFileSystem::Mount(std::move(sockets_[mount.gofer_index()]), options);
  if (!fs.ok()) return Failed("mount", mount.destination(), fs.error());
  return std::move(*fs);
}

absl::StatusOr<RefPtr<vfs::FileSystem>> Builder::NewFileSystem(const Mount& mount) {
  auto by_kind = [&](absl::string_view type, const Mount& as) -> absl::StatusOr<RefPtr<vfs::FileSystem>> {
    const kernel::FileSystemTypes::Type* t = kernel_.file_system_types().Find(type);
    if (t == nullptr)
      return absl::UnimplementedError(absl::StrCat("mount ", mount.destination(), ": no file system type ", type));
    // The root of the tree has no namespace yet: its maker gets none to look at.
    auto fs = t->make(ctx(), as.source(), as.data());
    if (!fs.ok()) return Failed("mount", as.destination(), fs.error());
    return std::move(*fs);
  };
  auto by_type = [&](absl::string_view type) { return by_kind(type, mount); };
  absl::StatusOr<RefPtr<vfs::FileSystem>> fs;
  switch (mount.kind()) {
    case Mount::GOFER: fs = NewGofer(mount); break;
    case Mount::TMPFS:
    case Mount::SHM: fs = by_type("tmpfs"); break;
    case Mount::DEVTMPFS: fs = by_type("tmpfs"); break;  // Build() puts the nodes into it.
    case Mount::PROC: {
      auto made = procfs::NewProcFileSystem(kernel_, pid_ns_, mount.data());
      if (!made.ok()) return Failed("mount", mount.destination(), made.error());
      fs = std::move(*made);
      break;
    }
    case Mount::SYSFS: fs = by_type("sysfs"); break;
    case Mount::DEVPTS: {
      fs = by_type("devpts");
      if (fs.ok()) out_.devpts = StaticRefCast<vfs::tty::DevptsFileSystem>(*fs);
      break;
    }
    case Mount::MQUEUE: fs = queues_; break;
    case Mount::CGROUP: {
      // Whatever the engine's host has, and the options of its version 1 ("none,name=systemd").
      Mount plain = mount;
      plain.clear_data();
      fs = by_kind("cgroup2", plain);
      break;
    }
    default:
      return absl::InvalidArgumentError(absl::StrCat("mount ", mount.destination(), ": unknown kind"));
  }
  if (fs.ok() && mount.overlay() == Mount::MEMORY) {
    ASSIGN_OR_RETURN(RefPtr<vfs::FileSystem> memory, by_type("tmpfs"));
    auto overlay = vfs::overlay::MakeMemoryOverlay(ctx(), *fs, std::move(memory));
    if (!overlay.ok()) return Failed("overlay over", mount.destination(), overlay.error());
    return std::move(*overlay);
  }
  return fs;
}

absl::StatusOr<vfs::VfsPath> Builder::MakeTarget(const std::string& path, bool is_file) {
  vfs::WalkOptions options;
  auto at = vfs::Walk(ctx(), ctx().root(), path, options);
  if (at.ok()) return std::move(*at);
  if (at.error() != Errno::kENOENT) return Failed("mount point", path, at.error());
  std::string made;
  std::vector<std::string> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  for (size_t i = 0; i < parts.size(); ++i) {
    absl::StrAppend(&made, "/", parts[i]);
    bool file = is_file && i + 1 == parts.size();
    Result<void> r;
    if (file) {
      auto opened = vfs::Open(ctx(), ctx().root(), made, vfs::kOpenCreate | vfs::kOpenWriteOnly, 0644);
      if (!opened.ok()) r = opened.error();
    } else {
      r = vfs::Mkdir(ctx(), ctx().root(), made, 0755);
    }
    if (!r.ok() && r.error() != Errno::kEEXIST) return Failed("creating mount point", made, r.error());
  }
  at = vfs::Walk(ctx(), ctx().root(), path, options);
  if (!at.ok()) return Failed("mount point", path, at.error());
  return std::move(*at);
}

absl::Status Builder::MountAt(const Mount& mount) {
  ASSIGN_OR_RETURN(vfs::VfsPath at, MakeTarget(mount.destination(), mount.is_file()));
  absl::StatusOr<RefPtr<vfs::FileSystem>> fs = NewFileSystem(mount);
  if (!fs.ok() && absl::IsUnimplemented(fs.status())) {
    LOG_WARNING(fs.status().message(), ": left out");
    return absl::OkStatus();
  }
  if (!fs.ok()) return fs.status();
  auto added = out_.ns->Add(std::move(*fs), at, mount.flags() & vfs::kMountFlagsMask, mount.source());
  if (!added.ok()) return Failed("mount", mount.destination(), added.error());
  return absl::OkStatus();
}

absl::Status Builder::MaskPath(const std::string& path) {
  auto at = vfs::Walk(ctx(), ctx().root(), path, {});
  if (!at.ok()) return absl::OkStatus();  // Nothing to mask (OCI runtime spec, maskedPaths).
  RefPtr<vfs::Inode> inode = at->dentry->inode();
  if (inode && inode->is_directory()) {
    auto fs = vfs::tmpfs::TmpfsFileSystem::New("size=0,mode=755");
    if (!fs.ok()) return Failed("masking", path, fs.error());
    auto added = out_.ns->Add(*fs, *at, vfs::kMountReadOnly | vfs::kMountRelatime, "tmpfs");
    if (!added.ok()) return Failed("masking", path, added.error());
    return absl::OkStatus();
  }
  auto null = vfs::Walk(ctx(), ctx().root(), "/dev/null", {});
  if (!null.ok()) return Failed("masking (no /dev/null)", path, null.error());
  Result<void> bound = out_.ns->Bind(*null, *at, false);
  if (!bound.ok()) return Failed("masking", path, bound.error());
  return absl::OkStatus();
}

absl::Status Builder::ProtectPath(const std::string& path) {
  auto at = vfs::Walk(ctx(), ctx().root(), path, {});
  if (!at.ok()) return absl::OkStatus();
  uint64_t flags = at->mount->flags();
  Result<void> bound = out_.ns->Bind(*at, *at, true);
  if (!bound.ok()) return Failed("read-only path", path, bound.error());
  auto again = vfs::Walk(ctx(), ctx().root(), path, {});
  if (!again.ok()) return Failed("read-only path", path, again.error());
  Result<void> remounted = out_.ns->RemountFlags(*again, flags | vfs::kMountReadOnly);
  if (!remounted.ok()) return Failed("read-only path", path, remounted.error());
  return absl::OkStatus();
}

absl::StatusOr<MountedContainer> Builder::Build() {
  if (container_.mounts_size() == 0 || container_.mounts(0).destination() != "/")
    return absl::InvalidArgumentError("the first mount is not the root");
  const Mount& root = container_.mounts(0);
  // A context needs a root before there is one: an empty tmpfs stands in.
  auto scratch = vfs::tmpfs::TmpfsFileSystem::New("mode=755");
  if (!scratch.ok()) return Failed("root", "/", scratch.error());
  auto use = [this](RefPtr<vfs::MountNamespace> ns) {
    ns->set_devices(&kernel_.devices());
    auto fs = MakeRef<kernel::FsContext>(ns->root(), ns->root(), 0);
    ctx_ = std::make_unique<kernel::KernelContext>(creds_, fs, ns);
  };
  use(vfs::MountNamespace::New(*scratch, 0, "none"));
  ASSIGN_OR_RETURN(RefPtr<vfs::FileSystem> fs, NewFileSystem(root));
  out_.ns = vfs::MountNamespace::New(std::move(fs), root.flags() & vfs::kMountFlagsMask, root.source().empty() ? "rootfs" : root.source());
  use(out_.ns);
  for (int i = 1; i < container_.mounts_size(); ++i) RETURN_IF_ERROR(MountAt(container_.mounts(i)));
  // A bundle that mounts something of its own at /dev, or nothing, gets the standard nodes there.
  auto dev = vfs::Walk(ctx(), ctx().root(), "/dev", {});
  std::vector<vfs::dev::DeviceNode> extra;
  for (const protocol::Device& d : container_.devices()) {
    absl::string_view path = d.path();
    if (absl::StartsWith(path, "/dev/"))
      extra.push_back({std::string(path.substr(5)), d.mode(), {d.major(), d.minor()}, d.uid(), d.gid()});
  }
  if (container_.init().terminal()) extra.push_back({"console", vfs::kModeChar | 0620, {5, 1}, 0, 5});
  if (dev.ok()) {
    Result<void> populated = vfs::dev::PopulateDev(ctx(), *dev->dentry, extra);
    if (!populated.ok()) LOG_WARNING("/dev: ", ErrnoName(populated.error()));
  }
  for (const std::string& path : container_.masked_paths()) RETURN_IF_ERROR(MaskPath(path));
  for (const std::string& path : container_.readonly_paths()) RETURN_IF_ERROR(ProtectPath(path));
  if (container_.root_readonly()) {
    Result<void> ro = out_.ns->RemountFlags(out_.ns->root(), (root.flags() & vfs::kMountFlagsMask) | vfs::kMountReadOnly);
    if (!ro.ok()) return Failed("read-only root", "/", ro.error());
  }
  if (!out_.devpts)
    out_.devpts = MakeRef<vfs::tty::DevptsFileSystem>(kernel_.job_control(), vfs::tty::DevptsFileSystem::Options());
  return std::move(out_);
}

}  // namespace

absl::StatusOr<MountedContainer> MountContainer(kernel::Kernel& kernel, vfs::GoferWatcher& watcher, vfs::GoferDevices& devices,
                                                const protocol::Container& container,
                                                RefPtr<kernel::PidNamespace> pid_ns,
                                                RefPtr<vfs::FileSystem> queues,
                                                std::vector<UniqueFd> gofer_sockets) {
  return Builder(kernel, watcher, devices, container, std::move(pid_ns), std::move(queues), std::move(gofer_sockets)).Build();
}

}  // namespace caisson::boot
