// What terminals ask of sessions and process groups.
#ifndef CAISSON_SENTRY_KERNEL_JOB_CONTROL_H_
#define CAISSON_SENTRY_KERNEL_JOB_CONTROL_H_

#include "sentry/kernel/pid.h"
#include "vfs/tty/job_control.h"

namespace caisson::kernel {

class Kernel;

// Thread-safe; takes the tasks lock. Ids are global pids.
class KernelJobControl final : public vfs::tty::JobControl {
 public:
  explicit KernelJobControl(Kernel& kernel) : kernel_(kernel) {}
  Caller CallerOf(vfs::CallContext& ctx) override;
  RefPtr<vfs::tty::Tty> ControllingTty(vfs::CallContext& ctx) override;
  void SetControllingTty(vfs::CallContext& ctx, RefPtr<vfs::tty::Tty> tty) override;
  void DropControllingTty(vfs::CallContext& ctx) override;
  void ClearSessionTty(int32_t session, vfs::tty::Tty& tty) override;
  bool CallerOrphaned(vfs::CallContext& ctx) override;
  bool CallerIgnores(vfs::CallContext& ctx, int signo) override;
  bool GroupInSession(int32_t group, int32_t session) override;
  bool GroupExists(int32_t group) override;
  void SignalGroup(int32_t session, int32_t group, int signo) override;
  void SignalSessionLeader(int32_t session, int signo) override;
  int32_t ToCaller(vfs::CallContext& ctx, int32_t id) override;
  vfs::ProcessId FromCaller(vfs::CallContext& ctx, int32_t id) override;

 private:
  Kernel& kernel_;  // Owns this.
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_JOB_CONTROL_H_
