#include "sentry/kernel/pid.h"

#include <atomic>

#include "sentry/kernel/namespaces.h"

namespace caisson::kernel {

// Numbers are handed out upwards and wrap to this one, as Linux's RESERVED_PIDS.
constexpr int32_t kReservedPids = 300;

PidNamespace::PidNamespace(RefPtr<PidNamespace> parent, RefPtr<auth::UserNamespace> owner)
    : parent_(std::move(parent)),
      owner_(std::move(owner)),
      level_(parent_ ? parent_->level() + 1 : 0),
      inode_number_(parent_ ? NextNamespaceInode() : 0xEFFFFFFC) {}

bool PidNamespace::IsWithin(const PidNamespace& other) const {
  for (const PidNamespace* ns = this; ns != nullptr; ns = ns->parent().get())
    if (ns == &other) return true;
  return false;
}

RefPtr<Pid> PidNamespace::Find(int32_t number) const {
  MutexLock lock(mu_);
  auto it = pids_.find(number);
  if (it == pids_.end() || !it->second->TryIncRef()) return nullptr;
  return RefPtr<Pid>::Adopt(it->second);
}

std::vector<RefPtr<Pid>> PidNamespace::All() const {
  MutexLock lock(mu_);
  std::vector<RefPtr<Pid>> all;
  all.reserve(pids_.size());
  for (const auto& [number, pid] : pids_)
    if (pid->TryIncRef()) all.push_back(RefPtr<Pid>::Adopt(pid));
  return all;
}

int32_t PidNamespace::last() const {
  MutexLock lock(mu_);
  return last_;
}

Result<RefPtr<Pid>> Pid::New(RefPtr<PidNamespace> ns, const std::vector<int32_t>& wanted) {
  RefPtr<Pid> pid = RefPtr<Pid>::Adopt(new Pid(ns));
  std::vector<PidNamespace*> chain;
  for (PidNamespace* n = ns.get(); n != nullptr; n = n->parent().get()) chain.push_back(n);
  pid->numbers_.assign(chain.size(), 0);
  for (size_t depth = 0; depth < chain.size(); ++depth) {
    PidNamespace& n = *chain[depth];
    MutexLock lock(n.mu_);
    int32_t number = 0;
    if (depth < wanted.size()) {
      number = wanted[depth];
      if (n.pids_.contains(number)) return Errno::kEEXIST;
    } else {
      if (n.pids_.size() >= static_cast<size_t>(kPidMax) - kReservedPids) return Errno::kEAGAIN;
      number = n.last_;
      do {
        if (++number >= kPidMax) number = kReservedPids;
      } while (n.pids_.contains(number));
      n.last_ = number;
    }
    n.pids_[number] = pid.get();
    pid->numbers_[chain.size() - 1 - depth] = number;
  }
  return pid;
}

Pid::~Pid() {
  for (PidNamespace* n = ns_.get(); n != nullptr; n = n->parent().get()) {
    int32_t number = numbers_[n->level()];
    MutexLock lock(n->mu_);
    auto it = n->pids_.find(number);
    if (it != n->pids_.end() && it->second == this) n->pids_.erase(it);
  }
}

int32_t Pid::NumberIn(const PidNamespace& ns) const {
  if (ns.level() >= static_cast<int>(numbers_.size())) return 0;
  // The namespace at that level of our own chain must be this one.
  const PidNamespace* n = ns_.get();
  while (n->level() > ns.level()) n = n->parent().get();
  return n == &ns ? numbers_[ns.level()] : 0;
}

}  // namespace caisson::kernel
