// The devpts file system: pseudo terminals by name.
#ifndef CAISSON_VFS_TTY_DEVPTS_H_
#define CAISSON_VFS_TTY_DEVPTS_H_

#include <atomic>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "vfs/inode.h"
#include "vfs/tty/tty.h"

namespace caisson::vfs::tty {

// One instance: /dev/pts with "ptmx" and a node for each terminal. Thread-safe.
class DevptsFileSystem final : public FileSystem {
 public:
  struct Options {
    std::optional<uint32_t> uid, gid;  // Kernel ids; unset: the opener's.
    FileMode mode = 0600;
    FileMode ptmx_mode = 0;
    uint32_t max = 4096;
  };
  // "newinstance,ptmxmode=0666,mode=0620,gid=5", as mount(2) and config.json give them; ids are
  // those of `ns`. Errors: EINVAL.
  static Result<Options> ParseOptions(absl::string_view text, const auth::UserNamespace& ns);

  // `jobs` outlives the file system.
  DevptsFileSystem(JobControl& jobs, const Options& options);
  ~DevptsFileSystem() override;

  RefPtr<Inode> root() override;
  Result<FsStatistics> Statistics(CallContext& ctx) override;
  std::string MountOptions() const override;
  Result<void> Remount(CallContext& ctx, uint64_t flags, absl::string_view data) override;

  // open(2) of "ptmx" here, or of the device 5:2 anywhere: a new terminal. Errors: ENOSPC.
  Result<RefPtr<FileDescription>> OpenMaster(CallContext& ctx, const OpenArgs& args, Inode& inode);
  // A new terminal whose master is not a file (HostTerminal); unlocked. Errors: ENOSPC. Remove()
  // ends it.
  Result<RefPtr<Tty>> NewTerminal(uint32_t uid, uint32_t gid);
  // The node of a terminal; null if it is gone.
  RefPtr<Inode> SlaveInode(uint32_t index);
  void Remove(uint32_t index);
  JobControl& jobs() { return jobs_; }

 private:
  friend class DevptsRoot;
  friend class DevptsDirectoryFile;
  Options options() const;
  RefPtr<Inode> Find(absl::string_view name);

  JobControl& jobs_;
  mutable Mutex mu_;
  Options options_ ABSL_GUARDED_BY(mu_);
  // Nodes hold the file system; OnLastUnmount() and Remove() end the cycle.
  std::map<uint32_t, RefPtr<Inode>> slaves_ ABSL_GUARDED_BY(mu_);
  std::atomic<uint64_t> generation_{1};  // Of names; changed under mu_.
};

}  // namespace caisson::vfs::tty

#endif  // CAISSON_VFS_TTY_DEVPTS_H_
