// tmpfs: files in the sentry's memory (tmpfs(5)).
#ifndef CAISSON_VFS_TMPFS_FILESYSTEM_H_
#define CAISSON_VFS_TMPFS_FILESYSTEM_H_

#include <atomic>
#include <string>

#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "vfs/inode.h"
#include "vfs/tmpfs/memory_account.h"

namespace caisson::vfs::tmpfs {

struct Options {
  uint64_t max_pages = 0;   // Of 4096 bytes; 0: no limit.
  uint64_t max_inodes = 0;  // 0: no limit.
  FileMode mode = 01777;    // Of the root.
  uint32_t uid = 0;
  uint32_t gid = 0;
  // What /proc/mounts shows: options that were given.
  bool show_size = false, show_inodes = false;
};

// Thread-safe.
class TmpfsFileSystem final : public FileSystem {
 public:
  // `data` is mount(2)'s: size=, nr_blocks=, nr_inodes=, mode=, uid=, gid=, huge= and others that
  // have no effect. `defaults` is what holds where it says nothing; percentages of size= are of
  // `memory_bytes`. Without `account` the files are limited by the options alone. Errors: EINVAL.
  static Result<RefPtr<TmpfsFileSystem>> New(absl::string_view data, const Options& defaults = {},
                                             uint64_t memory_bytes = uint64_t{4} << 30,
                                             absl::string_view type_name = "tmpfs",
                                             RefPtr<MemoryAccount> account = nullptr);
  ~TmpfsFileSystem() override;

  RefPtr<Inode> root() override;
  Result<FsStatistics> Statistics(CallContext& ctx) override;
  std::string MountOptions() const override;
  Result<void> Remount(CallContext& ctx, uint64_t flags, absl::string_view data) override;

  // --- For the nodes. ---
  // Charges pages here and to the account; false past one of the limits.
  bool ChargePages(uint64_t pages);
  void UnchargePages(uint64_t pages);
  uint64_t AvailablePages() const;  // Huge if there is no limit.
  // For `pages` that are charged (MemoryAccount::HasRoom()).
  bool HasRoom(uint64_t pages) const;
  bool ChargeInode();
  void UnchargeInode();
  uint64_t NextInodeNumber() { return next_ino_.fetch_add(1, std::memory_order_relaxed); }

 protected:
  void OnLastUnmount() override;

 private:
  TmpfsFileSystem(absl::string_view type_name, const Options& options, uint64_t memory_bytes,
                  RefPtr<MemoryAccount> account);
  static Result<Options> Parse(absl::string_view data, const Options& defaults,
                               uint64_t memory_bytes);

  const uint64_t memory_bytes_;
  const RefPtr<MemoryAccount> account_;  // May be null.
  // Relaxed counts: a limit may be missed by what races with a remount, never by a charge.
  std::atomic<uint64_t> max_pages_, max_inodes_;
  std::atomic<uint64_t> used_pages_{0}, used_inodes_{0};
  std::atomic<uint64_t> next_ino_{1};
  mutable Mutex mu_;
  Options options_ ABSL_GUARDED_BY(mu_);
  RefPtr<Inode> root_ ABSL_GUARDED_BY(mu_);  // Holds us: let go in OnLastUnmount().
};

}  // namespace caisson::vfs::tmpfs

#endif  // CAISSON_VFS_TMPFS_FILESYSTEM_H_
