// Signal dispositions, shared by the tasks of a thread group (CLONE_SIGHAND).
#ifndef CAISSON_SENTRY_KERNEL_SIGNAL_ACTIONS_H_
#define CAISSON_SENTRY_KERNEL_SIGNAL_ACTIONS_H_

#include <array>

#include "base/mutex.h"
#include "base/ref.h"
#include "sentry/signal/signal.h"

namespace caisson::kernel {

// Thread-safe; its lock is innermost.
class SignalActions : public RefCounted<SignalActions> {
 public:
  SignalActions() = default;
  RefPtr<SignalActions> Clone() const {
    auto copy = MakeRef<SignalActions>();
    MutexLock lock(mu_);
    MutexLock copy_lock(copy->mu_);
    copy->actions_ = actions_;
    return copy;
  }
  signal::Action Get(int signo) const {
    MutexLock lock(mu_);
    return actions_[signo - 1];
  }
  signal::Action Set(int signo, const signal::Action& action) {
    MutexLock lock(mu_);
    return std::exchange(actions_[signo - 1], action);
  }
  // exec: handlers become default, ignored stays ignored (signal(7)); CLONE_CLEAR_SIGHAND.
  void ResetHandlers() {
    MutexLock lock(mu_);
    for (signal::Action& a : actions_)
      a = signal::Action{.handler = a.handler == signal::kHandlerIgnore ? signal::kHandlerIgnore
                                                                      : signal::kHandlerDefault};
  }
  void ResetAll() {
    MutexLock lock(mu_);
    actions_ = {};
  }
  bool IsIgnored(int signo) const {
    signal::Action a = Get(signo);
    return a.handler == signal::kHandlerIgnore ||
           (a.handler == signal::kHandlerDefault &&
            signal::DefaultOf(signo) == signal::DefaultAction::kIgnore);
  }

 private:
  mutable Mutex mu_;
  std::array<signal::Action, signal::kSignalCount> actions_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_SIGNAL_ACTIONS_H_
