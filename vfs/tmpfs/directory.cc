#include "vfs/tmpfs/directory.h"

#include <algorithm>
#include <limits>

#include "vfs/permission.h"
#include "vfs/tmpfs/file.h"
#include "vfs/tmpfs/regular_file.h"

namespace caisson::vfs::tmpfs {
namespace {

constexpr uint64_t kEntrySize = 20;  // What Linux's tmpfs counts for a name (BOGO_DIRENT_SIZE).

bool IsDirectory(const Node& node) { return node.is_directory(); }

}  // namespace

Directory::Directory(TmpfsFileSystem& fs, FileMode mode, uint32_t uid, uint32_t gid)
    : Node(fs, kModeDirectory | (mode & kModePermissions), uid, gid) {
  MutexLock lock(mu_);
  nlink_ = 2;
}

// A tree as deep as a guest likes must not end by recursion: children that only we hold are
// emptied first, one level after the other.
Directory::~Directory() {
  std::vector<RefPtr<Inode>> doomed = TakeAll();
  while (!doomed.empty()) {
    RefPtr<Inode> inode = std::move(doomed.back());
    doomed.pop_back();
    if (!inode->is_directory() || inode->ref_count() != 1) continue;
    for (RefPtr<Inode>& child : static_cast<Directory&>(*inode).TakeAll())
      doomed.push_back(std::move(child));
  }
}

std::vector<RefPtr<Inode>> Directory::TakeAll() {
  std::vector<RefPtr<Inode>> all;
  MutexLock lock(mu_);
  index_.clear();
  for (auto& [cookie, entry] : entries_) all.push_back(std::move(entry.node));
  entries_.clear();
  return all;
}

void Directory::FillLocked(Attributes& attr) {
  attr.size = kEntrySize * (entries_.size() + 2);
  attr.nlink = removed_ ? 0 : 2 + subdirectories_;
}

Attributes Directory::OwnAttributes() const {
  MutexLock lock(mu_);
  Attributes attr;
  attr.mode = mode_;
  attr.uid = uid_;
  attr.gid = gid_;
  return attr;
}

void Directory::InsertLocked(absl::string_view name, RefPtr<Node> node) {
  if (IsDirectory(*node)) ++subdirectories_;
  auto it = entries_.emplace_hint(entries_.end(), next_cookie_,
                                  Entry{std::string(name), std::move(node)});
  index_.emplace(it->second.name, next_cookie_);
  ++next_cookie_;
  TouchModifiedLocked();
}

RefPtr<Node> Directory::EraseLocked(absl::string_view name) {
  auto found = index_.find(name);
  if (found == index_.end()) return nullptr;
  auto it = entries_.find(found->second);
  index_.erase(found);
  RefPtr<Node> node = std::move(it->second.node);
  entries_.erase(it);
  if (IsDirectory(*node)) --subdirectories_;
  TouchModifiedLocked();
  return node;
}

bool Directory::TryRemove() {
  MutexLock lock(mu_);
  if (!entries_.empty()) return false;
  removed_ = true;
  ctime_ = Now();
  return true;
}

Result<RefPtr<Inode>> Directory::Lookup(CallContext& ctx, absl::string_view name) {
  MutexLock lock(mu_);
  auto it = index_.find(name);
  if (it == index_.end()) return Errno::kENOENT;
  return RefPtr<Inode>(entries_.find(it->second)->second.node);
}

template <typename Make>
Result<RefPtr<Inode>> Directory::AddNew(absl::string_view name, bool is_directory, Make make) {
  if (!fs_.ChargeInode()) return Errno::kENOSPC;
  RefPtr<Node> node = make();  // Gives the charge back when it goes.
  MutexLock lock(mu_);
  if (removed_) return Errno::kENOENT;  // rmdir(2) won the race; the walk held only the dentry.
  if (index_.contains(name)) return Errno::kEEXIST;
  InsertLocked(name, node);
  return RefPtr<Inode>(std::move(node));
}

Result<RefPtr<Inode>> Directory::Create(CallContext& ctx, absl::string_view name, FileMode mode) {
  NewOwner owner = OwnerFor(ctx.creds(), OwnAttributes(), mode);
  return AddNew(name, false, [&] {
    return MakeRef<RegularFile>(fs_, owner.mode, owner.uid, owner.gid);
  });
}

Result<RefPtr<Inode>> Directory::Mkdir(CallContext& ctx, absl::string_view name, FileMode mode) {
  NewOwner owner = OwnerFor(ctx.creds(), OwnAttributes(), kModeDirectory | mode);
  return AddNew(name, true, [&] {
    return MakeRef<Directory>(fs_, owner.mode, owner.uid, owner.gid);
  });
}

Result<RefPtr<Inode>> Directory::Symlink(CallContext& ctx, absl::string_view name,
                                         absl::string_view target) {
  NewOwner owner = OwnerFor(ctx.creds(), OwnAttributes(), kModeLink | 0777);
  return AddNew(name, false, [&] {
    return MakeRef<class Link>(fs_, owner.uid, owner.gid, target);
  });
}

Result<RefPtr<Inode>> Directory::Mknod(CallContext& ctx, absl::string_view name, FileMode mode,
                                       DeviceNumber rdev) {
  NewOwner owner = OwnerFor(ctx.creds(), OwnAttributes(), mode);
  return AddNew(name, false, [&] {
    return MakeRef<Special>(fs_, owner.mode, owner.uid, owner.gid, rdev);
  });
}

Result<void> Directory::Link(CallContext& ctx, absl::string_view name, Inode& target) {
  auto& node = static_cast<Node&>(target);
  if (node.links() == std::numeric_limits<uint32_t>::max()) return Errno::kEMLINK;
  // Linux charges a name too (shmem_link()); the name's node stays charged once here.
  {
    MutexLock lock(mu_);
    if (removed_) return Errno::kENOENT;
    if (index_.contains(name)) return Errno::kEEXIST;
    InsertLocked(name, RefPtr<Node>(&node));
  }
  node.AddLinks(1);
  return {};
}

Result<void> Directory::Unlink(CallContext& ctx, absl::string_view name, Inode& victim) {
  RefPtr<Node> node;
  {
    MutexLock lock(mu_);
    node = EraseLocked(name);
  }
  if (node == nullptr) return Errno::kENOENT;
  node->AddLinks(-1);
  return {};
}

Result<void> Directory::Rmdir(CallContext& ctx, absl::string_view name, Inode& victim) {
  if (!static_cast<Directory&>(victim).TryRemove()) return Errno::kENOTEMPTY;
  RefPtr<Node> node;
  MutexLock lock(mu_);
  node = EraseLocked(name);
  return {};
}

// The caller holds both directories' directory_lock(), so names do not change between the steps;
// readers of one directory never see half of a step.
Result<void> Directory::Rename(CallContext& ctx, absl::string_view old_name, Inode& source,
                               Inode& new_dir, absl::string_view new_name, Inode* victim,
                               uint32_t flags) {
  auto& to = static_cast<Directory&>(new_dir);
  RefPtr<Node> moved, replaced, whiteout;  // Released after the locks.
  if ((flags & kRenameExchange) != 0) {
    if (victim == nullptr) return Errno::kENOENT;
    auto swap_in = [](Directory& dir, absl::string_view name, RefPtr<Node> node) {
      RefPtr<Node> old;
      MutexLock lock(dir.mu_);
      Entry& entry = dir.entries_.find(dir.index_.find(name)->second)->second;
      if (IsDirectory(*entry.node)) --dir.subdirectories_;
      if (IsDirectory(*node)) ++dir.subdirectories_;
      old = std::exchange(entry.node, std::move(node));
      dir.TouchModifiedLocked();
    };
    RefPtr<Node> a(static_cast<Node*>(&source)), b(static_cast<Node*>(victim));
    swap_in(*this, old_name, b);
    swap_in(to, new_name, a);
    a->AddLinks(0);  // ctime.
    b->AddLinks(0);
    return {};
  }
  if ((flags & kRenameWhiteout) != 0) {
    if (!fs_.ChargeInode()) return Errno::kENOSPC;
    NewOwner owner = OwnerFor(ctx.creds(), OwnAttributes(), kModeChar);
    whiteout = MakeRef<Special>(fs_, kModeChar, owner.uid, owner.gid, DeviceNumber{});
  }
  {
    MutexLock lock(to.mu_);
    if (to.removed_) return Errno::kENOENT;
  }
  if (victim != nullptr && victim->is_directory() &&
      !static_cast<Directory*>(victim)->TryRemove())
    return Errno::kENOTEMPTY;
  {
    MutexLock lock(mu_);
    moved = EraseLocked(old_name);
    if (moved == nullptr) return Errno::kENOENT;
    if (whiteout != nullptr) InsertLocked(old_name, whiteout);
  }
  {
    MutexLock lock(to.mu_);
    if (victim != nullptr) replaced = to.EraseLocked(new_name);
    to.InsertLocked(new_name, moved);
  }
  moved->AddLinks(0);
  if (replaced != nullptr && !replaced->is_directory()) replaced->AddLinks(-1);
  return {};
}

Result<RefPtr<Inode>> Directory::CreateUnlinked(CallContext& ctx, FileMode mode) {
  NewOwner owner = OwnerFor(ctx.creds(), OwnAttributes(), mode);
  if (!fs_.ChargeInode()) return Errno::kENOSPC;
  auto file = MakeRef<RegularFile>(fs_, owner.mode, owner.uid, owner.gid);
  file->AddLinks(-1);
  return RefPtr<Inode>(std::move(file));
}

std::vector<Directory::EntryInfo> Directory::List(uint64_t from, uint64_t below,
                                                  size_t max) const {
  std::vector<EntryInfo> list;
  MutexLock lock(mu_);
  for (auto it = entries_.lower_bound(from);
       it != entries_.end() && it->first < below && list.size() < max; ++it) {
    const Node& node = *it->second.node;
    list.push_back({it->second.name, node.ino(), node.type(), it->first});
  }
  return list;
}

uint64_t Directory::next_cookie() const {
  MutexLock lock(mu_);
  return next_cookie_;
}

Result<RefPtr<FileDescription>> Directory::Open(CallContext& ctx, const OpenArgs& args) {
  return RefPtr<FileDescription>(
      MakeRef<DirectoryFile>(args.path, RefPtr<Directory>(this), args.flags));
}

}  // namespace caisson::vfs::tmpfs
