// UTS, IPC, network, cgroup and time namespaces (namespaces(7)).
#ifndef CAISSON_SENTRY_KERNEL_NAMESPACES_H_
#define CAISSON_SENTRY_KERNEL_NAMESPACES_H_

#include <cstdint>
#include <string>
#include <utility>

#include "auth/user_namespace.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "sentry/vdso/vdso.h"

namespace caisson::kernel {

// Inode numbers as /proc/PID/ns shows them, from Linux's PROC_DYNAMIC_FIRST up.
uint64_t NextNamespaceInode();

// uname(2)'s changeable names. Thread-safe.
class UtsNamespace : public RefCounted<UtsNamespace> {
 public:
  UtsNamespace(std::string host, std::string domain, RefPtr<auth::UserNamespace> owner,
               bool initial = false);
  RefPtr<UtsNamespace> Clone(RefPtr<auth::UserNamespace> owner) const;
  std::string host_name() const;
  std::string domain_name() const;
  void set_host_name(std::string name);
  void set_domain_name(std::string name);
  const auth::UserNamespace& user_ns() const { return *owner_; }
  uint64_t inode_number() const { return inode_number_; }

 private:
  mutable Mutex mu_;
  std::string host_name_ ABSL_GUARDED_BY(mu_);
  std::string domain_name_ ABSL_GUARDED_BY(mu_);
  const RefPtr<auth::UserNamespace> owner_;
  const uint64_t inode_number_;
};

// A cgroup namespace. There is one group in a sandbox, the container's, and it is the root of every
// namespace; what differs is who owns it.
class CgroupNamespace : public RefCounted<CgroupNamespace> {
 public:
  explicit CgroupNamespace(RefPtr<auth::UserNamespace> owner, bool initial = false)
      : owner_(std::move(owner)), inode_number_(initial ? 0xEFFFFFFB : NextNamespaceInode()) {}
  const auth::UserNamespace& user_ns() const { return *owner_; }
  uint64_t inode_number() const { return inode_number_; }

 private:
  const RefPtr<auth::UserNamespace> owner_;
  const uint64_t inode_number_;
};

struct TimeOffsets {
  int64_t monotonic = 0, boottime = 0;  // ns.
};

// A time namespace (time_namespaces(7)): what is added to the clocks that count from the boot.
// Thread-safe. Offsets change until the first process is in it.
class TimeNamespace : public RefCounted<TimeNamespace> {
 public:
  using Offsets = TimeOffsets;
  explicit TimeNamespace(RefPtr<auth::UserNamespace> owner, Offsets offsets = {}, bool initial = false)
      : owner_(std::move(owner)), inode_number_(initial ? 0xEFFFFFFA : NextNamespaceInode()),
        frozen_(initial), offsets_(offsets) {}
  const auth::UserNamespace& user_ns() const { return *owner_; }
  uint64_t inode_number() const { return inode_number_; }
  Offsets offsets() const {
    MutexLock lock(mu_);
    return offsets_;
  }
  // What programs in it have mapped. A process is in it. Errors: ENOMEM, EMFILE.
  Result<vdso::Files> Vdso(const vdso::Vdso& vdso) {
    MutexLock lock(mu_);
    if (!vdso_.image) vdso_ = TRY(vdso.ForOffsets(offsets_.monotonic, offsets_.boottime));
    return vdso_;
  }
  // Errors: EACCES once a process is in it.
  Result<void> SetOffsets(const Offsets& offsets) {
    MutexLock lock(mu_);
    if (frozen_) return Errno::kEACCES;
    offsets_ = offsets;
    return {};
  }
  void Freeze() {
    MutexLock lock(mu_);
    frozen_ = true;
  }

 private:
  const RefPtr<auth::UserNamespace> owner_;
  const uint64_t inode_number_;
  mutable Mutex mu_;
  bool frozen_ ABSL_GUARDED_BY(mu_);
  Offsets offsets_ ABSL_GUARDED_BY(mu_);
  vdso::Files vdso_ ABSL_GUARDED_BY(mu_);  // Made when first needed.
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_NAMESPACES_H_
