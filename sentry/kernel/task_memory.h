// Guest memory as the system call of a task sees it.
#ifndef CAISSON_SENTRY_KERNEL_TASK_MEMORY_H_
#define CAISSON_SENTRY_KERNEL_TASK_MEMORY_H_

#include <string>

#include "sentry/mm/memory_manager.h"

namespace caisson::kernel {

class Task;

// The task's mm, behind what the platform moves along with its hand-offs: arguments that came with
// the call, and results that the guest's thread stores itself before it goes on. Both save a call of
// the host. Of the task's own thread, during a call.
class TaskMemory final : public mm::GuestMemory {
 public:
  explicit TaskMemory(Task& task) : task_(task) {}

  // At the start of a call. What it stores may wait for its end only if nothing that it does
  // depends on the guest's memory having changed already (MayDefer()).
  void BeginCall(int number) {
    may_defer_ = MayDefer(number);
    came_along_ = true;
    deferred_ = false;  // The platform has stored all before guest code made this call.
  }
  // Results may still wait; what follows (a signal frame) is stored behind them.
  void EndCall() { may_defer_ = came_along_ = false; }
  // Before the call blocks, when others may look at memory or change it: results that wait are
  // stored, and arguments are read anew.
  void Settle() {
    Flush();
    came_along_ = false;
  }

  Result<void> CopyIn(GuestAddr from, absl::Span<char> to) override;
  Result<void> CopyOut(GuestAddr to, absl::Span<const char> from) override;
  size_t CopyInPartial(GuestAddr from, absl::Span<char> to) override;
  size_t CopyOutPartial(GuestAddr to, absl::Span<const char> from) override;
  size_t CopyOutByHost(GuestAddr to, absl::Span<const char> from) override;
  Result<std::string> CopyInString(GuestAddr from, size_t max) override;

  static bool MayDefer(int number);

 private:
  bool Defer(GuestAddr to, absl::Span<const char> from);
  bool CameAlong(GuestAddr from, absl::Span<char> to);
  void Flush() {
    if (deferred_) FlushDeferred();
  }
  void FlushDeferred();

  Task& task_;
  bool may_defer_ = false;
  bool came_along_ = false;  // What came with the call is still good.
  bool deferred_ = false;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_TASK_MEMORY_H_
