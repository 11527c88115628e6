// seccomp(2): the filters of tasks (Linux kernel/seccomp.c). The chains themselves: seccomp.h.
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace caisson::kernel {
namespace {

constexpr int kModeStrict = 1, kModeFilter = 2;

bool IsAncestor(const SeccompFilter* theirs, const SeccompFilter* ours) {
  for (const SeccompFilter* f = ours; f != nullptr; f = f->previous().get())
    if (f == theirs) return true;
  return theirs == nullptr;
}

}  // namespace

const SeccompFilter* Task::seccomp_filter() {
  // Acquire: pairs with the release in AddSeccompFilter(), after the filter was stored.
  if (seccomp_changed_.load(std::memory_order_acquire)) {
    RefPtr<SeccompFilter> now;
    {
      MutexLock lock(seccomp_mu_);
      seccomp_changed_.store(false, std::memory_order_relaxed);
      now = seccomp_;
    }
    seccomp_in_use_ = std::move(now);
  }
  return seccomp_in_use_.get();
}

RefPtr<SeccompFilter> Task::seccomp_ref() const {
  MutexLock lock(seccomp_mu_);
  return seccomp_;
}

void Task::SetInitialSeccomp(RefPtr<SeccompFilter> filter, int mode) {
  MutexLock lock(seccomp_mu_);
  seccomp_ = std::move(filter);
  seccomp_mode_.store(mode, std::memory_order_relaxed);
  seccomp_changed_.store(true, std::memory_order_release);
}

Result<void> Task::SetSeccompStrict() {
  MutexLock lock(seccomp_mu_);
  if (seccomp_mode_.load(std::memory_order_relaxed) == kModeFilter) return Errno::kEINVAL;
  seccomp_mode_.store(kModeStrict, std::memory_order_seq_cst);
  StopAnswers();
  return {};
}

// Under the tasks lock from the look at the own filter to its replacement: another thread's TSYNC,
// or a clone(2) that copies the filter, comes before or after, never between.
SyscallResult Task::AddSeccompFilter(std::vector<bpf::Instruction> program, bool log, bool sync) {
  for (;;) {
    RefPtr<SeccompFilter> previous = seccomp_ref();
    RefPtr<SeccompFilter> filter = TRY(SeccompFilter::New(program, previous, log));
    std::vector<RefPtr<SeccompFilter>> old;  // Let go of after the locks.
    MutexLock lock(kernel_.tasks_mu());
    if (seccomp_ref() != previous) continue;  // A sibling's TSYNC came between.
    if (seccomp_mode() == kModeStrict) return Errno::kEINVAL;
    if (sync) {
      // A sibling may follow if its chain is an ancestor of ours (seccomp_can_sync_threads()).
      for (const RefPtr<Task>& t : group_->tasks) {
        if (t.get() == this || t->exited_) continue;
        RefPtr<SeccompFilter> theirs = t->seccomp_ref();
        bool follows = t->seccomp_mode() != kModeStrict && IsAncestor(theirs.get(), previous.get());
        old.push_back(std::move(theirs));
        if (!follows) return t->pid_ref()->NumberIn(pid_namespace());
      }
    }
    for (const RefPtr<Task>& t : group_->tasks) {
      if (t->exited_ || (t.get() != this && !sync)) continue;
      MutexLock update_lock(t->seccomp_mu_);
      old.push_back(std::move(t->seccomp_));
      t->seccomp_ = filter;
      t->seccomp_mode_.store(kModeFilter, std::memory_order_seq_cst);
      t->seccomp_changed_.store(true, std::memory_order_release);
      t->StopAnswers();
      if (no_new_privs.load(std::memory_order_relaxed)) t->no_new_privs.store(true, std::memory_order_relaxed);
    }
    return 0;
  }
}

}  // namespace caisson::kernel
