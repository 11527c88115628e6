#include "vfs/mount.h"

#include <algorithm>
#include <atomic>

#include "vfs/device.h"
#include "vfs/mount_tree.h"

namespace caisson::vfs {
namespace {

// Unique in the process, which is more than a kernel needs.
std::atomic<int> g_next_mount_id{20};
// As Linux's: the first mount namespace, and those that count up from PROC_DYNAMIC_FIRST.
// Numbers of /proc/PID/ns/mnt: apart from those of other kinds of namespaces, which count up from
// Linux's PROC_DYNAMIC_FIRST (sentry/kernel) and 0xF1000000 (auth), since tools compare them.
std::atomic<uint64_t> g_next_inode{0xF2000000};

}  // namespace

Mount::Mount(RefPtr<FileSystem> fs, RefPtr<Dentry> root, uint64_t flags, std::string source)
    : fs_(std::move(fs)),
      root_(std::move(root)),
      flags_(flags & kMountFlagsMask),
      source_(std::move(source)),
      id_(g_next_mount_id.fetch_add(1, std::memory_order_relaxed)) {
  fs_->AddUser();
}

Mount::~Mount() {
  CHECK(peers_ == nullptr && master_ == nullptr && children_.empty());
  fs_->RemoveUser();
}

Result<void> Mount::BeginWrite() {
  // Pairs with RemountFlags(): one of the two sees the other.
  writers_.fetch_add(1, std::memory_order_seq_cst);
  if ((flags_.load(std::memory_order_seq_cst) & kMountReadOnly) != 0 || fs_->read_only()) {
    EndWrite();
    return Errno::kEROFS;
  }
  return {};
}

void Mount::EndWrite() { writers_.fetch_sub(1, std::memory_order_seq_cst); }

MountNamespace::MountNamespace(RefPtr<Shared> shared, RefPtr<const auth::UserNamespace> owner)
    : shared_(std::move(shared)),
      owner_(std::move(owner)),
      inode_number_(g_next_inode.fetch_add(1, std::memory_order_relaxed)) {}

RefPtr<MountNamespace> MountNamespace::New(RefPtr<FileSystem> root, uint64_t flags,
                                           std::string source) {
  auto ns = RefPtr<MountNamespace>::Adopt(new MountNamespace(MakeRef<Shared>(), nullptr));
  RefPtr<Dentry> dentry = root->RootDentry();
  // As NormalFlags() of mount_change.cc has it.
  if ((flags & (kMountNoatime | kMountStrictatime)) == 0) flags |= kMountRelatime;
  auto mount = MakeRef<Mount>(std::move(root), std::move(dentry), flags, std::move(source));
  WriterLock lock(MountTree::lock());
  ns->root_ = std::move(mount);
  MountTree::SetNamespace(*ns->root_, ns.get());
  return ns;
}

MountNamespace::~MountNamespace() {
  MountTree::Garbage garbage;
  WriterLock lock(MountTree::lock());
  garbage.push_back(root_);
  MountTree::UnmountTree(*root_, /*propagate=*/false, &garbage);
  garbage.push_back(std::move(root_));
}

VfsPath MountNamespace::root() const {
  ReaderLock lock(MountTree::lock());
  return MountTree::Topmost(VfsPath(root_, root_->root()));
}

void MountNamespace::set_devices(DeviceRegistry* devices) {
  shared_->devices.store(devices, std::memory_order_release);
}

DeviceRegistry* MountNamespace::devices() const {
  return shared_->devices.load(std::memory_order_acquire);
}

void MountNamespace::Changed() {
  shared_->change_count.fetch_add(1, std::memory_order_seq_cst);
  generation_.fetch_add(1, std::memory_order_release);
  change_queue_.Notify(kEventErr | kEventPri);
}

uint64_t MountNamespace::generation() const { return generation_.load(std::memory_order_acquire); }

uint64_t MountNamespace::change_count() const {
  return shared_->change_count.load(std::memory_order_seq_cst);
}

VfsPath MountNamespace::FollowMounts(VfsPath at) const {
  ReaderLock lock(MountTree::lock());
  return MountTree::Topmost(std::move(at));
}

VfsPath MountNamespace::MountpointOf(const Mount& mount) const {
  ReaderLock lock(MountTree::lock());
  if (mount.parent_ == nullptr) return VfsPath();
  return VfsPath(RefPtr<Mount>(mount.parent_), mount.mountpoint_);
}

bool MountNamespace::Contains(const Mount& mount) const {
  ReaderLock lock(MountTree::lock());
  return mount.ns_ == this;
}

std::vector<RefPtr<Mount>> MountNamespace::Mounts() const {
  std::vector<RefPtr<Mount>> mounts;
  ReaderLock lock(MountTree::lock());
  for (Mount* m : MountTree::Preorder(*root_)) mounts.emplace_back(m);
  std::sort(mounts.begin(), mounts.end(),
            [](const RefPtr<Mount>& a, const RefPtr<Mount>& b) { return a->id() < b->id(); });
  return mounts;
}

RefPtr<MountNamespace> MountNamespace::Clone(std::vector<VfsPath*> paths,
                                             RefPtr<const auth::UserNamespace> owner) {
  const bool less_privileged = owner != owner_;
  auto copy = RefPtr<MountNamespace>::Adopt(new MountNamespace(shared_, std::move(owner)));
  std::vector<VfsPath> old_places;  // Dropped after the lock.
  WriterLock lock(MountTree::lock());
  // The copies come in the order of the originals: both are walked in preorder.
  const unsigned flags = MountTree::kCopyUnbindable |
                         (less_privileged ? MountTree::kSlave : MountTree::kPlain);
  copy->root_ = MountTree::CopyTree(*shared_, *root_, root_->root(), flags).value();
  if (less_privileged) MountTree::LockTree(*copy->root_);
  MountTree::SetNamespace(*copy->root_, copy.get());
  std::vector<Mount*> from = MountTree::Preorder(*root_);
  std::vector<Mount*> to = MountTree::Preorder(*copy->root_);
  for (VfsPath* path : paths) {
    for (size_t i = 0; i < from.size(); ++i) {
      if (path->mount.get() != from[i]) continue;
      old_places.push_back(*path);
      path->mount = RefPtr<Mount>(to[i]);
      break;
    }
  }
  return copy;
}

}  // namespace caisson::vfs
