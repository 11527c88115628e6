// UTS, IPC, network, cgroup and time namespaces (namespaces(7)).
#ifndef CAISSON_SENTRY_KERNEL_NAMESPACES_H_
#define CAISSON_SENTRY_KERNEL_NAMESPACES_H_

#include <cstdint>
#include <string>

#include "auth/user_namespace.h"
#include "base/mutex.h"
#include "base/ref.h"

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

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_NAMESPACES_H_
