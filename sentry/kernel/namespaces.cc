#include "sentry/kernel/namespaces.h"

#include <atomic>

namespace caisson::kernel {

uint64_t NextNamespaceInode() {
  static std::atomic<uint64_t> next{0xF0000000};  // A number only: relaxed is enough.
  return next.fetch_add(1, std::memory_order_relaxed);
}

UtsNamespace::UtsNamespace(std::string host, std::string domain,
                           RefPtr<auth::UserNamespace> owner, bool initial)
    : host_name_(std::move(host)),
      domain_name_(std::move(domain)),
      owner_(std::move(owner)),
      inode_number_(initial ? 0xEFFFFFFE : NextNamespaceInode()) {}

RefPtr<UtsNamespace> UtsNamespace::Clone(RefPtr<auth::UserNamespace> owner) const {
  return MakeRef<UtsNamespace>(host_name(), domain_name(), std::move(owner));
}

std::string UtsNamespace::host_name() const {
  MutexLock lock(mu_);
  return host_name_;
}
std::string UtsNamespace::domain_name() const {
  MutexLock lock(mu_);
  return domain_name_;
}
void UtsNamespace::set_host_name(std::string name) {
  MutexLock lock(mu_);
  host_name_ = std::move(name);
}
void UtsNamespace::set_domain_name(std::string name) {
  MutexLock lock(mu_);
  domain_name_ = std::move(name);
}

}  // namespace caisson::kernel
