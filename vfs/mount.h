// Mounts and mount namespaces (mount_namespaces(7)).
#ifndef CAISSON_VFS_MOUNT_H_
#define CAISSON_VFS_MOUNT_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "auth/user_namespace.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "vfs/dentry.h"
#include "vfs/inode.h"

namespace caisson::vfs {

// MS_* of mount(2).
inline constexpr uint64_t kMountReadOnly = 1;
inline constexpr uint64_t kMountNosuid = 2;
inline constexpr uint64_t kMountNodev = 4;
inline constexpr uint64_t kMountNoexec = 8;
inline constexpr uint64_t kMountSynchronous = 16;
inline constexpr uint64_t kMountRemount = 32;
inline constexpr uint64_t kMountNosymfollow = 256;
inline constexpr uint64_t kMountNoatime = 1024;
inline constexpr uint64_t kMountNodiratime = 2048;
inline constexpr uint64_t kMountBind = 4096;
inline constexpr uint64_t kMountMove = 8192;
inline constexpr uint64_t kMountRec = 16384;
inline constexpr uint64_t kMountSilent = 32768;
inline constexpr uint64_t kMountUnbindable = 1 << 17;
inline constexpr uint64_t kMountPrivate = 1 << 18;
inline constexpr uint64_t kMountSlave = 1 << 19;
inline constexpr uint64_t kMountShared = 1 << 20;
inline constexpr uint64_t kMountRelatime = 1 << 21;
inline constexpr uint64_t kMountStrictatime = 1 << 24;
// The flags that belong to a mount rather than to a file system.
inline constexpr uint64_t kMountFlagsMask = kMountReadOnly | kMountNosuid | kMountNodev |
                                            kMountNoexec | kMountNosymfollow | kMountNoatime |
                                            kMountNodiratime | kMountRelatime | kMountStrictatime;

class DeviceRegistry;
struct PeerGroup;

class Mount;

// What is mounted on a mount, in the order in which it came, and by place: a guest can make a
// hundred thousand. One for each place: what comes to the same place goes on top of what is there.
class ChildMounts {
 public:
  using Map = std::map<uint64_t, RefPtr<Mount>>;
  bool empty() const { return in_order_.empty(); }
  const Map& in_order() const { return in_order_; }
  void Add(RefPtr<Mount> child);  // Its mountpoint is set.
  void Remove(Mount& child);
  Mount* Find(const Dentry& at) const;

 private:
  Map in_order_;
  absl::flat_hash_map<const Dentry*, Mount*> by_place_;
  uint64_t next_ = 0;
};

// A file system (or a part of it) at a place. Its position is guarded by the namespace's lock.
class Mount : public RefCounted<Mount> {
 public:
  Mount(RefPtr<FileSystem> fs, RefPtr<Dentry> root, uint64_t flags, std::string source);
  virtual ~Mount();
  FileSystem& fs() const { return *fs_; }
  const RefPtr<Dentry>& root() const { return root_; }
  uint64_t flags() const { return flags_.load(std::memory_order_relaxed); }
  bool read_only() const { return (flags() & kMountReadOnly) != 0 || fs_->read_only(); }
  int id() const { return id_; }
  const std::string& source() const { return source_; }
  // EROFS, EBUSY bookkeeping: writers between Begin and End keep remount read-only out.
  Result<void> BeginWrite();
  void EndWrite();

 private:
  friend class MountNamespace;
  friend class MountTree;
  friend class ChildMounts;
  friend struct PeerGroup;
  const RefPtr<FileSystem> fs_;
  const RefPtr<Dentry> root_;
  std::atomic<uint64_t> flags_;  // Seq-cst against writers_: see BeginWrite() and Remount.
  const std::string source_;
  const int id_;
  std::atomic<int64_t> writers_{0};
  // Guarded by the mount lock (one for all namespaces of a kernel, MountNamespace::Shared):
  Mount* parent_ = nullptr;        // The parent holds its children.
  RefPtr<Dentry> mountpoint_;      // In the parent.
  ChildMounts children_;
  uint64_t order_ = 0;             // In the parent's.
  MountNamespace* ns_ = nullptr;   // Null once detached.
  RefPtr<PeerGroup> peers_;        // Null: not shared.
  RefPtr<PeerGroup> master_;       // Null: not a slave.
  bool unbindable_ = false;
  // Linux MNT_LOCKED and MNT_LOCK_*: of a mount that a less privileged user namespace inherited.
  bool locked_ = false;          // Stays where it is: it may cover something.
  uint64_t locked_flags_ = 0;    // Those of flags_ that stay as they are.
  bool expiry_mark_ = false;
};

// The mounts that a group of tasks sees.
class MountNamespace : public RefCounted<MountNamespace> {
 public:
  // Starts with `root` mounted as "/". A kernel calls it once; other namespaces are clones.
  static RefPtr<MountNamespace> New(RefPtr<FileSystem> root, uint64_t flags, std::string source);
  virtual ~MountNamespace();
  VfsPath root() const;
  uint64_t inode_number() const { return inode_number_; }
  // The devices that nodes in this namespace and its clones lead to; set once, at boot, before
  // the first open. Null: none. The registry outlives the namespaces.
  void set_devices(DeviceRegistry* devices);
  DeviceRegistry* devices() const;

  // CLONE_NEWNS: a copy, and the places in the copy of `paths` (root, cwd).
  // `owner` is the user namespace that owns it; where that is another than this one's, the mounts
  // are locked and shared ones become slaves (mount_namespaces(7), "Restrictions on mount
  // namespaces"). Null: the initial one.
  RefPtr<MountNamespace> Clone(std::vector<VfsPath*> paths,
                               RefPtr<const auth::UserNamespace> owner = nullptr);

  // The mount on top of `at`, all the way up; `at` itself if there is none.
  VfsPath FollowMounts(VfsPath at) const;
  // The place that the root of `at.mount` covers; empty at the namespace's root.
  VfsPath MountpointOf(const Mount& mount) const;

  // mount(2) by its forms. Permission (CAP_SYS_ADMIN) was checked. Errors: as mount(2). The
  // caller's VfsPath is the only reference to a mount that Unmount() does not take for a user.
  Result<RefPtr<Mount>> Add(RefPtr<FileSystem> fs, const VfsPath& at, uint64_t flags,
                            std::string source);
  Result<void> Bind(const VfsPath& from, const VfsPath& at, bool recursive);
  Result<void> Move(const VfsPath& from, const VfsPath& to);
  // MS_REMOUNT | MS_BIND: the mount's own flags. Errors: EBUSY if made read-only under a writer.
  Result<void> RemountFlags(const VfsPath& at, uint64_t flags);
  // MS_REMOUNT: the file system's options and the mount's flags.
  Result<void> Remount(CallContext& ctx, const VfsPath& at, uint64_t flags, absl::string_view data);
  Result<void> SetPropagation(const VfsPath& at, uint64_t flags);  // MS_SHARED and so on, MS_REC.
  // umount2(2): MNT_FORCE 1, MNT_DETACH 2, MNT_EXPIRE 4. Errors: EBUSY, EINVAL, EAGAIN.
  Result<void> Unmount(const VfsPath& at, int flags);
  Result<void> PivotRoot(const VfsPath& new_root, const VfsPath& put_old, const VfsPath& old_root);

  // /proc/PID/mounts, mountinfo, mountstats as seen below `root`.
  enum class Format { kMounts, kMountinfo, kMountstats };
  std::string Show(CallContext& ctx, Format format, const VfsPath& root) const;
  // Grows with every change: poll(2) on /proc/self/mounts.
  uint64_t generation() const;
  WaitQueue& change_queue() { return change_queue_; }

  // The mounts of the namespace, by id.
  std::vector<RefPtr<Mount>> Mounts() const;
  // Whether `path` is a mount of this namespace (Linux check_mnt()).
  bool Contains(const Mount& mount) const;
  // Changes whenever any mount of the kernel is attached, moved or detached.
  uint64_t change_count() const;

  // What all namespaces of one kernel share: the mount lock, group ids, devices.
  struct Shared;

 private:
  friend class MountTree;
  MountNamespace(RefPtr<Shared> shared, RefPtr<const auth::UserNamespace> owner);
  void Changed();

  const RefPtr<Shared> shared_;
  const RefPtr<const auth::UserNamespace> owner_;  // Null: the initial one.
  RefPtr<Mount> root_;         // Guarded by the mount lock.
  uint32_t mount_count_ = 0;   // Guarded by the mount lock.
  std::atomic<uint64_t> generation_{0};
  const uint64_t inode_number_;
  WaitQueue change_queue_;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_MOUNT_H_
