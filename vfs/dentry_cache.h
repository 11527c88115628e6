// Keeps recently used dentries of one file system alive.
#ifndef CAISSON_VFS_DENTRY_CACHE_H_
#define CAISSON_VFS_DENTRY_CACHE_H_

#include <cstddef>
#include <vector>

#include "base/mutex.h"
#include "base/ref.h"
#include "vfs/dentry.h"

namespace caisson::vfs {

// A clock ("second chance") over a bounded array of references. Thread-safe; its lock is innermost,
// and what it drops is dropped after it is released.
class DentryCache {
 public:
  static constexpr size_t kCapacity = 16384;

  // Keeps `dentry`, perhaps in place of one that was not used for long.
  void Insert(RefPtr<Dentry> dentry);
  void Remove(Dentry& dentry);
  void Clear();
  // While not enabled Insert() does nothing (no mount uses the file system).
  void set_enabled(bool enabled);

 private:
  static constexpr size_t kNoSlot = ~size_t{0};
  Mutex mu_;
  bool enabled_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<RefPtr<Dentry>> slots_ ABSL_GUARDED_BY(mu_);
  size_t hand_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_DENTRY_CACHE_H_
